"""Scaling of y, chosen from the simulations, column by column (or channel by channel for a series):

    counts (non-negative integers, not only 0 and 1)    u = sign(y) log(1 + |y|)
    positive over orders of magnitude                   u = log(y), and log(m) + (y - m) / m below the
                                                            smallest simulated value m
    other heavy tails                                   u = asinh((y - median) / spread)
    anything else                                       u = y
    then                                                (u - mean(u)) / sd(u)

A tail is the larger distance of the 0.1% and 99.9% points from the median, in interquartile ranges; it is
heavy above 10. Positive columns are taken on the log scale where their tail is shorter there by a factor of
0.7, or shorter at all while the 99.9% point is more than 10,000 times the 0.1% point.

Where values are missing, NaN, all of this is of those that are there, and NaN stays NaN.
A constant column carries no information and is dropped, which is said; its value is kept, to compare
observations with.
The choice is a record of numbers: it is stored with the posterior and applied to observations as to
simulations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.errors import SimulatorContractError

PLAIN, COUNTS, HEAVY, LOG = 0, 1, 2, 3
_HEAVY_TAIL, _SHORTER, _WIDE = 10.0, 0.7, 1e4
_ROWS_TO_LOOK_AT = 20_000
_ROWS_AT_ONCE = 8192
_ROUNDING, _NOTHING, _MOST_NEW = 1e-3, 1e-9, 0.001
_LARGEST = 1e140
UNLIKE = (
    "values are negative or fractional, which the simulated counts never are",
    "values are zero or negative, which the simulated ones never are",
    "values differ from the one value that the simulations have there",
)  # what `Scaler.unlike` counts


@dataclass(frozen=True)
class Scaler:
    """The scaling of events of shape `event_shape`. Groups are columns, or channels where `shared`.

    code (groups,): PLAIN, COUNTS, HEAVY or LOG. keep (groups,): False where dropped.
    centre, spread (groups,): of y; for LOG the centre is m. mean, sd (groups,): of u.
    fixed (elements,): the value that all simulations have at that element of an event, NaN where they differ.
    """

    event_shape: tuple[int, ...]
    shared: bool
    code: NDArray[np.uint8]
    keep: NDArray[np.bool_]
    centre: F
    spread: F
    mean: F
    sd: F
    fixed: F

    @classmethod
    def from_data(
        cls, y: Shaped[np.ndarray, "n *event"], shared: bool, channels: int | None = None
    ) -> Scaler:
        """Choose the scaling from simulations. `shared`: one choice for all places of a channel, such as the
        time steps of a series (T,) or (T, channels); channels: how many, where the shape does not tell.

        Raises `SimulatorContractError` if nothing varies.
        """
        event = y.shape[1:]
        if shared and channels is None:
            channels = event[1] if len(event) == 2 else 1
        groups = channels if shared else None
        counts, least, greatest = _look(y, groups)
        keep = greatest > least
        if not keep.any():
            raise SimulatorContractError(
                "all simulated values are the same number: y carries no information on theta. Check the "
                "simulator."
            )
        _check_size(least, greatest, shared)
        counts &= keep
        fixed = _fixed(y.reshape(len(y), -1))
        part = (
            _groups(y[:: max(1, len(y) // _ROWS_TO_LOOK_AT)], groups)
            .astype(np.float64)
            .reshape(-1, len(counts))
        )
        median, spread, tail = _tails(part)
        code = np.where(tail > _HEAVY_TAIL, HEAVY, PLAIN)
        positive = (least > 0) & ~counts
        if positive.any():
            logs = np.log(part[:, positive])
            low, high = _quantiles(logs, [0.001, 0.999])
            shorter = np.where(high - low > np.log(_WIDE), 1.0, _SHORTER) * tail[positive]
            code[positive] = np.where(_tails(logs)[2] < shorter, LOG, code[positive])
        code = np.where(counts, COUNTS, code).astype(np.uint8)
        centre = np.where(code == LOG, least, median)
        unscaled = cls(
            event, shared, code, keep, centre, spread, np.zeros(len(code)), np.ones(len(code)), fixed
        )
        u = unscaled._transform(part)
        mean, sd = _mean(u), _sd(u)
        return cls(event, shared, code, keep, centre, spread, mean, np.where(sd > 0, sd, 1.0), fixed)

    @classmethod
    def joined(cls, scalers: Sequence[Scaler]) -> Scaler:
        """The scaling of events that lie one behind the other, element by element."""
        sizes = [int(np.prod(scaler.event_shape, dtype=np.int64)) for scaler in scalers]
        named = ("code", "keep", "centre", "spread", "mean", "sd")
        parts = {
            name: np.concatenate(
                [np.resize(getattr(one, name), size) for one, size in zip(scalers, sizes, strict=True)]
            )
            for name in named
        }
        return cls((sum(sizes),), False, **parts, fixed=np.concatenate([one.fixed for one in scalers]))

    @classmethod
    def given(cls, event_shape: tuple[int, ...], *, counts: bool, mean: F, sd: F) -> Scaler:
        """(y - mean) / sd element by element, of log1p(y) for counts."""
        m = len(mean)
        code = np.full(m, COUNTS if counts else PLAIN, dtype=np.uint8)
        return cls(
            event_shape,
            False,
            code,
            np.ones(m, dtype=np.bool_),
            np.zeros(m),
            np.ones(m),
            mean,
            sd,
            np.full(m, np.nan),
        )

    def __call__(self, y: Shaped[np.ndarray, "n *event"]) -> Shaped[np.ndarray, "n *kept"]:
        """Scaled y in float64: (n, kept) for vectors, (n, T, kept channels) for a series."""
        return np.asarray(self._standardised(y)[..., self.keep])

    def in_float32(self, y: Shaped[np.ndarray, "n *event"]) -> Shaped[np.ndarray, "n *kept"]:
        """As a call, in float32, contiguous, and without float64 copies of the whole of y."""
        out = np.empty((len(y), *self.out_shape), dtype=np.float32)
        for i in range(0, len(y), _ROWS_AT_ONCE):
            u = self._standardised(y[i : i + _ROWS_AT_ONCE])
            out[i : i + _ROWS_AT_ONCE] = u if self.keep.all() else np.compress(self.keep, u, axis=-1)
        return out

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The shape of one scaled event."""
        kept = int(self.keep.sum())
        places = int(np.prod(self.event_shape, dtype=np.int64)) // len(self.code)
        return (places, kept) if self.shared else (kept,)

    def unlike(self, y: Shaped[np.ndarray, "rows *event"]) -> Int[np.ndarray, "rows 3"]:
        """How many values of each y no simulation gave: negative or fractional counts; zero or below where
        all were positive; another value where all had one.
        """
        values = _groups(y, self._channels)
        there = ~np.isnan(y.reshape(len(y), -1))
        counts, positive = values[..., self.code == COUNTS], values[..., self.code == LOG]
        known = np.isfinite(self.fixed)
        strange = (
            (counts < 0) | ((counts != np.floor(counts)) & ~np.isnan(counts)),
            positive <= 0,
            ~np.isclose(y.reshape(len(y), -1)[:, known], self.fixed[known], rtol=_ROUNDING, atol=_NOTHING)
            & there[:, known],
        )
        return np.stack([part.reshape(len(y), -1).sum(axis=1) for part in strange], axis=1).astype(np.int64)

    def describe(self) -> str:
        """What was chosen, in words."""
        what = "channel" if self.shared else "column"
        names = {
            COUNTS: "log1p (counts)",
            HEAVY: "asinh (heavy tails)",
            LOG: "log (positive)",
            PLAIN: "linear",
        }
        kept = self.code[self.keep]
        parts = [
            f"{int((kept == code).sum())} {what}{'s' * (int((kept == code).sum()) != 1)} {names[code]}"
            for code in names
            if (kept == code).any()
        ]
        dropped = int((~self.keep).sum())
        tail = f"; {dropped} constant {what}{'s' * (dropped != 1)} dropped" if dropped else ""
        return f"{', '.join(parts)}, then standardised{tail}"

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The numbers, for a file."""
        return {
            name: getattr(self, name) for name in ("code", "keep", "centre", "spread", "mean", "sd", "fixed")
        }

    def _standardised(self, y: Shaped[np.ndarray, "n *event"]) -> F:
        u = self._transform(_groups(y, self._channels).astype(np.float64))
        u -= self.mean
        u /= self.sd
        return u

    @property
    def _channels(self) -> int | None:
        return len(self.code) if self.shared else None

    def logs(self, y: F) -> F:
        """u(y) of the columns, or channels, on the log scale (..., groups), and y of the others."""
        return self._on_logs(y, _log)

    def powers(self, u: F) -> F:
        """The inverse of `logs`."""
        return self._on_logs(u, _exp)

    def _on_logs(self, values: F, change: Callable[[F, F], F]) -> F:
        chosen, out = self.code == LOG, values.copy()
        if chosen.any():
            out[..., chosen] = change(values[..., chosen], self.centre[chosen])
        return out

    def _transform(self, u: F) -> F:
        """u(y), written over y."""
        for code in (COUNTS, HEAVY, LOG):
            chosen = self.code == code
            if chosen.any():
                part, centre = u[..., chosen], self.centre[chosen]
                if code == COUNTS:
                    u[..., chosen] = np.sign(part) * np.log1p(np.abs(part))
                else:
                    u[..., chosen] = (
                        np.arcsinh((part - centre) / self.spread[chosen])
                        if code == HEAVY
                        else _log(part, centre)
                    )
        return u


def _check_size(least: F, greatest: F, shared: bool) -> None:
    """Raise `SimulatorContractError` where values are so large or so near to one another that their squares
    leave floating point.
    """
    with np.errstate(over="ignore"):
        range_of = greatest - least
    bad = (range_of > 0) & (
        (np.maximum(np.abs(least), np.abs(greatest)) > _LARGEST) | (range_of < 1 / _LARGEST)
    )
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise SimulatorContractError(
            f"{'channel' if shared else 'column'} {i} of the simulated data runs from {least[i]:.6g} to "
            f"{greatest[i]:.6g}; sizes and ranges must be between {1 / _LARGEST:.0e} and {_LARGEST:.0e}. "
            "Let the simulator give other units, or logs."
        )


def _fixed(flat: Shaped[np.ndarray, "n elements"]) -> F:
    """The one value of each element, NaN where there are several, and everywhere if new values are to be
    expected.

    A new data set has an element that differs from all before with probability about (elements in which one
    of n differs) / n (Good 1953).
    """
    if np.isnan(flat[:_ROWS_AT_ONCE]).any():
        return _fixed_where_observed(flat)
    unlike = [np.zeros(flat.shape[1], dtype=np.int64) for _ in range(2)]
    for start in range(0, len(flat), _ROWS_AT_ONCE):
        for found, row in zip(unlike, (flat[0], flat[-1]), strict=True):
            found += (flat[start : start + _ROWS_AT_ONCE] != row).sum(axis=0)
    others = np.minimum(*unlike)
    expected = (others == 1).sum() / len(flat)
    return np.where((others > 0) | (expected > _MOST_NEW), np.nan, flat[0].astype(np.float64))


def _fixed_where_observed(flat: Shaped[np.ndarray, "n elements"]) -> F:
    """The same where values are missing: of elements that are observed in 1 / `_MOST_NEW` rows or more."""
    least, greatest = np.fmin.reduce(flat, axis=0), np.fmax.reduce(flat, axis=0)
    often = (~np.isnan(flat)).sum(axis=0) >= 1 / _MOST_NEW
    return np.where((least == greatest) & often, least.astype(np.float64), np.nan)


def _quantiles(y: F, levels: list[float]) -> F:
    """Column by column, of the values that are there."""
    return np.asarray((np.nanquantile if np.isnan(y).any() else np.quantile)(_or_zero(y), levels, axis=0))


def _mean(y: F) -> F:
    return np.asarray((np.nanmean if np.isnan(y).any() else np.mean)(_or_zero(y), axis=0))


def _sd(y: F) -> F:
    return np.asarray((np.nanstd if np.isnan(y).any() else np.std)(_or_zero(y), axis=0))


def _or_zero(y: F) -> F:
    """y, with 0 in columns that hold no value."""
    nothing = np.isnan(y).all(axis=0)
    return np.where(nothing, 0.0, y) if nothing.any() else y


def _log(y: F, least: F) -> F:
    """log(y), and its tangent at `least` below it."""
    return np.asarray(np.log(np.maximum(y, least)) + (np.minimum(y, least) / least - 1))


def _exp(u: F, least: F) -> F:
    return np.asarray(np.exp(np.maximum(u, np.log(least))) + least * np.minimum(u - np.log(least), 0))


def _tails(y: Float[np.ndarray, "n c"]) -> tuple[F, F, F]:
    """Median, spread (interquartile range where it is not 0) and tail of each column, (c,)."""
    low, quarter, median, three_quarters, high = _quantiles(y, [0.001, 0.25, 0.5, 0.75, 0.999])
    spread = np.where(three_quarters > quarter, three_quarters - quarter, _mean(np.abs(y - median)))
    spread = np.where(spread > 0, spread, 1.0)
    return median, spread, np.maximum(high - median, median - low) / spread


def _groups(y: Shaped[np.ndarray, "n *event"], channels: int | None) -> NDArray[Any]:
    """Columns (n, m), or places by channels (n, places, channels)."""
    return y.reshape(len(y), -1) if channels is None else y.reshape(len(y), -1, channels)


def _look(y: Shaped[np.ndarray, "n *event"], channels: int | None) -> tuple[NDArray[np.bool_], F, F]:
    """Per group: whether it holds counts, not only 0 and 1; its least and its greatest value."""
    found, least, greatest = np.ones(1, dtype=np.bool_), np.full(1, np.inf), np.full(1, -np.inf)
    for start in range(0, len(y), _ROWS_AT_ONCE):
        part = _groups(y[start : start + _ROWS_AT_ONCE], channels)
        flat = part.reshape(-1, part.shape[-1])
        whole = ((flat >= 0) & (flat == np.floor(flat))) | np.isnan(flat)
        found = np.logical_and(found, whole.all(axis=0))
        least = np.fmin(least, np.fmin.reduce(flat, axis=0))
        greatest = np.fmax(greatest, np.fmax.reduce(flat, axis=0))
    return np.logical_and(found, greatest > 1), least.astype(np.float64), greatest.astype(np.float64)
