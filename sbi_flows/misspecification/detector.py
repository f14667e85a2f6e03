"""Could the simulator have made this data set? One p-value of two statistics, known for each observation
without simulating.

    remoteness   how far v(y) lies from the training simulations (`misspecification/cloud.py`)
    log odds     of a critic that y is distorted (`misspecification/critic.py`), on v(y) and, for series, on
    how each value follows the last

Each is put on the scale of its law over simulations that were kept apart, z = Phi^-1(F(.)) with a straight
line beyond them. The larger of both, remoteness less 1/2, is ranked among the same of those simulations: the
share of them below is uniform under the prior predictive. The 1/2 gives most of the false alarms to the
critic, which sees more with them; what is truly remote is so by far more than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.misspecification.cloud import SAME, TrainingCloud, normal_scores, representation
from sbi_flows.misspecification.critic import Critic
from sbi_flows.misspecification.dynamics import dynamics_statistics
from sbi_flows.misspecification.series import SHORTEST
from sbi_flows.nets.scaling import Scaler
from sbi_flows.verdict import Level, Verdict

CAUTION_AT, DISTRUST_AT, FAR = 0.01, 0.001, 1.5
_HANDICAP = np.array([0.5, 0.0])
_UNLIKE = (
    "are negative or fractional, which the simulated counts never are",
    "are zero or negative, which the simulated ones never are",
    "differ from the one value that the simulations have there",
)
_ADVICE = (
    "Check the data and their units, then the prior and the simulator, by drawing from the prior predictive."
)


@dataclass(frozen=True)
class Recognition:
    """kinds: names of the distortions; of the simulations kept apart: statistics (m, 2), remoteness and log
    odds, each sorted;
    together (m,): sorted.
    """

    cloud: TrainingCloud
    critic: Critic
    kinds: tuple[str, ...]
    statistics: F
    together: F

    @classmethod
    def of(
        cls,
        train: Float[np.ndarray, "n k"],
        held_out: Float[np.ndarray, "m k"],
        spoiled: Float[np.ndarray, "l k"],
        labels: Int[np.ndarray, " l"],
        kinds: tuple[str, ...],
        *,
        learned: int,
        placed: int,
        seed: int,
        limit_seconds: float | None = None,
    ) -> Recognition:
        """From features of training rows, of rows kept apart and of distorted training rows, whose kinds are
        the labels.

        The cloud is of the first `placed` columns, the first `learned` of which are summaries; seed,
        limit_seconds: of training the critic.
        """
        cloud = TrainingCloud.of(train[:, :placed], learned)
        critic = Critic.of(train, spoiled, labels, seed, limit_seconds)
        statistics = np.column_stack([cloud.distance(held_out[:, :placed]), critic.log_odds(held_out)])
        found = cls(cloud, critic, kinds, np.sort(statistics, axis=0), np.zeros(0))
        return cls(cloud, critic, kinds, found.statistics, np.sort(found._scores(statistics).max(axis=1)))

    def _scores(self, statistics: F) -> F:
        values, scores = normal_scores(self.statistics)
        beyond = statistics - np.clip(statistics, values[0], values[-1])
        spread = self.statistics.std(axis=0)
        placed = [np.interp(x, *known) for x, *known in zip(statistics.T, values.T, scores.T, strict=True)]
        return np.asarray(np.column_stack(placed) + beyond / np.where(spread > 0, spread, 1.0) - _HANDICAP)

    def judge(
        self, features: Float[np.ndarray, "rows k"], unlike: Int[np.ndarray, "rows 3"]
    ) -> list[Verdict]:
        """The verdict on each observation. unlike: how many of its values no simulation gave, of the three
        kinds of `Scaler.unlike`.
        """
        placed = features[:, : self.cloud.turn.shape[0]]
        statistics = np.column_stack([self.cloud.distance(placed), self.critic.log_odds(features)])
        scores = self._scores(statistics)
        return [self._verdict(*row) for row in zip(statistics, scores, features, unlike, strict=True)]

    def _verdict(self, statistics: F, scores: F, features: F, unlike: NDArray[np.int64]) -> Verdict:
        m = len(self.together)
        below = int(np.searchsorted(self.together, scores.max() - SAME * (1 + abs(scores.max()))))
        quantile, p = below / m, (1 + m - below) / (1 + m)
        furthest = float(self.statistics[-1, 0])
        times = statistics[0] / furthest if furthest > 0 else (1.0 if statistics[0] == 0 else np.inf)
        called = p <= CAUTION_AT or (times > 1 and below == m)
        reasons: list[str] = []
        if times > 1 and called:
            reasons.append(
                f"the observation lies outside the training cloud: it is {times:.3g} times as far from the "
                f"nearest simulations as the "
                f"furthest of {m:,} simulated data sets"
            )
        elif called and scores[0] >= scores[1]:
            reasons.append(
                "the observation lies at the edge of the training cloud: "
                f"{self._share_below(statistics, 0):.2%} of simulated data sets lie nearer to it"
            )
        if called and (scores[1] > scores[0] or self._share_below(statistics, 1) >= 1 - CAUTION_AT):
            reasons.append(
                f"the data look distorted, most like {self.kinds[self.critic.kind(features)]}: "
                f"{self._share_below(statistics, 1):.2%} of "
                "simulated data sets look less so"
            )
        reasons += [
            f"{n} of its values {what}" for n, what in zip(unlike.tolist(), _UNLIKE, strict=True) if n
        ]
        if not reasons:
            return Verdict(
                "trust",
                f"the observation lies within the training cloud (quantile {quantile:.3f} of simulated data "
                f"sets).",
                quantile,
            )
        level: Level = "do not trust" if times > FAR or p <= DISTRUST_AT or unlike[-1] else "caution"
        return Verdict(
            level, f"{'; '.join(reasons)}. The network has seen nothing like it there. {_ADVICE}", quantile
        )

    def _share_below(self, statistics: F, which: int) -> float:
        return float(np.searchsorted(self.statistics[:, which], statistics[which]) / len(self.statistics))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The numbers, for a file."""
        parts = {"cloud": self.cloud.arrays(), "critic": self.critic.arrays()}
        named = {f"{part}/{name}": value for part, arrays in parts.items() for name, value in arrays.items()}
        return {**named, "statistics": self.statistics, "together": self.together}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], kinds: tuple[str, ...]) -> Recognition:
        """What `arrays` gave."""

        def part(name: str) -> dict[str, NDArray[Any]]:
            return {
                key.removeprefix(f"{name}/"): value
                for key, value in arrays.items()
                if key.startswith(f"{name}/")
            }

        return cls(
            TrainingCloud(**part("cloud")),
            Critic.from_arrays(part("critic")),
            kinds,
            arrays["statistics"],
            arrays["together"],
        )


def recognition_features(
    summaries: torch.Tensor, scaled: Float[np.ndarray, "rows *event"], scaler: Scaler
) -> tuple[Float[np.ndarray, "rows k"], int]:
    """What both statistics look at, one row a data set, and how many of the columns, the first, the cloud is
    of.
    """
    placed = representation(summaries, scaled, scaler)
    if scaler.shared and scaled.shape[1] >= SHORTEST:
        return np.concatenate([placed, dynamics_statistics(scaled)], axis=1), placed.shape[1]
    return placed, placed.shape[1]
