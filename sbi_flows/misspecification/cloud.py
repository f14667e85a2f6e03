"""The training cloud: where the simulated data lie in the space of summaries, so that an observation can be
located in it.

A data set is represented by v(y): the leading principal components of the learned summaries and statistics of
the scaled data (`features`), as normal scores, whitened. Its remoteness is the mean distance to the 10
nearest of up to 4,000 training simulations (0 where they coincide, as discrete data do); the reference is the
same statistic over up to 5,000 held-out simulations (`detector`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.misspecification.scores import NormalScores

_NEIGHBOURS = 10
_MOST_REFERENCE, _ROWS_AT_ONCE = 4000, 512
_MOST_LEARNED = 6
_FLOOR = 1e-6
SAME = 1e-6
_NEVER_SEEN, _MOST = 100.0, 1e100


@dataclass(frozen=True)
class TrainingCloud:
    """Where v(y) lies among simulated ones.

    turn (k, c): to the columns that are looked at.
    values, scores (q, c), spread (c,): their `NormalScores`.
    centre (c,), whiten (c, r): the whitening.
    reference (m, r): training simulations.
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
        """From features of training rows, (rows, k), `learned` summaries first."""
        train = train[:_MOST_REFERENCE]
        turn = _leading(train, learned)
        known, none = NormalScores.of(train @ turn), np.zeros(turn.shape[1])
        unwhitened = cls(turn, known.values, known.scores, known.spread, none, np.eye(len(none)), none)
        points = unwhitened._points(train)
        centre = points.mean(axis=0)
        scaled = (points - centre) / np.sqrt(max(len(points) - 1, 1))
        _, singular, directions = np.linalg.svd(scaled, full_matrices=False)
        kept = singular > _FLOOR * singular[0]
        whiten = (directions[kept] / singular[kept, None]).T
        return replace(unwhitened, centre=centre, whiten=whiten, reference=(points - centre) @ whiten)

    def _points(self, v: F) -> F:
        scores = NormalScores(self.values, self.scores, self.spread)(v @ self.turn)
        return np.asarray((scores - self.centre) @ self.whiten)

    @np.errstate(over="ignore", invalid="ignore")
    def distance(self, v: Float[np.ndarray, "rows k"]) -> Float[np.ndarray, " rows"]:
        """The remoteness of each row of v, at most 1e100."""
        points = self._points(v)
        nearest = min(_NEIGHBOURS, len(self.reference))
        lengths = np.square(self.reference).sum(axis=1)
        out = np.empty(len(points))
        for start in range(0, len(points), _ROWS_AT_ONCE):
            part = points[start : start + _ROWS_AT_ONCE]
            squares = np.square(part).sum(axis=1)[:, None] - 2 * part @ self.reference.T + lengths
            chosen = np.argpartition(squares, nearest - 1, axis=1)[:, :nearest]
            distances = np.linalg.norm(part[:, None] - self.reference[chosen], axis=-1)
            out[start : start + _ROWS_AT_ONCE] = np.where(distances > SAME, distances, 0.0).mean(axis=1)
        out += _NEVER_SEEN * self._never_seen(v)
        return np.asarray(np.nan_to_num(out, nan=_MOST, posinf=_MOST).clip(max=_MOST))

    def _never_seen(self, v: F) -> F:
        """How many statistics that were one number in every simulation, such as the share of repeated values,
        differ from it.
        """
        constant = self.values[0] == self.values[-1]
        offsets = np.abs((v @ self.turn - self.values[0])[:, constant])
        differ = offsets > SAME * (1 + np.abs(self.values[0, constant]))
        return np.asarray(differ.sum(axis=1), dtype=np.float64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The numbers, for a file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _leading(train: F, learned: int) -> F:
    """The matrix to the leading principal components of the first `learned` columns, in units of their sd,
    and to all other columns.
    """
    others = train.shape[1] - learned
    if learned <= _MOST_LEARNED:
        return np.eye(train.shape[1])
    summaries = train[:, :learned]
    centred = (summaries - summaries.mean(axis=0)) / np.sqrt(len(train))
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    singular, directions = singular[:_MOST_LEARNED], directions[:_MOST_LEARNED]
    kept = singular > _FLOOR * singular[0]
    components = int(kept.sum())
    turn = np.zeros((train.shape[1], components + others))
    turn[:learned, :components] = (directions[kept] / singular[kept, None]).T
    turn[learned:, components:] = np.eye(others)
    return turn
