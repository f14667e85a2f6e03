"""Refining without a likelihood: rounds of simulations where the present posterior has its mass."""

from __future__ import annotations

from sbi_flows.arrays import F
from sbi_flows.draws import Draws
from sbi_flows.errors import SettingsError
from sbi_flows.posterior.amortised import Amortised
from sbi_flows.posterior.request import RefineRequest
from sbi_flows.problem.simulator import Simulator


def refine_by_rounds(posterior: Amortised, y: F, simulator: Simulator, request: RefineRequest) -> Draws:
    """Draws from a posterior trained on for y (*event,). Raises `SettingsError`."""
    raise SettingsError(
        f"{simulator.name} has no log_likelihood, and refining without one is not there yet. Give "
        "@sf.simulator(prior, log_likelihood=...), exact or the log of an unbiased estimate."
    )
