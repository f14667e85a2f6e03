"""Which of the methods of a comparison to believe, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sbi_flows.comparison.methods import ABC, ADJUSTED, EXACT, NEURAL, REFINED, SMC, SYNTHETIC
from sbi_flows.notes import Note
from sbi_flows.verdict import LEVELS, Verdict

_ORDER = (EXACT, REFINED, NEURAL, SMC, SYNTHETIC, ADJUSTED, ABC)  # at equal verdicts, the first
_HARD_TO_TELL = 0.55


class Preference(NamedTuple):
    """The method to believe, and why."""

    method: str
    why: Note


def preferred(verdicts: Mapping[str, Verdict], c2st: Mapping[str, float]) -> Preference:
    """The method with the best verdict; of equal ones, that with the fewest approximations.

    verdicts: of each method. c2st: from the exact posterior, where there is one.
    """
    methods = [method for method in _ORDER if method in verdicts]
    best = min(methods, key=lambda method: LEVELS.index(verdicts[method].level))
    alike = [method for method in methods if method != best and c2st.get(method, 1.0) < _HARD_TO_TELL]
    return Preference(best, Note("believe", method=best, level=verdicts[best].level, alike=alike))
