"""`sf.compare_models`: which of several simulators made the data."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from sbi_flows.arrays import F, real
from sbi_flows.baselines.target import Target
from sbi_flows.comparison.models.choice import ModelChoice
from sbi_flows.comparison.models.classifier import Classifier, learn_classifier
from sbi_flows.comparison.models.evidence import EvidenceRequest, evidence_of_models
from sbi_flows.comparison.models.likeness import Likeness
from sbi_flows.comparison.models.pool import Pool, simulations_of
from sbi_flows.comparison.models.predictions import Predictions
from sbi_flows.comparison.models.request import ModelChoiceSettings, Models, checked_models, checked_number
from sbi_flows.comparison.models.result import ModelComparison
from sbi_flows.comparison.models.shares import Nearest
from sbi_flows.comparison.models.verdict import ABC, ADJUSTED, CLASSIFIER, EVIDENCE
from sbi_flows.draws import Draws
from sbi_flows.errors import ObservationError, SbiFlowsError, SettingsError, TooFewSimulationsError
from sbi_flows.machine import torch_defaults
from sbi_flows.notes import Notes, Say
from sbi_flows.npe.request import Request
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.problem.simulator import Simulator
from sbi_flows.problem.summaries import Summaries
from sbi_flows.rng import check_seed
from sbi_flows.simulation.at import check_where
from sbi_flows.simulation.settings import Place
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.simulation.stand_in import stand_in

_SIMULATING, _TRAINING = 0.3, 0.35  # of the time; the rest is for detectors, ABC and evidence
_COMPARED, _DRAWS = 20, 1000


def compare_models(
    models: Mapping[str, Simulator | None],
    y_obs: Any,
    *,
    simulations: Mapping[str, Simulations] | None = None,
    n_simulations: int | None = None,
    minutes: float | None = None,
    prior_probabilities: Mapping[str, float] | None = None,
    posteriors: Mapping[str, Posterior] | None = None,
    seed: int = 0,
    settings: ModelChoiceSettings | None = None,
    say: Say | None = None,
    **place: Unpack[Place],
) -> ModelComparison:
    """Compare simulators as models of one observation: P(model | y), log Bayes factors, and whether any of
    the models looks like the data.

    By a classifier of simulations of all models, tested for calibration; by ABC; and, where every model has a
    log_likelihood, by the evidence. Models may have different priors and parameters; their data have one
    shape. Improper or vague priors make every Bayes factor meaningless: the prior is part of the model.

    models: simulators by name; None for a model of which simulations are given.
    y_obs: one observation. NaN is not observed: the models are then compared on what is.
    simulations: made before, by name of the model. n_simulations: to be made of each other one (10,000).
    minutes: instead, of wall-clock time for all of it; the result then depends on the clock.
    prior_probabilities: of the models, by name; equal ones if none are given. They enter by Bayes alone.
    posteriors: of models, by name, to propose from for the evidence; where there is none, a small one is
        fitted.
    settings: `sf.ModelChoiceSettings(...)`. say: called with a line of text before each step.
    place: executor, workers, time_limit, max_failures, as for `sf.simulate`.

    Raises `SettingsError`, `ShapeError`, `ObservationError`, `TooFewSimulationsError`, and what simulating
    and training raise. What a likelihood raises is not lost: `.notes` says it.
    """
    check_where(place)
    asked = _Asked(
        models=checked_models(models, y_obs, simulations, posteriors, prior_probabilities),
        settings=_checked(settings),
        seed=check_seed(seed),
        seconds=None if minutes is None else 60 * real("minutes", minutes, positive=True),
        notes=Notes(say),
    )
    n, clock = checked_number(n_simulations, minutes, asked.models), _Clock()
    banks = simulations_of(
        asked.models,
        n,
        asked.part(_SIMULATING) or 0,
        asked.seed,
        asked.notes,
        asked.settings.simulate,
        **place,
    )
    clock.stop("simulate")
    return _compared(asked, banks, clock)


@dataclass(frozen=True, eq=False)
class _Asked:
    """The models, and how they are compared. seconds: of all of it, by the clock."""

    models: Models
    settings: ModelChoiceSettings
    seed: int
    seconds: float | None
    notes: Notes

    def part(self, share: float) -> float | None:
        """A share of the seconds."""
        return None if self.seconds is None else share * self.seconds


def _compared(asked: _Asked, banks: dict[str, Simulations], clock: _Clock) -> ModelComparison:
    models, seed, notes = asked.models, asked.seed, asked.notes
    with torch_defaults():
        pool = Pool.of(banks, models, seed)
        if np.isnan(models.observed).any():
            notes.note("gaps of the observation")
        shared = shared_summaries(models, pool)
        request = Request(settings=asked.settings.networks, seed=seed, events=models.events, declared=shared)
        classifier = learn_classifier(pool, request, notes, asked.part(_TRAINING))
        clock.stop(CLASSIFIER)
        likeness = Likeness.of(pool, models.names, classifier, seed, asked.seconds)
        clock.stop("detectors")
    methods = {CLASSIFIER: _by_classifier(classifier, models)}
    target = _target(models, banks, shared)
    nearest = _by_abc(models, pool, target, asked.settings.abc_quantile, methods, notes)
    clock.stop(ABC)
    draws = _by_evidence(asked, banks, methods, clock) if asked.settings.evidence else {}
    for name, posterior in models.posteriors.items():
        if name not in draws:
            draws[name] = posterior.sample(models.events.unpack(models.observed), _DRAWS, seed=seed)
    predictions = Predictions.of(models, draws, seed, notes)
    clock.stop("predictions")
    return ModelComparison(
        models=models,
        methods=methods,
        classifier=classifier,
        likeness=likeness,
        nearest=nearest,
        predictions=predictions,
        counts={name: (len(bank), int(bank.ok.sum())) for name, bank in banks.items()},
        notes=tuple(notes),
        seconds=clock.parts,
        seed=seed,
    )


def _checked(settings: object) -> ModelChoiceSettings:
    if settings is None:
        return ModelChoiceSettings()
    if not isinstance(settings, ModelChoiceSettings):
        raise SettingsError(f"settings must be sf.ModelChoiceSettings(...), got {type(settings).__name__}.")
    return settings


@dataclass
class _Clock:
    """Seconds by step."""

    def __post_init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._began = time.monotonic()

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    def stop(self, step: str) -> None:
        """The time since the last stop belongs to this step."""
        now = time.monotonic()
        self.parts[step], self._began = now - self._began, now


def shared_summaries(models: Models, pool: Pool) -> Summaries | None:
    """The summaries that all models declare, if they are the same: told by their values at a few simulations
    of all models.
    """
    declared = [simulator.declared_summaries for simulator in models.simulators.values()]
    first, *others = declared
    if first is None or any(other is None for other in others):
        return None
    y = np.asarray(pool.y[:_COMPARED], dtype=np.float64)
    try:
        values = [summaries(y) for summaries in declared if summaries is not None]
    except SbiFlowsError:
        return None
    same = all(
        other.shape == values[0].shape and np.allclose(other, values[0], rtol=1e-9, equal_nan=True)
        for other in values[1:]
    )
    return first if same else None


def _by_classifier(classifier: Classifier, models: Models) -> ModelChoice:
    log_evidence, covariance = classifier.log_evidence(models.observed[None])
    facts = {"networks": len(classifier.ensemble.members)}
    return ModelChoice(log_evidence[0], covariance[0], models.prior, facts)


def _by_evidence(
    asked: _Asked, banks: dict[str, Simulations], methods: dict[str, ModelChoice], clock: _Clock
) -> dict[str, Draws]:
    """Add the evidence to `methods`, where there is one; return draws of the posteriors."""
    settings = asked.settings
    left = None if asked.seconds is None else max(asked.seconds - clock.total, 0.0)
    request = EvidenceRequest(settings.evidence_ess, settings.evidence_draws, asked.seed, left)
    found, draws = evidence_of_models(asked.models, banks, request, asked.notes)
    if found is not None:
        methods[EVIDENCE] = found
    clock.stop(EVIDENCE)
    return draws


def _target(models: Models, banks: Mapping[str, Simulations], shared: Summaries | None) -> Target:
    """What ABC aims at: the summaries that all models declare, else y itself."""
    name = models.names[0]
    simulator = models.simulators[name] if shared is not None else stand_in(banks[name])
    return Target(simulator, models.observed, shared)


def _by_abc(
    models: Models, pool: Pool, target: Target, quantile: float, methods: dict[str, ModelChoice], notes: Notes
) -> dict[str, F]:
    """Add what ABC says to `methods`; return the nearest simulations of each model, none where ABC fails."""
    try:
        nearest = Nearest(pool, target, quantile)
        methods[ABC] = nearest.shares(models.prior)
        methods[ADJUSTED] = nearest.regressed(models.prior)
    except (ObservationError, TooFewSimulationsError) as error:
        notes.note("ABC left out", reason=str(error))
        return {}
    declared = target.simulator.summaries is not None
    notes.note("ABC of models", summaries=nearest.summaries.shape[1], declared=declared)
    return {model: nearest.nearest_of(pool, k) for k, model in enumerate(models.names)}
