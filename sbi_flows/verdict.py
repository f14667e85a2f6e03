"""A verdict: how far an answer can be believed, as a level and its reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Level = Literal["trust", "caution", "do not trust"]
LEVELS: tuple[Level, ...] = ("trust", "caution", "do not trust")


@dataclass(frozen=True)
class Verdict:
    """Whether to believe an answer, in words.

    level: "trust", "caution" or "do not trust"; text: the reasons and the next step; quantile: the share of
    simulated data sets that lie nearer to the rest of the simulations than the observation does (NaN where it
    does not apply).
    """

    level: Level
    text: str
    quantile: float = float("nan")

    @property
    def ok(self) -> bool:
        """Whether the level is "trust"."""
        return self.level == "trust"

    def __str__(self) -> str:
        return f"{self.level}: {self.text}"


def worst(verdicts: list[Verdict]) -> Verdict:
    """One verdict for several observations: the worst level, with the count of each."""
    if len(verdicts) == 1:
        return verdicts[0]
    level = max((verdict.level for verdict in verdicts), key=LEVELS.index)
    counts = ", ".join(
        f"{sum(v.level == name for v in verdicts)} {name}"
        for name in LEVELS
        if any(v.level == name for v in verdicts)
    )
    first = next(i for i, verdict in enumerate(verdicts) if verdict.level == level)
    quantile = float(np.max([verdict.quantile for verdict in verdicts]))
    return Verdict(
        level,
        f"of {len(verdicts)} observations: {counts}. Observation {first}: {verdicts[first].text}",
        quantile,
    )
