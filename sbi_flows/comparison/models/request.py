"""What `sf.compare_models` is asked for, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sbi_flows.arrays import F, integer, is_real, real
from sbi_flows.errors import SettingsError, ShapeError
from sbi_flows.npe.settings import FitSettings
from sbi_flows.posterior.posterior import Posterior, check_pair
from sbi_flows.problem.events import Events
from sbi_flows.problem.observation import as_observation
from sbi_flows.problem.simulator import Simulator
from sbi_flows.simulation.settings import SimulateSettings
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.simulation.stand_in import simulator_or_stand_in

_LEAST_SIMULATIONS = 100
_WHO = "compare_models"


@dataclass(frozen=True, kw_only=True)
class ModelChoiceSettings:
    """How `sf.compare_models` works: what is rarely changed.

    networks: size, number and training of the classifier's networks; a flow there is of no use and refused.
    abc_quantile: the share of all simulations that ABC accepts, though at least 200 simulations.
    evidence: whether the evidence is computed where every model has a log_likelihood.
    evidence_ess: the effective sample size wanted of each model: the error of its log evidence is about
        1 / sqrt(evidence_ess) nats.
    evidence_draws: evaluations of each likelihood at most.
    simulate: how simulations are made. Raises `SettingsError`.
    """

    networks: FitSettings = field(default_factory=FitSettings)
    abc_quantile: float = 0.01
    evidence: bool = True
    evidence_ess: int = 400
    evidence_draws: int = 20_000
    simulate: SimulateSettings | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.networks, FitSettings):
            raise SettingsError(f"networks must be sf.FitSettings(...), got {type(self.networks).__name__}.")
        if self.networks.flow != "auto":
            raise SettingsError(
                f"networks.flow={self.networks.flow!r}: a classifier has no flow. Leave it out."
            )
        real("abc_quantile", self.abc_quantile, positive=True, most=1)
        if not isinstance(self.evidence, bool):
            raise SettingsError(f"evidence must be True or False, got {self.evidence!r}.")
        integer("evidence_ess", self.evidence_ess, 100)
        integer("evidence_draws", self.evidence_draws, 1000)
        if not (self.simulate is None or isinstance(self.simulate, SimulateSettings)):
            raise SettingsError(f"simulate must be sf.SimulateSettings(...), got {self.simulate!r}.")


@dataclass(frozen=True, eq=False)
class Models:
    """The models, by name, and one observation.

    given: simulations that were made before, by name. posteriors: of models, by name. prior (K,): prior
    probabilities of the models. events: what one y is made of; values may be missing where some of the
    observation, or of a simulator, are. observed (*event,): y, NaN where nothing was observed.
    """

    simulators: Mapping[str, Simulator]
    given: Mapping[str, Simulations]
    posteriors: Mapping[str, Posterior]
    prior: F
    events: Events
    observed: F

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the models, in the order in which they were given."""
        return tuple(self.simulators)


def checked_models(
    models: Any, y_obs: Any, simulations: Any, posteriors: Any, prior_probabilities: Any
) -> Models:
    """Raises `SettingsError` for what are not models, `ShapeError` where they make data of different shapes,
    and as `Simulator.check_observation`.
    """
    if not isinstance(models, Mapping) or len(models) < 2:
        got = f"{len(models)}" if isinstance(models, Mapping) else type(models).__name__
        raise SettingsError(
            f"{_WHO} takes two models or more, as {{'ricker': simulator, 'gompertz': another}}, got {got}."
        )
    if not all(isinstance(name, str) and name for name in models):
        raise SettingsError(f"models are named by texts, got {', '.join(map(repr, models))}.")
    given = _by_name("simulations", simulations, models)
    simulators = {
        name: simulator_or_stand_in(model, given.get(name), f"{_WHO}: model {name!r}")
        for name, model in models.items()
    }
    for name, bank in given.items():
        simulator = simulators[name]
        if not isinstance(bank, Simulations):
            raise SettingsError(
                f"simulations[{name!r}] must come from sf.simulate or sf.read_bank(path), got "
                f"{type(bank).__name__}."
            )
        bank.check_matches(simulator.prior, simulator.event_shape, simulator.events)
    fitted = _by_name("posteriors", posteriors, models)
    for name, posterior in fitted.items():
        check_pair(posterior, simulators[name], f"{_WHO}: posteriors[{name!r}]")
    events = _same_events(simulators)
    if y_obs is None:
        raise SettingsError(f"{_WHO} needs the observed data: pass y_obs=.")
    observed = _one_observation(y_obs, events)
    masked = bool(np.isnan(observed).any()) or any(one.missing for one in simulators.values())
    events = events.with_missing() if masked else events
    prior = _prior_of_models(prior_probabilities, tuple(simulators))
    return Models(simulators, given, fitted, prior, events, observed)


def checked_number(n: object, minutes: object, models: Models) -> int | None:
    """Simulations per model, or None by the clock. Raises `SettingsError`."""
    if n is not None and minutes is not None:
        raise SettingsError("give one of n_simulations and minutes, not both.")
    if minutes is not None:
        real("minutes", minutes, positive=True)
        return None
    return 10_000 if n is None else integer("n_simulations", n, _LEAST_SIMULATIONS)


def _by_name(what: str, given: Any, models: Mapping[str, Any]) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise SettingsError(f"{what} must be given by the names of the models, got {type(given).__name__}.")
    if unknown := [name for name in given if name not in models]:
        raise SettingsError(
            f"{what} names {', '.join(map(repr, unknown))}; the models are {', '.join(map(repr, models))}."
        )
    return dict(given)


def _same_events(simulators: Mapping[str, Simulator]) -> Events:
    """The events of all models, as the first one that says what they are declares them."""
    (first, one), *others = simulators.items()
    for name, other in others:
        if not one.events.same_arrays(other.events):
            raise ShapeError(
                f"models are compared on the same data: {first!r} makes y of {one.events.describe()}, and "
                f"{name!r} of {other.events.describe()}. Let both return the same arrays."
            )
    every = [simulator.events for simulator in simulators.values()]
    return next((found for found in every if any(table.kind for table in found.tables)), every[0])


def _one_observation(y_obs: Any, events: Events) -> F:
    """Raises `SettingsError` for a stack."""
    try:
        return as_observation(y_obs, events.with_missing())
    except ShapeError:
        try:
            stack = as_observation(y_obs, events.with_missing(), stack=True)
        except ShapeError:
            stack = np.zeros(events.shape)
        if stack.ndim > len(events.shape):
            raise SettingsError(
                f"{_WHO} takes one observation, and these are {len(stack)}. Compare the models for one of "
                "them; .predict(y) of the result then gives the classifier's probabilities for all."
            ) from None
        raise


def _prior_of_models(given: Any, names: tuple[str, ...]) -> F:
    """Prior probabilities in the order of the names; equal ones if none are given. Raises `SettingsError`."""
    if given is None:
        return np.full(len(names), 1 / len(names))
    values = _by_name("prior_probabilities", given, dict.fromkeys(names))
    if set(values) != set(names) or not all(is_real(p) and p > 0 for p in values.values()):
        raise SettingsError(
            f"prior_probabilities must give a positive number for each of {', '.join(map(repr, names))}, got "
            f"{given!r}. Leave out a model that is impossible."
        )
    prior = np.array([float(values[name]) for name in names])
    if abs(prior.sum() - 1) > 1e-6:
        raise SettingsError(f"prior_probabilities must sum to 1, got {prior.sum():.6g}.")
    return np.asarray(prior / prior.sum())
