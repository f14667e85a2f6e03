"""The distance of simulated summaries s from the observed ones, each in units of its own spread:

    d(s) = sqrt( sum_j ((s_j - s_j(y)) / c_j)^2 ),   c_j = MAD of s_j over simulations

(Beaumont, Zhang & Balding 2002, Genetics 162:2025). A summary whose MAD is 0 although it varies, as of rare
counts, has its mean absolute deviation from the median in place of it. One that does not vary has no unit
and is left out: whether it was observed otherwise is a question of the verdict (`baselines.data`).

Under a sequence of proposals the spread under the prior is the wrong unit: a summary that varies with theta
is weighted down by what theta no longer does. `rescaled` takes c_j from all simulations of the present
generation, accepted or not (Prangle 2017, Bayesian Analysis 12:289).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

_ROWS_AT_ONCE = 8192  # they stay in the processor's cache
_LANES = 64  # rows that are taken as if they were one: broadcasting is slow along short ones
_LARGE = 1e100


@dataclass(frozen=True, eq=False)
class Distance:
    """A distance from one observation; calling it gives that of each row of summaries (n, k).

    target (k,): the observed summaries. scales (k,): c_j, inf of a summary that is left out.
    """

    target: Float[np.ndarray, " k"]
    scales: Float[np.ndarray, " k"]

    @classmethod
    def of(cls, summaries: Float[np.ndarray, "n k"], target: Float[np.ndarray, " k"]) -> Distance:
        """Scaled by simulations. Rows that are not finite do not count."""
        return cls(np.asarray(target, dtype=np.float64), spreads(summaries))

    def rescaled(self, summaries: Float[np.ndarray, "n k"]) -> Distance:
        """Scaled by the simulations of one generation. A summary that does not vary there keeps its unit."""
        now = spreads(summaries)
        return replace(self, scales=np.where(np.isfinite(now), now, self.scales))

    @property
    def used(self) -> Bool[np.ndarray, " k"]:
        """Which summaries are not left out."""
        return np.asarray(np.isfinite(self.scales))

    def __call__(self, summaries: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
        """d of each row; inf where a summary is not finite, also one that is left out."""
        k, used = len(self.target), self.used
        if not ((self.scales[used] > 1 / _LARGE) & (self.scales[used] < _LARGE)).all():
            return self._carefully(summaries)
        weights = np.where(used, np.square(1 / self.scales), 0.0)
        several, out = np.tile(self.target, _LANES), np.empty(len(summaries))
        squares = np.empty(min(len(summaries), _ROWS_AT_ONCE) * k)
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(summaries), _ROWS_AT_ONCE):
                part = np.ascontiguousarray(summaries[start : start + _ROWS_AT_ONCE])
                rows = len(part)
                wide = math.gcd(rows, _LANES) * k
                block = squares[: rows * k].reshape(-1, wide)
                np.subtract(part.reshape(-1, wide), several[:wide], out=block)
                np.multiply(block, block, out=block)
                np.matmul(block.reshape(rows, k), weights, out=out[start : start + rows])
        np.sqrt(out, out=out)
        again = np.flatnonzero(~np.isfinite(out))
        if len(again):
            out[again] = self._carefully(summaries[again])
        return out

    def _carefully(self, summaries: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
        """The same where squares leave floating point before they are scaled."""
        with np.errstate(over="ignore", invalid="ignore"):
            found = np.linalg.norm(self.offsets(summaries), axis=1)
        return np.where(np.isfinite(summaries).all(axis=1), found, np.inf)

    def offsets(self, summaries: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n used"]:
        """(s - s(y)) / c of the summaries that are used: d is the length of a row."""
        used = self.used
        return np.asarray((summaries[:, used] - self.target[used]) / self.scales[used])


def spreads(summaries: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
    """c of each column, of the rows that are finite; inf where these do not vary, or are none."""
    finite = np.isfinite(summaries).all(axis=1)
    columns = np.ascontiguousarray((summaries if finite.all() else summaries[finite]).T)
    if not columns.shape[1]:
        return np.full(len(columns), np.inf)
    with np.errstate(over="ignore"):
        deviations = np.abs(columns - np.median(columns, axis=1, keepdims=True))
        mad = np.median(deviations, axis=1)
        mad = np.where(mad > 0, mad, deviations.mean(axis=1))
    return np.where((mad > 0) & np.isfinite(mad), mad, np.inf)
