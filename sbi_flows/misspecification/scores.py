"""Normal scores: z = Phi^-1(F(x)) column by column, F found on simulations, with a straight line beyond
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from sbi_flows.arrays import F

_MOST_VALUES = 256


@dataclass(frozen=True)
class NormalScores:
    """values, scores (q, c): at most 256 values of each column in order, and the normal scores of their
    mid-ranks.

    spread (c,): the standard deviation of each column, 1 where it is 0; the slope of the line is its inverse.
    """

    values: F
    scores: F
    spread: F

    @classmethod
    def of(cls, columns: F) -> NormalScores:
        """Those of simulations, one row per data set."""
        found = [_of_column(column) for column in columns.T]
        spread = columns.std(axis=0)
        values, scores = (np.column_stack(part) for part in zip(*found, strict=True))
        return cls(values, scores, np.where(spread > 0, spread, 1.0))

    def __call__(self, columns: F) -> F:
        """The scores of other data sets."""
        beyond = columns - np.clip(columns, self.values[0], self.values[-1])
        known = zip(columns.T, self.values.T, self.scores.T, strict=True)
        return np.asarray(
            np.column_stack([np.interp(x, *pairs) for x, *pairs in known]) + beyond / self.spread
        )


def _of_column(column: F) -> tuple[F, F]:
    """Values and scores; the last value is repeated where there are fewer than 256."""
    values, counts = np.unique(column, return_counts=True)
    scores = ndtri((np.cumsum(counts) - counts / 2) / len(column))
    chosen = np.unique(np.linspace(0, len(values) - 1, _MOST_VALUES).round().astype(np.int64))
    padded = np.concatenate([chosen, np.full(_MOST_VALUES - len(chosen), len(values) - 1)])
    return values[padded], scores[padded]
