"""What a user passes, taken in once: arrays as float64, numbers as Python's own. What cannot be used is
refused in words.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sbi_flows.errors import ObservationError, SettingsError, ShapeError

F = NDArray[np.float64]

Made = TypeVar("Made", bound=Callable[..., Any])

_ROUNDING = 1e-12


def integer(name: str, value: object, least: int = 1, most: int | None = None) -> int:
    """`value` as an int from `least` to `most`. Raises `SettingsError`."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):  # type: ignore[operator]
        wanted = f"an integer of at least {least}" if most is None else f"an integer from {least} to {most:,}"
        raise SettingsError(
            f"{name} must be {'a positive integer' if (least, most) == (1, None) else wanted}, got {value!r}."
        )
    return int(value)  # type: ignore[call-overload, no-any-return]


def is_real(value: object) -> bool:
    """Whether `value` is one real number: an int or float of Python or NumPy, and not a bool."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def real(name: str, value: object, *, positive: bool = False, most: float = math.inf) -> float:
    """`value` as a finite float, at least 0 or above it, and at most `most`. Raises `SettingsError`."""
    number = float(value) if is_real(value) else math.nan  # type: ignore[arg-type]
    if not (0 <= number <= most and number < math.inf) or (positive and number == 0):
        if positive and most == math.inf:
            wanted = "a positive number"
        else:
            wanted = (
                f"a number {'above' if positive else 'of at least'} "
                f"0{f' and at most {most:g}' if most < math.inf else ''}"
            )
        raise SettingsError(f"{name} must be {wanted}, got {value!r}.")
    return number


def renamed(**names: str) -> Callable[[Made], Made]:
    """Decorator of a function or class: an argument with an old name, old="new", is refused with the new one.
    Raises `SettingsError`.
    """

    def decorate(made: Made) -> Made:
        takes: Any = made.__init__ if isinstance(made, type) else made  # type: ignore[misc]

        @functools.wraps(takes)
        def checked(*args: Any, **given: Any) -> Any:
            for old in names.keys() & given.keys():
                raise SettingsError(f"{old} is now called {names[old]}: pass {names[old]}={given[old]!r}.")
            return takes(*args, **given)

        if isinstance(made, type):
            made.__init__ = checked  # type: ignore[misc]
            return made
        return checked  # type: ignore[return-value]

    return decorate


def numbers(given: Any, name: str, wanted: str) -> F:
    """Lists, NumPy, pandas and torch objects as float64. Raises `ObservationError` for what is not real
    numbers, or is masked.

    name, wanted: what is converted, and what it should be, for the message.
    """
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise ObservationError(
            f"{name} must not be masked; {np.ma.count_masked(given)} values are. Leave them out or fill "
            f"them in."
        )
    if hasattr(given, "detach"):
        given = given.detach().cpu().double().numpy()
    try:
        values = np.asarray(given)
        if values.dtype.kind in "cmM":
            raise TypeError(
                "complex values"
                if values.dtype.kind == "c"
                else "dates or times: pass numbers in a unit of your choice"
            )
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ObservationError(f"{name} must be numbers, {wanted} ({error}).") from error


def rows_of(given: ArrayLike, event_shape: tuple[int, ...], name: str = "x") -> F:
    """One event or a stack of them as rows (n, elements of an event). Raises `ShapeError`,
    `ObservationError`.
    """
    values = numbers(given, name, f"one event of shape {event_shape} or a stack of them")
    if values.shape != event_shape and values.shape[1:] != event_shape:
        raise ShapeError(
            f"{name} must be one event of shape {event_shape} or a stack (n, *{event_shape}), got "
            f"{values.shape}."
        )
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
    """The standard deviation of each column of x (n, m), inf where it is beyond float64, and 0 where it is
    below 1e-12 max |x|.

    Below that, differences are the rounding of float64: the computed mean of equal numbers that are not exact
    in binary, such as 0.1, is not always that number.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sd = x.std(axis=0)
    sd = np.where(np.isnan(sd), np.inf, sd)
    return np.where(sd > _ROUNDING * np.abs(x).max(axis=0), sd, 0.0)
