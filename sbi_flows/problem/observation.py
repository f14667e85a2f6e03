"""An observation, or a stack of them, as the user passes it: float64 of the shape of an event."""

from __future__ import annotations

from typing import Any

import numpy as np

from sbi_flows.arrays import F, numbers
from sbi_flows.errors import ObservationError, ShapeError


def as_observation(y: Any, event_shape: tuple[int, ...], *, stack: bool = False) -> F:
    """Observed data as float64 of shape event_shape; with `stack`, (m, *event_shape) is accepted too.

    Lists, NumPy, pandas and torch objects are converted. Raises `ShapeError` and `ObservationError`.
    """
    values = np.array(numbers(y, "the observed data", f"an array of shape {event_shape}"))
    stacked = stack and len(values.shape) and values.shape[1:] == event_shape and len(values) > 0
    if not stacked and len(event_shape) == 1 and values.shape == (*event_shape, 1):
        values = values[:, 0]
    if not stacked and values.shape != event_shape:
        also = f", or a stack of shape (m, {', '.join(map(str, event_shape))})" if stack else ""
        raise ShapeError(
            f"the observed data have shape {values.shape}; the simulator makes events of shape "
            f"{event_shape}. Pass that shape{also}."
        )
    bad = ~np.isfinite(values)
    if bad.any():
        where = [tuple(int(i) for i in index) for index in np.argwhere(bad)[:3]]
        raise ObservationError(
            f"the observed data hold {int(bad.sum())} NaN or infinite values of {bad.size} (first at "
            f"{where}). Missing values cannot be used as they are: build the missingness into the simulator, "
            "or cut the data to the part that was observed."
        )
    return values
