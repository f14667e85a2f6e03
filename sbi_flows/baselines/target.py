"""What ABC aims at: the summaries of one observation, and those of simulations in the same form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.errors import ObservationError, SettingsError
from sbi_flows.problem.observation import as_observed
from sbi_flows.problem.simulator import Simulator
from sbi_flows.problem.summaries import Summaries
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.simulation.stand_in import simulator_or_stand_in

DATA, DECLARED = "data", "declared"


@dataclass(frozen=True, eq=False)
class Target:
    """One observation and its summaries (k,).

    observed: y as it travels, with NaN where nothing was observed.
    function: y (n, *event) -> (n, k); None for y itself, of which the summaries are the values observed.
    fill: (k,) what stands for a value of y that a simulation leaves out; None for the median of those that
        are summarised together. filled: the share of values for which it stands, where that is known.
    """

    simulator: Simulator
    observed: F
    function: Callable[[NDArray[Any]], F] | None
    fill: F | None = None
    filled: float = 0.0
    summaries: F = field(init=False)
    _there: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        summaries = self._computed(self.observed[None])[0]
        there = np.full(summaries.shape, True) if self.function is not None else ~np.isnan(summaries)
        object.__setattr__(self, "summaries", summaries[there])
        object.__setattr__(self, "_there", there)

    @classmethod
    def of(
        cls, simulator: object, y_obs: Any, simulations: object, who: str, summaries: object = None
    ) -> Target:
        """The target of the function `who`. simulations: None where they are yet to be made; else the
        simulator may be None.

        summaries: None or "declared" for those that the simulator declares, and for y itself where it
            declares none; "data" for y itself; a function of events (n, *event) to (n, k); or what has one,
            called summaries, such as a posterior.

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
        return cls(found, _observed(found, y_obs), _function(found, summaries))

    def seen_by(self, function: Callable[[NDArray[Any]], F] | None) -> Target:
        """The same observation by other summaries; None for y itself."""
        return replace(self, function=function, fill=None, filled=0.0)

    def filled_from(self, y: NDArray[Any]) -> Target:
        """The same, where a value that a simulation leaves out is the median of that value in y, so that
        `summarise` depends on each row alone.
        """
        if self.function is not None or not self.simulator.missing:
            return self
        values = self._computed(as_observed(y, self.observed))[:, self._there]
        return replace(self, fill=_medians(values), filled=float(np.isnan(values).mean()))

    def summarise(self, y: NDArray[Any]) -> F:
        """Summaries (n, k) of simulations (n, *event), of which what is missing in the observation is left
        out.
        """
        values = self._computed(as_observed(y, self.observed))
        values = values if self._there.all() else values[:, self._there]
        if self.function is None and self.simulator.missing and np.isnan(values).any():
            fill = _medians(values) if self.fill is None else self.fill
            values = np.where(np.isnan(values), fill, values)
        return values

    def _computed(self, y: NDArray[Any]) -> F:
        if self.function is None:
            return np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        return self.function(y)


def _medians(values: F) -> F:
    """Column by column, of what is there; 0 where nothing is."""
    seen = np.where(np.isnan(values).all(axis=0), 0.0, values)
    return np.asarray(np.nanmedian(seen, axis=0))


def _function(simulator: Simulator, summaries: object) -> Callable[[NDArray[Any]], F] | None:
    """The function of y, None for y itself. Raises `SettingsError`."""
    if summaries is None or (isinstance(summaries, str) and summaries == DECLARED):
        if summaries is not None and simulator.summaries is None:
            raise SettingsError(
                f"{simulator.name} declares no summaries: pass @sf.simulator(prior, summaries=...), or "
                f"summaries={DATA!r} for the data themselves."
            )
        return simulator.declared_summaries
    if isinstance(summaries, str) and summaries == DATA:
        return None
    given = getattr(summaries, "summaries", summaries)
    if isinstance(summaries, str) or not callable(given):
        raise SettingsError(
            f"summaries must be {DECLARED!r}, {DATA!r}, a function of events (n, *event) to (n, k) or a "
            f"posterior, got {summaries!r}."
        )
    name = getattr(given, "__qualname__", type(given).__name__)
    return Summaries(given, name, simulator.events if simulator.events.named else None)


def _observed(simulator: Simulator, y_obs: Any) -> F:
    """The observation, in which values may be missing. Raises `ShapeError` for a shorter one, unless the
    simulator says that values may be missing; `ObservationError`.
    """
    try:
        return simulator.check_observation(y_obs)
    except ObservationError:
        return simulator.check_observation(y_obs, gaps=True)
