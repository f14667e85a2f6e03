"""Series observed at any times, in whole or in part, and the solver's steps between those times.

    t_0 <= t_1 <= ... <= t_{T-1},   x_k in R^m, each element observed or missing

Missing elements are passed as NaN or masked. Between t_k and t_{k+1} every series takes the same number of
equal steps: that which the longest of these gaps needs at steps of at most dt. So the steps of a batch run in
parallel, whatever the times of its series.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sbi_flows.arrays import F, numbers
from sbi_flows.errors import ObservationError, SettingsError, ShapeError

_MOST_STEPS = 100_000

Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True)
class Series:
    """times (n, T), in order; x (n, T, m), 0 where missing; seen (n, T, m), whether observed."""

    times: F
    x: F
    seen: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.times)

    @classmethod
    def of(cls, times: ArrayLike, x: ArrayLike, features: int, name: str = "x") -> Series:
        """Series x (n, T, features), or one (T, features), at times (n, T), or (T,) for all.

        Raises `ShapeError`, and `ObservationError` for infinite values or if nothing was observed.
        """
        wanted = f"one series of shape (T, {features}) or a stack (n, T, {features})"
        if isinstance(x, np.ma.MaskedArray) and x.dtype.kind in "biuf":
            x = np.ma.filled(x.astype(np.float64), np.nan)
        values = numbers(x, name, wanted)
        hint = " A series of single numbers is x[..., None]." if features == 1 else ""
        if values.ndim not in (2, 3) or values.shape[-1] != features or 0 in values.shape:
            raise ShapeError(f"{name} must be {wanted}, got {values.shape}.{hint}")
        values = values.reshape(-1, *values.shape[-2:])
        if np.isinf(values).any():
            row, step, element = (int(i) for i in np.argwhere(np.isinf(values))[0])
            raise ObservationError(
                f"{name} must be finite, or NaN where missing; got inf in series {row}, time {step}, "
                f"element {element}."
            )
        seen = ~np.isnan(values)
        if not seen.any():
            raise ObservationError(f"all values of {name} are missing. Pass at least one that was observed.")
        return cls(times_of(times, len(values), values.shape[1], name), np.where(seen, values, 0.0), seen)

    def with_times(self, at: F) -> tuple[Series, NDArray[np.int64]]:
        """The series with further times (n, A), at which nothing is observed, and where these stand among all
        times, (n, A).
        """
        n, length = self.times.shape
        both = np.concatenate([self.times, at], axis=1)
        order = np.argsort(both, axis=1, kind="stable")

        def merged(own: NDArray[Value]) -> NDArray[Value]:
            missing = np.zeros((n, at.shape[1], own.shape[2]), own.dtype)
            return np.take_along_axis(np.concatenate([own, missing], axis=1), order[..., None], axis=1)

        positions = np.argsort(order, axis=1)[:, length:]
        times = np.take_along_axis(both, order, axis=1)
        return Series(times, merged(self.x), merged(self.seen)), positions

    def filled(self) -> F:
        """The values (n T, m), in order. Missing elements take the observed values of their column in turn.

        Raises `ObservationError` if a column was never observed.
        """
        m = self.x.shape[2]
        x, seen = self.x.reshape(-1, m).copy(), self.seen.reshape(-1, m)
        for j in range(x.shape[1]):
            if not seen[:, j].any():
                raise ObservationError(f"element {j} of x is missing at all times. Leave it out.")
            missing = ~seen[:, j]
            x[missing, j] = np.resize(x[seen[:, j], j], int(missing.sum()))
        return np.asarray(x)

    def values(self) -> F:
        """The values (n T, m), in order, with missing elements replaced by one observed value."""
        return np.where(self.seen, self.x, self.x[self.seen][0]).reshape(-1, self.x.shape[2])

    def clock(self) -> tuple[float, float, float]:
        """The first of all times, the longest span of a series, and the median time between observations.

        Raises `ObservationError` for series of one time.
        """
        observed = np.asarray(self.seen.any(axis=2), dtype=np.bool_)
        gaps = np.concatenate([np.diff(times[at]) for times, at in zip(self.times, observed, strict=True)])
        span = float((self.times[:, -1] - self.times[:, 0]).max())
        if not span > 0:
            raise ObservationError("series to be fitted must have two times or more.")
        return float(self.times.min()), span, float(np.median(gaps)) if len(gaps) else span

    def packed(self, origin: float, unit: float, offset: F) -> Tensor:
        """One tensor (n, T, 2 m + 1): x - offset, whether it was observed, and (time - origin) / unit."""
        x, times = np.where(self.seen, self.x - offset, 0.0), (self.times - origin) / unit
        return torch.from_numpy(np.concatenate([x, self.seen, times[..., None]], axis=2))


def times_of(given: ArrayLike, n: int, length: int | None, name: str) -> F:
    """Times (T,) or (n, T) as (n, T). Raises `ShapeError`, and `ObservationError` unless finite and in order.

    length: T, if it is known; then no two times of a series may be equal.
    """
    times = numbers(given, "times", "(T,) or (n, T)")
    wanted = "(T,)" if length is None else f"({length},) or ({n}, {length}), as many as {name} has"
    steps = times.shape[-1] if length is None and times.ndim else length
    allowed: set[tuple[object, ...]] = {(steps,), (n, steps)}
    if times.shape not in allowed:
        raise ShapeError(f"times must be {wanted}, got {times.shape}.")
    times = np.broadcast_to(times, (n, times.shape[-1])).copy()
    if not np.isfinite(times).all() or not times.size:
        raise ObservationError("times must be finite. For a shorter series, put NaN in x at its last times.")
    gaps = np.diff(times, axis=1)
    wrong = gaps < 0 if length is None else gaps <= 0
    if wrong.any():
        row, step = (int(i) for i in np.argwhere(wrong)[0])
        raise ObservationError(
            f"times must increase, got {times[row, step]:g} and then {times[row, step + 1]:g} in series "
            f"{row}. Sort them; join equal ones."
        )
    return times


def steps_between(times: F, dt: float) -> NDArray[np.int64]:
    """Numbers of steps of at most dt between times (n, T), (T - 1,). Raises `SettingsError` if too many."""
    gaps = np.diff(times, axis=1).max(axis=0)
    wanted = np.maximum(np.ceil(gaps / dt - 1e-6), 1)
    if wanted.sum() > _MOST_STEPS:
        raise SettingsError(
            f"dt = {dt:g} takes {wanted.sum():.3g} steps over these times, more than {_MOST_STEPS}. "
            "Choose a larger dt."
        )
    return np.asarray(wanted, dtype=np.int64)
