"""Columns of numbers: anything that NumPy takes, as float64, and how far each column spreads.

    sd_j = sqrt(mean_i (x_ij - m_j)^2),   and 0 where it is below 1e-12 max_i |x_ij|

Below that, differences are the rounding of float64: the computed mean of equal numbers that are not exact in binary, such as 0.1, is not
always that number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sbi_flows.errors import ObservationError

F = NDArray[np.float64]

_ROUNDING = 1e-12


def numbers(given: ArrayLike, name: str, wanted: str) -> F:
    """`given` as float64. Raises `ObservationError` for what are no real numbers, or are masked."""
    if np.ma.getmaskarray(given).any() if isinstance(given, np.ma.MaskedArray) else False:
        raise ObservationError(f"{name} must not have masked values. Remove or fill in such rows.")
    try:
        values = np.asarray(given)
        if values.dtype.kind in "cmM":
            raise TypeError("these are complex numbers" if values.dtype.kind == "c" else "dates: pass numbers in a unit of your choice")
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ObservationError(f"{name} must be numbers, {wanted} ({error}).") from error


def spread(x: F) -> F:
    """The standard deviation of each column of x (n, m), exactly 0 where it does not vary, inf where it is beyond float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        sd = x.std(axis=0)
    sd = np.where(np.isnan(sd), np.inf, sd)
    return np.where(sd > _ROUNDING * np.abs(x).max(axis=0), sd, 0.0)
