"""Could the simulator have made this data set? One p-value of two statistics, for any observation, without
simulating.

    remoteness   how far the data lie from the training simulations (`cloud`)
    log odds     of a classifier that they are corrupted (`critic`); for series also by the steps

Each is put on the scale of its distribution over held-out simulations, as normal scores. The larger of both,
remoteness less 1/2, is ranked among the same of those simulations: the share of them below is uniform under
the prior predictive. The 1/2 gives most of the false alarms to the critic, which has more power; what is
truly remote exceeds it by far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.files import under
from sbi_flows.misspecification.cloud import SAME, TrainingCloud
from sbi_flows.misspecification.critic import Critic
from sbi_flows.misspecification.patterns import Patterns
from sbi_flows.misspecification.scores import NormalScores
from sbi_flows.nets.scaling import UNLIKE
from sbi_flows.verdict import Level, Verdict

CAUTION_AT, DISTRUST_AT, FAR = 0.01, 0.001, 1.5
_HANDICAP = np.array([0.5, 0.0])
_UNLIKE = (
    *UNLIKE,
    "declared summaries are not finite, which those of the simulations always are",
    "values are missing, which were never missing in training",
    "values are there, which were always missing in training",
    "values are missing beyond the most in training",
    "values lie in a gap beyond the longest in training",
    "values are there beyond the most in training",
)
_GRAVE = slice(2, 8)  # the first two, and the last, are a reason for caution
_ADVICE = (
    "Check the data and their units, then the prior and the simulator, by drawing from the prior predictive."
)


@dataclass(frozen=True, eq=False)
class Examples:
    """Features of data sets, one row per data set (`features`).

    train, held_out: of simulations. corrupted: of corrupted training simulations; labels: their kinds, as
    places in `kinds`.
    learned: how many columns, the first, are summaries. located: how many, the first, the training cloud is
    of.
    """

    train: Float[np.ndarray, "n k"]
    held_out: Float[np.ndarray, "m k"]
    corrupted: Float[np.ndarray, "l k"]
    labels: Int[np.ndarray, " l"]
    kinds: tuple[str, ...]
    learned: int
    located: int


@dataclass(frozen=True)
class Detector:
    """kinds: names of the corruptions.

    patterns: what was missing in training, where values may be missing.
    statistics (m, 2): remoteness and log odds of held-out simulations, each sorted; together (m,): the ranked
    one, sorted.
    """

    cloud: TrainingCloud
    critic: Critic
    kinds: tuple[str, ...]
    statistics: F
    together: F
    patterns: Patterns | None = None

    @classmethod
    def of(cls, examples: Examples, seed: int, limit_seconds: float | None = None) -> Detector:
        """seed, limit_seconds: of training the critic."""
        cloud = TrainingCloud.of(examples.train[:, : examples.located], examples.learned)
        critic = Critic.of(examples.train, examples.corrupted, examples.labels, seed, limit_seconds)
        located = examples.held_out[:, : examples.located]
        statistics = np.column_stack([cloud.distance(located), critic.log_odds(examples.held_out)])
        found = cls(cloud, critic, examples.kinds, np.sort(statistics, axis=0), np.zeros(0))
        together = np.sort(found._scores(statistics).max(axis=1))
        return cls(cloud, critic, examples.kinds, found.statistics, together)

    def _scores(self, statistics: F) -> F:
        return np.asarray(NormalScores.of(self.statistics)(statistics) - _HANDICAP)

    def verdicts(
        self, features: Float[np.ndarray, "rows k"], unlike: Int[np.ndarray, "rows kinds"]
    ) -> list[Verdict]:
        """The verdict on each observation. unlike: how many values no simulation gave, of each kind of
        `Scaler.unlike`, and perhaps how many declared summaries are not finite.
        """
        located = features[:, : self.cloud.turn.shape[0]]
        statistics = np.column_stack([self.cloud.distance(located), self.critic.log_odds(features)])
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
                f"the observation lies outside the training distribution: it is {times:.3g} times as far "
                f"from the nearest simulations as the furthest of {m:,} simulated data sets"
            )
        elif called and scores[0] >= scores[1]:
            reasons.append(
                "the observation lies at the edge of the training distribution: "
                f"{self._share_below(statistics, 0):.2%} of simulated data sets lie nearer to it"
            )
        if called and (scores[1] > scores[0] or self._share_below(statistics, 1) >= 1 - CAUTION_AT):
            reasons.append(
                f"the data look corrupted, most like {self.kinds[self.critic.kind(features)]}: "
                f"{self._share_below(statistics, 1):.2%} of simulated data sets look less so"
            )
        reasons += [f"{n} of its {what}" for n, what in zip(unlike.tolist(), _UNLIKE, strict=False) if n]
        if not reasons:
            text = (
                f"the observation lies within the training distribution (quantile {quantile:.3f} of "
                f"simulated data sets)."
            )
            return Verdict("trust", text, quantile)
        level: Level = (
            "do not trust" if times > FAR or p <= DISTRUST_AT or unlike[_GRAVE].any() else "caution"
        )
        text = f"{'; '.join(reasons)}. The network has seen nothing like it there. {_ADVICE}"
        return Verdict(level, text, quantile)

    def _share_below(self, statistics: F, which: int) -> float:
        return float(np.searchsorted(self.statistics[:, which], statistics[which]) / len(self.statistics))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The numbers, for a file."""
        parts = {"cloud": self.cloud.arrays(), "critic": self.critic.arrays()}
        if self.patterns is not None:
            parts["patterns"] = self.patterns.arrays()
        named = {f"{part}/{name}": value for part, arrays in parts.items() for name, value in arrays.items()}
        return {**named, "statistics": self.statistics, "together": self.together}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], kinds: tuple[str, ...]) -> Detector:
        """What `arrays` gave."""
        cloud, critic = TrainingCloud(**under("cloud", arrays)), Critic.from_arrays(under("critic", arrays))
        missing = under("patterns", arrays)
        patterns = Patterns(**missing) if missing else None
        return cls(cloud, critic, kinds, arrays["statistics"], arrays["together"], patterns)
