"""Draws from a posterior that the simulator knows in closed form."""

from __future__ import annotations

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.errors import SettingsError, SimulatorContractError
from sbi_flows.problem.simulator import Simulator


def closed_form(simulator: Simulator, y: F, n: int, rng: np.random.Generator) -> F:
    """n draws (n, d) by the simulator's `exact_posterior`. Raises `SimulatorContractError`."""
    if simulator.exact_posterior is None:
        raise SettingsError(f"{simulator.name} has no exact_posterior.")
    values = np.asarray(simulator.exact_posterior(y, n, rng), dtype=np.float64)
    if values.shape != (n, simulator.prior.d):
        raise SimulatorContractError(
            f"{simulator.name}.exact_posterior: returned shape {values.shape}; wanted ({n}, "
            f"{simulator.prior.d})."
        )
    return values
