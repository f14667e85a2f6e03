"""A verdict: how far an answer can be believed, as a level and its reasons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Level = Literal["trust", "caution", "do not trust"]
LEVELS: tuple[Level, ...] = ("trust", "caution", "do not trust")


@dataclass(frozen=True)
class Verdict:
    """Whether to believe an answer, and why.

    level: "trust", "caution" or "do not trust".
    text: the reasons and the next step.
    quantile: the fraction of simulated data sets closer to the other simulations than the observation is; NaN
        where it does not apply.
    of_data: the level of the data alone, where a fault of the fit lowers it.
    """

    level: Level
    text: str
    quantile: float = float("nan")
    of_data: Level | None = None

    @property
    def ok(self) -> bool:
        """Whether the level is "trust"."""
        return self.level == "trust"

    def at_most(self, level: Level, why: str) -> Verdict:
        """The same, no better than `level`, with why."""
        return replace(self, level=worse(self.level, level), text=f"{self.text} {why}")

    def __str__(self) -> str:
        return f"{self.level}: {self.text}"


def worse(*levels: Level) -> Level:
    """The worst of some levels."""
    return max(levels, key=LEVELS.index)


def worst(verdicts: list[Verdict]) -> Verdict:
    """One verdict for several observations: the worst level, and how many have each."""
    if len(verdicts) == 1:
        return verdicts[0]
    levels = [verdict.level for verdict in verdicts]
    level = worse(*levels)
    counts = ", ".join(f"{levels.count(name)} {name}" for name in LEVELS if name in levels)
    first = levels.index(level)
    text = f"of {len(verdicts)} observations: {counts}. Observation {first}: {verdicts[first].text}"
    return Verdict(level, text, float(np.max([verdict.quantile for verdict in verdicts])))
