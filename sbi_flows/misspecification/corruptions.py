"""Ways in which data get corrupted between the world and the file, applied to simulated data, y to y', to
learn what that looks like.

Of a series, in one channel: more measurement noise than the model has (counts: Poisson once more of at least
half of them, so that their variance given the rate is up to twice the Poisson one; else normal, of 5% to 100%
of the sd), a stuck detector, a drift or a step, variations too large or too small, a second part with another
theta, order lost, outliers, neighbours averaged. Of a vector: noise, one entry of another data set, all
entries too far from or too close to their means, all shifted together. Sizes and places are random, and the
first kind, the hardest to see, is three times as frequent as any other. Columns that are scaled by logs are
corrupted on that scale. Whole numbers stay whole, and nothing leaves the range of the simulations, so that
only the form reveals y' (after Anau Montel, Alvey & Weniger 2024, 2412.15100).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.nets.scaling import COUNTS, Scaler

_MOST_COUNT = 1e9
_OF_THE_HARDEST = 3


@dataclass(frozen=True)
class Columns:
    """Range, mean, sd of the columns of vectors or channels of series, (c,) each; whether counts, and whether
    whole.
    """

    low: F
    high: F
    mean: F
    sd: F
    counts: NDArray[np.bool_]
    whole: NDArray[np.bool_]

    @classmethod
    def of(cls, y: Float[np.ndarray, "*rows c"], counts: NDArray[np.bool_]) -> Columns:
        """From simulated values, the last axis being the columns."""
        flat = y.reshape(-1, y.shape[-1])
        whole = (flat == np.floor(flat)).all(axis=0)
        return cls(flat.min(axis=0), flat.max(axis=0), flat.mean(axis=0), flat.std(axis=0), counts, whole)


def kinds_of(scaler: Scaler) -> tuple[str, ...]:
    """The names of the corruptions of such data, as they stand in a sentence."""
    return tuple(_OF_SERIES if scaler.shared else _OF_VECTORS)


def corrupted(
    y: Shaped[np.ndarray, "n *event"], scaler: Scaler, copies: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "m *event"], Int[np.ndarray, " m"]]:
    """`copies` corrupted data sets of each of y, and the number of the kind of each."""
    kinds = list((_OF_SERIES if scaler.shared else _OF_VECTORS).values())
    values = scaler.logs(
        np.asarray(y, dtype=np.float64).reshape(len(y), scaler.event_shape[0] if scaler.shared else 1, -1)
    )
    columns = Columns.of(values, scaler.code == COUNTS)
    kept = np.flatnonzero(scaler.keep)
    order = [0] * (_OF_THE_HARDEST - 1) + list(range(len(kinds)))
    chosen = np.concatenate([rng.permutation(np.resize(order, len(y))) for _ in range(copies)])
    out = np.tile(values, (copies, 1, 1))
    for number, corrupt in enumerate(kinds):
        rows = np.flatnonzero(chosen == number)
        if scaler.shared:
            for channel, mine in zip(kept, np.array_split(rng.permutation(rows), len(kept)), strict=True):
                own = Columns(*(getattr(columns, name)[[channel]] for name in Columns.__dataclass_fields__))
                out[mine, :, channel] = _as_measured(corrupt(out[mine, :, channel], own, rng), own)
        else:
            out[rows, 0] = _as_measured(corrupt(out[rows, 0], columns, rng), columns)
    return scaler.powers(out).reshape(copies * len(y), *y.shape[1:]), chosen


def _as_measured(w: F, columns: Columns) -> F:
    return np.clip(np.where(columns.whole, np.round(w), w), columns.low, columns.high)


def _row(rng: np.random.Generator, w: F, low: float, high: float) -> F:
    return rng.uniform(low, high, (len(w), 1))


def _sign(rng: np.random.Generator, w: F) -> F:
    return rng.choice([-1.0, 1.0], (len(w), 1))


def _noisier(w: F, columns: Columns, rng: np.random.Generator) -> F:
    spread = w.std(axis=1, keepdims=True) if len(columns.sd) == 1 and w.shape[1] > 1 else columns.sd
    again = rng.poisson(np.clip(w, 0, _MOST_COUNT))
    counted = np.where(rng.random(w.shape) < _row(rng, w, 0.5, 1.0), again, w)
    noisy = w + spread * 10 ** _row(rng, w, -1.3, 0.0) * rng.standard_normal(w.shape)
    return np.asarray(np.where(columns.counts, counted, noisy))


def _stuck(w: F, columns: Columns, rng: np.random.Generator) -> F:
    steps = w.shape[1]
    start, length = (
        rng.integers(0, max(steps - steps // 12, 1), (len(w), 1)),
        np.ceil(steps * _row(rng, w, 0.08, 0.4)),
    )
    value = np.where(rng.random((len(w), 1)) < 0.5, np.take_along_axis(w, start, axis=1), columns.low)
    time = np.arange(steps)
    return np.where((time >= start) & (time < start + length), value, w)


def _drifting(w: F, columns: Columns, rng: np.random.Generator) -> F:
    time, at = np.linspace(0, 1, w.shape[1]), _row(rng, w, 0.2, 0.8)
    shape = np.where(rng.random((len(w), 1)) < 0.5, time, time > at)
    return np.asarray(w + _sign(rng, w) * _row(rng, w, 0.7, 3.0) * w.std(axis=1, keepdims=True) * shape)


def _other_scale(w: F, columns: Columns, rng: np.random.Generator) -> F:
    mean = w.mean(axis=1, keepdims=True) if len(columns.mean) == 1 and w.shape[1] > 1 else columns.mean
    return np.asarray(mean + (w - mean) * 2 ** (_sign(rng, w) * _row(rng, w, 0.3, 1.2)))


def _spliced(w: F, columns: Columns, rng: np.random.Generator) -> F:
    at = _row(rng, w, 0.2, 0.8) * w.shape[1]
    return np.where(np.arange(w.shape[1]) >= at, np.roll(w, 1, axis=0), w)


def _unordered(w: F, columns: Columns, rng: np.random.Generator) -> F:
    steps = w.shape[1]
    length = steps * _row(rng, w, 0.15, 1.0)
    start = rng.random((len(w), 1)) * (steps - length)
    time = np.arange(steps, dtype=np.float64)
    inside = (time >= start) & (time < start + length)
    keys = np.where(
        inside, start + length * rng.random(w.shape), np.where(time < start, time - steps, time + steps)
    )
    return np.take_along_axis(w, np.argsort(keys, axis=1), axis=1)


def _outliers(w: F, columns: Columns, rng: np.random.Generator) -> F:
    chosen = rng.random(w.shape) < rng.integers(1, 6, (len(w), 1)) / w.shape[1]
    size = rng.choice([-1.0, 1.0], w.shape) * rng.uniform(3, 8, w.shape) * w.std(axis=1, keepdims=True)
    return np.where(chosen, w + size, w)


def _averaged(w: F, columns: Columns, rng: np.random.Generator) -> F:
    share = _row(rng, w, 0.25, 0.5)
    return np.asarray((1 - share) * w + share * np.roll(w, 1, axis=1))


def _foreign(w: F, columns: Columns, rng: np.random.Generator) -> F:
    return np.where(
        np.arange(w.shape[1]) == rng.integers(w.shape[1], size=(len(w), 1)), np.roll(w, 1, axis=0), w
    )


def _shifted(w: F, columns: Columns, rng: np.random.Generator) -> F:
    return np.asarray(w + _sign(rng, w) * _row(rng, w, 0.5, 2.0) * columns.sd)


_Corruption = Callable[[F, Columns, np.random.Generator], F]
_OF_SERIES: dict[str, _Corruption] = {
    "more measurement noise": _noisier,
    "a stuck detector": _stuck,
    "a drift or step": _drifting,
    "another size of variations": _other_scale,
    "a second part that follows other parameters": _spliced,
    "steps out of order": _unordered,
    "outliers": _outliers,
    "neighbours averaged": _averaged,
}
_OF_VECTORS: dict[str, _Corruption] = {
    "more measurement noise": _noisier,
    "an entry from other data": _foreign,
    "another size of variations": _other_scale,
    "entries shifted together": _shifted,
}
