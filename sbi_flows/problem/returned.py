"""What a simulator is given, and what it returns: names of parameters to values, and arrays of n events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sbi_flows.errors import SimulatorContractError, UnknownParameterError
from sbi_flows.problem.data import Kind, Shape
from sbi_flows.problem.events import Events


class NamedValues(dict[str, Any]):
    """theta as a simulator is given it: a dict that lists its names where it is asked for another one."""

    def __missing__(self, name: object) -> Any:
        raise UnknownParameterError(f"no parameter {name!r}; there are {', '.join(self)}")


class _Made(Protocol):
    """A simulator, of which it is known what one y is made of."""

    @property
    def events(self) -> Events: ...


class OfMapping:
    """A user's function of one y that is a mapping, called with y as it travels: its argument number
    `place`.
    """

    def __init__(self, function: Callable[..., Any], simulator: _Made, place: int) -> None:
        self.function, self._simulator, self._place = function, simulator, place

    def __call__(self, *arguments: Any) -> Any:
        given = list(arguments)
        given[self._place] = self._simulator.events.unpack(np.asarray(given[self._place]))
        return self.function(*given)


def ordered(y: Any, kinds: Mapping[str, Kind], who: str) -> Any:
    """Data frames with their columns in the order of the declared names. Raises `SimulatorContractError`."""
    if isinstance(y, Mapping):
        return {
            name: ordered(part, {"": kinds[name]} if name in kinds else {}, who) for name, part in y.items()
        }
    names = kinds[""].names if "" in kinds else None
    if names is None or not hasattr(y, "columns"):
        return y
    columns = [str(column) for column in y.columns]
    if sorted(columns) != sorted(names):
        raise SimulatorContractError(
            f"{who}: returned a data frame with the columns {', '.join(columns)}; declared are "
            f"{', '.join(names)}. Return those."
        )
    return y.set_axis(columns, axis=1)[list(names)]


def as_floats(y: Any, n: int, who: str, event: Shape | None, *, may_end: bool = False) -> NDArray[Any]:
    """One array of n events, float32 or float64. event: the shape of one, if it is known. may_end: whether it
    may be shorter, and is filled up with NaN. Masked entries become NaN. Raises `SimulatorContractError`.
    """
    if isinstance(y, np.ma.MaskedArray):
        y = np.ma.filled(y.astype(np.float64), np.nan)
    y = np.asarray(y)
    if may_end and event is not None and y.ndim == 1 + len(event) and y.dtype.kind in "biuf":
        y = _filled_up(y, event)
    wrong = ""
    if y.dtype.kind not in "biuf":
        wrong = f"dtype {y.dtype}; wanted numbers (float, int or bool) of shape ({n}, *event)."
    elif y.ndim == 0 or y.shape[0] != n:
        wanted = f"({n}, {', '.join(map(str, event))})" if event else f"({n}, *event)"
        wrong = (
            f"shape {y.shape} for {n} rows of theta; wanted {wanted}. A simulator that handles one draw "
            "at a time is declared with vectorized=False."
        )
    elif 0 in y.shape[1:]:
        wrong = f"shape {y.shape}, which holds no numbers. Return at least one number per draw."
    elif event is not None and y.shape[1:] != event:
        wrong = (
            f"events of shape {y.shape[1:]}; declared, or returned before, was {event}. Return one fixed "
            "shape (pad if the length varies)."
        )
        if y.shape[1:] == (n,) or event == (n,):
            wrong += " Look for a sum of arrays of shapes (n,) and (n, 1)."
    if wrong:
        raise SimulatorContractError(f"{who}{wrong}")
    return np.array(y, dtype=np.float32 if y.dtype.kind == "f" and y.dtype.itemsize <= 4 else np.float64)


def _filled_up(y: NDArray[Any], event: Shape) -> NDArray[Any]:
    """Events that end early, with NaN up to the shape of an event."""
    if (
        y.shape[1:] == event
        or any(a > b for a, b in zip(y.shape[1:], event, strict=True))
        or 0 in y.shape[1:]
    ):
        return y
    whole = np.full((len(y), *event), np.nan)
    whole[tuple(slice(0, length) for length in y.shape)] = y
    return whole


def alone(y: Any) -> Any:
    """What was returned for one draw, with an axis for it in front."""
    if isinstance(y, Mapping):
        return {name: alone(part) for name, part in y.items()}
    return y[None] if isinstance(y, np.ma.MaskedArray) else np.asarray(y)[None]
