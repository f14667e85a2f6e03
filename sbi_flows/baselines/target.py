"""What ABC aims at: the summaries of one observation, and those of simulations in the same form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.errors import SettingsError
from sbi_flows.problem.observation import as_observed
from sbi_flows.problem.simulator import Simulator
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.simulation.stand_in import simulator_or_stand_in


@dataclass(frozen=True, eq=False)
class Target:
    """One observation and its summaries (k,).

    observed: y as it travels, with NaN where nothing was observed. Where the simulator declares no summaries,
    they are the values that were observed.
    """

    simulator: Simulator
    observed: F
    summaries: F = field(init=False)
    _there: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        summaries = self.simulator.compute_summaries(self.observed[None])[0]
        there = np.full(summaries.shape, True)
        if self.simulator.summaries is None:
            there = ~np.isnan(summaries)
        object.__setattr__(self, "summaries", summaries[there])
        object.__setattr__(self, "_there", there)

    @classmethod
    def of(cls, simulator: object, y_obs: Any, simulations: object, who: str) -> Target:
        """The target of the function `who`. simulations: None where they are yet to be made; else the
        simulator may be None.

        Raises `SettingsError`, `ShapeError`, `ObservationError`, `PriorError`.
        """
        if simulations is not None and not isinstance(simulations, Simulations):
            made = "made by sf.simulate, sf.read_bank(path) or sf.Simulations.from_arrays(prior, theta, y)"
            raise SettingsError(f"simulations must be {made}, got {type(simulations).__name__}.")
        if y_obs is None:
            raise SettingsError(f"{who} needs the observed data: pass y_obs=.")
        found = simulator_or_stand_in(simulator, simulations, who)
        if simulations is not None:
            simulations.check_matches(found.prior, found.event_shape)
        return cls(found, found.check_observation(y_obs, gaps=True))

    def summarise(self, y: NDArray[Any]) -> F:
        """Summaries (n, k) of simulations (n, *event), of which what is missing in the observation is left
        out. Where none are declared, the median stands for what a simulation itself leaves out.
        """
        summaries = self.simulator.compute_summaries(as_observed(y, self.observed))[:, self._there]
        if self.simulator.summaries is None and self.simulator.missing and np.isnan(summaries).any():
            seen = np.where(np.isnan(summaries).all(axis=0), 0.0, summaries)
            summaries = np.where(np.isnan(seen), np.nanmedian(seen, axis=0), seen)
        return summaries
