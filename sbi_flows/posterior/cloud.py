"""The training cloud: where the simulated data lie in the space of summaries, so that an observation can be placed in it.

A data set is represented by v(y): the learned summaries beside plain statistics of the scaled data (the data themselves, where they are
few), whitened. Its remoteness is the mean distance to the 10 nearest of up to 4,000 training simulations (0 where they coincide, as
discrete data do); the reference is the same statistic over up to 5,000 simulations that were kept apart, so the share of those that are
nearer is a p-value with uniform law under the prior predictive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from sbi_flows.draws import Level, Verdict
from sbi_flows.nets.scaling import Scaler

F = NDArray[np.float64]

_NEIGHBOURS = 10
_MOST_REFERENCE, MOST_HELD_OUT = 4000, 5000
_FEW_COLUMNS = 16
_FLOOR = 1e-6
_SAME = 1e-6
CAUTION_AT, DISTRUST_AT, FAR = 0.01, 0.001, 1.5


@dataclass(frozen=True)
class TrainingCloud:
    """centre (k,), whiten (k, r): the whitening; reference (m, r): training simulations; remoteness: sorted, of those kept apart."""

    centre: F
    whiten: F
    reference: F
    remoteness: F

    @classmethod
    def of(cls, train: F, held_out: F) -> TrainingCloud:
        """From representations v of training rows and of rows kept apart, each (rows, k)."""
        reference = train[:_MOST_REFERENCE]
        centre = reference.mean(axis=0)
        _, singular, directions = np.linalg.svd((reference - centre) / np.sqrt(max(len(reference) - 1, 1)), full_matrices=False)
        kept = singular > _FLOOR * singular[0]
        whiten = (directions[kept] / singular[kept, None]).T
        cloud = cls(centre, whiten, (reference - centre) @ whiten, np.zeros(0))
        return cls(centre, whiten, cloud.reference, np.sort(cloud.distance(held_out[:MOST_HELD_OUT])))

    def distance(self, v: Float[np.ndarray, "rows k"]) -> Float[np.ndarray, " rows"]:
        """The remoteness of each row of v."""
        points = (v - self.centre) @ self.whiten
        nearest = min(_NEIGHBOURS, len(self.reference))
        lengths = np.square(self.reference).sum(axis=1)
        out = np.empty(len(points))
        for start in range(0, len(points), 512):
            part = points[start : start + 512]
            squares = np.square(part).sum(axis=1)[:, None] - 2 * part @ self.reference.T + lengths
            chosen = np.argpartition(squares, nearest - 1, axis=1)[:, :nearest]
            lengths_apart = np.linalg.norm(part[:, None] - self.reference[chosen], axis=-1)
            out[start : start + 512] = np.where(lengths_apart > _SAME, lengths_apart, 0.0).mean(axis=1)
        return out

    def judge(self, v: Float[np.ndarray, " k"], unlike_counts: int) -> Verdict:
        """The verdict on one observation. `unlike_counts`: how many of its values no simulated count could take."""
        remoteness = float(self.distance(v[None])[0])
        held_out = len(self.remoteness)
        nearer = int(np.searchsorted(self.remoteness, remoteness * (1 - _SAME)))
        quantile, p = nearer / held_out, (1 + held_out - nearer) / (1 + held_out)
        furthest = float(self.remoteness[-1])
        times = remoteness / furthest if furthest > 0 else (1.0 if remoteness == 0 else np.inf)
        reasons: list[str] = []
        far = times > FAR or p <= DISTRUST_AT
        if times > 1:
            reasons.append(
                f"the observation lies outside the training cloud: it is {times:.3g} times as far from the nearest simulations as the "
                f"furthest of {held_out:,} simulated data sets"
            )
        elif p <= CAUTION_AT:
            reasons.append(
                f"the observation lies at the edge of the training cloud: {quantile:.2%} of simulated data sets lie nearer to it"
            )
        if unlike_counts:
            reasons.append(f"{unlike_counts} of its values are negative or fractional, which the simulated counts never are")
        if not reasons:
            return Verdict(
                "trust", f"the observation lies within the training cloud (quantile {quantile:.3f} of simulated data sets).", quantile
            )
        level: Level = "do not trust" if far else "caution"
        advice = "Check the data and their units, then the prior and the simulator, by drawing from the prior predictive."
        return Verdict(level, f"{'; '.join(reasons)}. The network has seen nothing like it there. {advice}", quantile)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The numbers, for a file."""
        return {name: getattr(self, name) for name in ("centre", "whiten", "reference", "remoteness")}


def representation(summaries: torch.Tensor, scaled: Float[np.ndarray, "rows *event"], scaler: Scaler) -> Float[np.ndarray, "rows k"]:
    """v(y): learned summaries and plain statistics, one row a data set."""
    learned = summaries.numpy().astype(np.float64)
    if not scaler.shared and scaled.shape[1] <= _FEW_COLUMNS:
        return np.concatenate([learned, scaled], axis=1)
    parts = [scaled.mean(axis=1), scaled.std(axis=1), scaled.min(axis=1), scaled.max(axis=1)]
    if scaler.shared:
        parts.append(np.abs(np.diff(scaled, axis=1)).mean(axis=1))
    return np.concatenate([learned, *(part.reshape(len(scaled), -1) for part in parts)], axis=1)
