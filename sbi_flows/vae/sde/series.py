"""Series observed at any times, whole or in part, and the steps that a solver takes between those times.

    t_0 <= t_1 <= ... <= t_{T-1},   x_k in R^m, each element of it there or missing

Between t_k and t_{k+1} every series takes as many equal steps as the longest of these gaps needs at steps of
at most dt: the steps of a batch run side by side whatever the times of its series are. Missing elements come
in as NaN or masked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sbi_flows.arrays import F, numbers
from sbi_flows.errors import ObservationError, SettingsError, ShapeError

_MOST_STEPS = 100_000


@dataclass(frozen=True)
class Series:
    """times (n, T), in order; x (n, T, m), 0 where it is missing; seen (n, T, m)."""

    times: F
    x: F
    seen: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.times)

    @classmethod
    def of(cls, times: ArrayLike, x: ArrayLike, features: int, name: str = "x") -> Series:
        """Series x (n, T, features), or one (T, features), at times (T,) that all share or (n, T).

        Raises `ShapeError`, and `ObservationError` for what is infinite, or where nothing at all was
        observed.
        """
        wanted = f"one series of shape (T, {features}) or a stack (n, T, {features})"
        given = (
            np.ma.filled(x.astype(np.float64), np.nan)
            if isinstance(x, np.ma.MaskedArray) and x.dtype.kind in "biuf"
            else x
        )
        values = numbers(given, name, wanted)
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
            raise ObservationError(
                f"{name} has nothing but missing values. Pass at least one that was observed."
            )
        return cls(times_of(times, len(values), values.shape[1], name), np.where(seen, values, 0.0), seen)

    def with_times(self, at: F) -> tuple[Series, NDArray[np.int64]]:
        """The series with times (n, A) at which nothing is observed put among its own, and where they have
        come to stand, (n, A).
        """
        n, length = self.times.shape
        both = np.concatenate([self.times, at], axis=1)
        order = np.argsort(both, axis=1, kind="stable")
        missing = np.zeros((n, at.shape[1], self.x.shape[2]))

        def merged(own: NDArray[np.generic], others: NDArray[np.generic]) -> NDArray[np.generic]:
            return np.take_along_axis(np.concatenate([own, others], axis=1), order[..., None], axis=1)

        places = np.argsort(order, axis=1)[:, length:]
        x, seen = merged(self.x, missing), merged(self.seen, missing.astype(np.bool_))
        return Series(np.take_along_axis(both, order, axis=1), x, seen), places  # type: ignore[arg-type]

    def filled(self) -> F:
        """The values (n T, m), in order, where missing elements have the value of others of their column, in
        turn.

        Raises `ObservationError` where a column was never observed.
        """
        m = self.x.shape[2]
        x, seen = self.x.reshape(-1, m).copy(), self.seen.reshape(-1, m)
        for j in range(x.shape[1]):
            if not seen[:, j].any():
                raise ObservationError(
                    f"element {j} of x is missing at all times of all series. Leave it out."
                )
            missing = np.logical_not(seen[:, j])
            x[missing, j] = np.resize(x[seen[:, j], j], int(missing.sum()))
        return np.asarray(x)

    def values(self) -> F:
        """The values (n T, m), in order, where missing elements have some value that was observed."""
        return np.where(self.seen, self.x, self.x[self.seen][0]).reshape(-1, self.x.shape[2])

    def clock(self) -> tuple[float, float, float]:
        """The first time of all, the longest span of a series, and the median time from one observation to
        the next.
        """
        there: NDArray[np.bool_] = np.asarray(self.seen.any(axis=2))
        gaps = np.concatenate([np.diff(times[seen]) for times, seen in zip(self.times, there, strict=True)])
        spans = self.times[:, -1] - self.times[:, 0]
        if not spans.max() > 0:
            raise ObservationError("series to be fitted must have two times or more.")
        return (
            float(self.times.min()),
            float(spans.max()),
            float(np.median(gaps)) if len(gaps) else float(spans.max()),
        )

    def packed(self, origin: float, unit: float, offset: F) -> Tensor:
        """One tensor (n, T, 2 m + 1): x - offset, whether it was seen, and the time from the origin in
        units.
        """
        x = np.where(self.seen, self.x - offset, 0.0)
        return torch.from_numpy(
            np.concatenate([x, self.seen, ((self.times - origin) / unit)[..., None]], axis=2)
        )


def times_of(given: ArrayLike, n: int, length: int | None, name: str) -> F:
    """Times (T,) or (n, T) as (n, T). Raises `ShapeError`, and `ObservationError` where they are not finite
    or not in order.
    """
    times = numbers(given, "times", "(T,) or (n, T)")
    wanted = "(T,)" if length is None else f"({length},) or ({n}, {length}), as many as {name} has"
    if (
        times.ndim not in (1, 2)
        or (length is not None and times.shape[-1] != length)
        or (times.ndim == 2 and len(times) != n)
    ):
        raise ShapeError(f"times must be {wanted}, got {times.shape}.")
    times = np.broadcast_to(times, (n, times.shape[-1])).copy()
    if not np.isfinite(times).all() or not times.size:
        raise ObservationError(
            "times must be numbers, and finite. A shorter series has NaN in x at its last times, not in "
            "times."
        )
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
    """How many steps of at most dt lead from each of the times (n, T) to the next, (T - 1,). Raises
    `SettingsError` for too many.
    """
    gaps = np.diff(times, axis=1).max(axis=0)
    wanted = np.maximum(np.ceil(gaps / dt - 1e-6), 1)
    if wanted.sum() > _MOST_STEPS:
        raise SettingsError(
            f"dt = {dt:g} makes {wanted.sum():.3g} steps of these times, and {_MOST_STEPS} are the most. "
            f"Choose a larger dt."
        )
    return np.asarray(wanted, dtype=np.int64)
