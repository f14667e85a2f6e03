"""What a user passes, converted and checked once: arrays become float64, numbers Python's own."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sbi_flows.errors import ObservationError, SettingsError, ShapeError

F = NDArray[np.float64]

Made = TypeVar("Made", bound=Callable[..., Any])

_ROUNDING = 1e-12


def integer(name: str, value: object, least: int = 1, most: int | None = None) -> int:
    """`value` as an int from `least` to `most`. Raises `SettingsError`."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        found = int(value)
        if found >= least and (most is None or found <= most):
            return found
    wanted = f"an integer of at least {least}" if most is None else f"an integer from {least} to {most:,}"
    wanted = "a positive integer" if (least, most) == (1, None) else wanted
    raise SettingsError(f"{name} must be {wanted}, got {value!r}.")


def is_real(value: object) -> TypeGuard[float]:
    """Whether `value` is one real number: an int or float of Python or NumPy, and not a bool."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def real(name: str, value: object, *, positive: bool = False, most: float = math.inf) -> float:
    """`value` as a finite float from 0 to `most`, 0 excluded if positive. Raises `SettingsError`."""
    number = float(value) if is_real(value) else math.nan
    if 0 <= number <= most and number < math.inf and not (positive and number == 0):
        return number
    limit = f" and at most {most:g}" if most < math.inf else ""
    wanted = f"a number {'above' if positive else 'of at least'} 0{limit}"
    wanted = "a positive number" if positive and not limit else wanted
    raise SettingsError(f"{name} must be {wanted}, got {value!r}.")


def renamed(**names: str) -> Callable[[Made], Made]:
    """Decorator of a function or class, with arguments old="new": the old keyword is refused, and the message
    gives the new one. Raises `SettingsError`.
    """

    def refusing(takes: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(takes)
        def checked(*args: Any, **given: Any) -> Any:
            for old in names.keys() & given.keys():
                raise SettingsError(f"{old} is now called {names[old]}: pass {names[old]}={given[old]!r}.")
            return takes(*args, **given)

        return checked

    def decorate(made: Made) -> Made:
        if not isinstance(made, type):
            return cast(Made, refusing(made))
        type.__setattr__(made, "__init__", refusing(vars(made)["__init__"]))
        return made

    return decorate


def numbers(given: Any, name: str, wanted: str) -> F:
    """Lists, NumPy arrays, pandas and torch objects as float64; NaN where an entry is masked, None or NA.

    name, wanted: what is converted, and what it should be, for the message.

    Raises `ObservationError` for values that are not real numbers.
    """
    if isinstance(given, np.ma.MaskedArray):
        given = np.ma.filled(given.astype(np.float64), np.nan)
    if hasattr(given, "detach"):
        given = given.detach().cpu().double().numpy()
    try:
        values = np.asarray(given)
        if values.dtype == np.object_ and hasattr(given, "to_numpy"):
            values = given.to_numpy(dtype=np.float64, na_value=np.nan)
        if values.dtype.kind == "c":
            raise TypeError("complex values")
        if values.dtype.kind in "mM":
            raise TypeError("dates or times: pass numbers in a unit of your choice")
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ObservationError(f"{name} must be numbers, {wanted} ({error}).") from error


def rows_of(given: ArrayLike, event_shape: tuple[int, ...], name: str = "x") -> F:
    """One event or a stack of n events as rows (n, prod(event_shape)).

    Raises `ShapeError`, and `ObservationError` for values that are not finite numbers.
    """
    wanted = f"one event of shape {event_shape} or a stack (n, *{event_shape})"
    values = numbers(given, name, wanted)
    if values.shape != event_shape and values.shape[1:] != event_shape:
        raise ShapeError(f"{name} must be {wanted}, got {values.shape}.")
    rows = values.reshape(-1, int(np.prod(event_shape)))
    if not len(rows):
        raise ShapeError(f"{name} has no rows, got {values.shape}. Pass at least one event.")
    if not np.isfinite(rows).all():
        row, element = (int(i) for i in np.argwhere(~np.isfinite(rows))[0])
        raise ObservationError(
            f"{name} must be finite, got {rows[row, element]} in row {row}, element {element}. Remove or "
            f"fill in such rows."
        )
    return rows


def spread(x: F) -> F:
    """The standard deviation of each column of x (n, m), inf where it overflows float64, and 0 where it is
    below 1e-12 max |x|.

    Smaller differences are rounding: the computed mean of equal numbers that are not exact in binary, such as
    0.1, need not equal that number.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sd = x.std(axis=0)
    sd = np.where(np.isnan(sd), np.inf, sd)
    return np.where(sd > _ROUNDING * np.abs(x).max(axis=0), sd, 0.0)
