"""Which simulations a posterior has not been trained on: those of another seed, or beyond the last row used.

Pairs that were made elsewhere and have no name have no seed either: of those that it is trained on, a
posterior keeps digests of 64, by which the set is known again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.errors import SettingsError
from sbi_flows.simulation.from_arrays import GIVEN, marks
from sbi_flows.simulation.simulations import Simulations

SOME_PAIRS = "some_pairs"
_KEPT = 64


def some_pairs(simulations: Simulations) -> dict[str, list[str]]:
    """For the facts of a posterior: digests of pairs made elsewhere; nothing for other simulations."""
    usable = np.flatnonzero(simulations.ok)
    if simulations.simulator_name != GIVEN or not len(usable):
        return {}
    rows = usable[np.unique(np.linspace(0, len(usable) - 1, _KEPT).astype(int))]
    return {SOME_PAIRS: marks(*simulations.gather(rows))}


def held_out(simulations: Simulations, facts: Mapping[str, Any], n: int) -> tuple[F, NDArray[Any], int]:
    """theta and y of the first n usable rows that were not trained on, and how many before them failed.

    facts: of the posterior. Raises `SettingsError` where all rows, or pairs made elsewhere, were trained on.
    """
    first = _first_unused(simulations, facts)
    rows = first + np.flatnonzero(simulations.ok[first:])[:n]
    failed = int(rows[-1]) + 1 - first - len(rows) if len(rows) else len(simulations) - first
    theta, y = simulations.gather(rows)
    known = set(facts.get(SOME_PAIRS, ()))
    if known and (seen := len(known.intersection(marks(theta, y)))):
        raise SettingsError(
            f"the posterior was trained on these pairs: of {len(known)} that it remembers, {seen} are among "
            "them. Pass pairs that it has not seen."
        )
    return theta, y, failed


def _first_unused(simulations: Simulations, facts: Mapping[str, Any]) -> int:
    """The number of the first row that the posterior was not trained on."""
    same = (simulations.simulator_name, simulations.seed) == (facts["simulator"], facts["simulation_seed"])
    if not same or simulations.simulator_name == GIVEN:
        return 0
    used = int(facts["simulations"] + facts["failed"])
    if facts["minutes"] is not None or used >= len(simulations):
        raise SettingsError(
            f"the posterior was trained on these simulations: those of {facts['simulator']!r} with seed "
            f"{simulations.seed}. Simulate others with another seed, or go beyond row {used:,} of these."
        )
    return used
