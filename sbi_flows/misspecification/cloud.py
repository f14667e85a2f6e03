"""The training cloud: where the simulated data lie in the space of summaries, so that an observation can be
placed in it.

A data set is represented by v(y): the leading principal components of the learned summaries beside statistics
of the scaled data (the data themselves, where they are few), as normal scores, z = Phi^-1(F(v)) column by
column with a straight line beyond the simulations, whitened. Its remoteness is the mean distance to the 10
nearest of up to 4,000 training simulations (0 where they coincide, as discrete data do); the reference is the
same statistic over up to 5,000 simulations that were kept apart (`misspecification/detector.py` judges by
both).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import ndtri

from sbi_flows.arrays import F
from sbi_flows.misspecification.series import SHORTEST, series_statistics
from sbi_flows.nets.scaling import Scaler

_NEIGHBOURS = 10
_MOST_REFERENCE = 4000
_FEW_COLUMNS = 16
_MOST_LEARNED, _MOST_VALUES = 6, 256
_FLOOR = 1e-6
SAME = 1e-6
_NEVER_SEEN, _MOST = 100.0, 1e100
_ARRAYS = ("turn", "values", "scores", "spread", "centre", "whiten", "reference")


@dataclass(frozen=True)
class TrainingCloud:
    """Where v(y) lies among simulated ones.

    turn (k, c): the columns that are looked at; values, scores (q, c): their distribution, as normal scores;
    spread (c,): their sd; centre (c,), whiten (c, r): the whitening; reference (m, r): training simulations.
    """

    turn: F
    values: F
    scores: F
    spread: F
    centre: F
    whiten: F
    reference: F

    @classmethod
    def of(cls, train: F, learned: int = 0) -> TrainingCloud:
        """From representations v of training rows, (rows, k), learned summaries first."""
        train = train[:_MOST_REFERENCE]
        turn = _leading(train, learned)
        columns = train @ turn
        values, scores = normal_scores(columns)
        spread = columns.std(axis=0)
        unwhitened = cls(
            turn,
            values,
            scores,
            np.where(spread > 0, spread, 1.0),
            np.zeros(len(spread)),
            np.eye(len(spread)),
            np.zeros(0),
        )
        points = unwhitened._points(train)
        centre = points.mean(axis=0)
        _, singular, directions = np.linalg.svd(
            (points - centre) / np.sqrt(max(len(points) - 1, 1)), full_matrices=False
        )
        kept = singular > _FLOOR * singular[0]
        whiten = (directions[kept] / singular[kept, None]).T
        return replace(unwhitened, centre=centre, whiten=whiten, reference=(points - centre) @ whiten)

    def _points(self, v: F) -> F:
        columns = v @ self.turn
        beyond = columns - np.clip(columns, self.values[0], self.values[-1])
        scored = np.column_stack(
            [np.interp(x, *known) for x, *known in zip(columns.T, self.values.T, self.scores.T, strict=True)]
        )
        return np.asarray((scored + beyond / self.spread - self.centre) @ self.whiten)

    @np.errstate(over="ignore", invalid="ignore")
    def distance(self, v: Float[np.ndarray, "rows k"]) -> Float[np.ndarray, " rows"]:
        """The remoteness of each row of v, at most 1e100."""
        points = self._points(v)
        nearest = min(_NEIGHBOURS, len(self.reference))
        lengths = np.square(self.reference).sum(axis=1)
        out = np.empty(len(points))
        for start in range(0, len(points), 512):
            part = points[start : start + 512]
            squares = np.square(part).sum(axis=1)[:, None] - 2 * part @ self.reference.T + lengths
            chosen = np.argpartition(squares, nearest - 1, axis=1)[:, :nearest]
            lengths_apart = np.linalg.norm(part[:, None] - self.reference[chosen], axis=-1)
            out[start : start + 512] = np.where(lengths_apart > SAME, lengths_apart, 0.0).mean(axis=1)
        return np.asarray(
            np.nan_to_num(out + _NEVER_SEEN * self._broken(v), nan=_MOST, posinf=_MOST).clip(max=_MOST)
        )

    def _broken(self, v: F) -> F:
        """How many statistics that were the same number in every simulation are another one, such as the
        share of repeated values.
        """
        constant = self.values[0] == self.values[-1]
        offsets = np.abs((v @ self.turn - self.values[0])[:, constant])
        return np.asarray(
            (offsets > SAME * (1 + np.abs(self.values[0, constant]))).sum(axis=1), dtype=np.float64
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The numbers, for a file."""
        return {name: getattr(self, name) for name in _ARRAYS}


def representation(
    summaries: torch.Tensor, scaled: Float[np.ndarray, "rows *event"], scaler: Scaler
) -> Float[np.ndarray, "rows k"]:
    """v(y): learned summaries, then statistics, one row a data set."""
    learned = summaries.numpy().astype(np.float64)
    if not scaler.shared and scaled.shape[1] <= _FEW_COLUMNS:
        return np.concatenate([learned, scaled], axis=1)
    if scaler.shared and scaled.shape[1] >= SHORTEST:
        return np.concatenate([learned, series_statistics(scaled)], axis=1)
    parts = [scaled.mean(axis=1), scaled.std(axis=1), scaled.min(axis=1), scaled.max(axis=1)]
    if scaler.shared:
        parts.append(np.abs(np.diff(scaled, axis=1)).mean(axis=1))
    return np.concatenate([learned, *(part.reshape(len(scaled), -1) for part in parts)], axis=1)


def _leading(train: F, learned: int) -> F:
    """The matrix to the leading principal components of the first `learned` columns, in units of their sd,
    and to all other columns.
    """
    few = train.shape[1] - learned
    if learned <= _MOST_LEARNED:
        return np.eye(train.shape[1])
    summaries = train[:, :learned]
    _, singular, directions = np.linalg.svd(
        (summaries - summaries.mean(axis=0)) / np.sqrt(len(train)), full_matrices=False
    )
    kept = singular[:_MOST_LEARNED] > _FLOOR * singular[0]
    turn = np.zeros((train.shape[1], int(kept.sum()) + few))
    turn[:learned, : int(kept.sum())] = (
        directions[:_MOST_LEARNED][kept] / singular[:_MOST_LEARNED][kept, None]
    ).T
    turn[learned:, int(kept.sum()) :] = np.eye(few)
    return turn


def normal_scores(columns: F) -> tuple[F, F]:
    """At most 256 values of each column in order, the last repeated where there are fewer, and the normal
    scores of their middle ranks.
    """
    n = len(columns)
    found = []
    for column in columns.T:
        values, counts = np.unique(column, return_counts=True)
        scores = ndtri((np.cumsum(counts) - counts / 2) / n)
        chosen = np.unique(np.linspace(0, len(values) - 1, _MOST_VALUES).round().astype(np.int64))
        padded = np.concatenate([chosen, np.full(_MOST_VALUES - len(chosen), len(values) - 1)])
        found.append((values[padded], scores[padded]))
    return np.column_stack([values for values, _ in found]), np.column_stack([scores for _, scores in found])
