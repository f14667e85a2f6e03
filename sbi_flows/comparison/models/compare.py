"""`sf.compare_models`: which of several simulators made the data."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.baselines.target import Target
from sbi_flows.comparison.models.choice import ModelChoice
from sbi_flows.comparison.models.classifier import Classifier, learn_classifier
from sbi_flows.comparison.models.evidence import EvidenceRequest, evidence_of_models
from sbi_flows.comparison.models.likeness import Likeness
from sbi_flows.comparison.models.pool import Pool, simulations_of
from sbi_flows.comparison.models.request import ModelChoiceSettings, Models, checked_models, checked_number
from sbi_flows.comparison.models.result import ModelComparison
from sbi_flows.comparison.models.shares import Nearest
from sbi_flows.comparison.models.verdict import ABC, ADJUSTED, CLASSIFIER, EVIDENCE
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

_SIMULATING, _TRAINING, _EVIDENCE = 0.3, 0.35, 0.3  # of the time; the rest is for detectors and ABC
_COMPARED = 20


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
    settings = _checked(settings)
    found = checked_models(models, y_obs, simulations, posteriors, prior_probabilities)
    n, seed = checked_number(n_simulations, minutes, found), check_seed(seed)
    seconds = None if minutes is None else 60 * float(minutes)
    clock, notes = _Clock(), Notes(say)
    banks = simulations_of(found, n, _SIMULATING * (seconds or 0), seed, notes, settings.simulate, **place)
    clock.stop("simulate")
    with torch_defaults():
        pool = Pool.of(banks, found, seed)
        if np.isnan(found.observed).any():
            notes.note("gaps of the observation")
        shared = shared_summaries(found, pool)
        request = Request(
            settings=settings.networks, seed=seed, events=found.events, declared=shared, say=say
        )
        limit = None if seconds is None else _TRAINING * seconds
        classifier = learn_classifier(pool, request, notes, limit)
        clock.stop(CLASSIFIER)
        likeness = Likeness.of(pool, found.names, classifier, seed, seconds)
        clock.stop("detectors")
    methods = {CLASSIFIER: _by_classifier(classifier, found)}
    nearest = _by_abc(found, pool, banks, shared, settings, methods, notes)
    clock.stop(ABC)
    if settings.evidence:
        budget = None if seconds is None else max(_EVIDENCE * seconds, seconds - clock.total)
        draws = EvidenceRequest(settings.evidence_ess, settings.evidence_draws, seed, budget)
        evidence = evidence_of_models(found, banks, draws, notes)
        if evidence is not None:
            methods[EVIDENCE] = evidence
        clock.stop(EVIDENCE)
    return ModelComparison(
        models=found,
        methods=methods,
        classifier=classifier,
        likeness=likeness,
        nearest=nearest,
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
    facts = {"networks": len(classifier.members)}
    return ModelChoice(log_evidence[0], covariance[0], models.prior, facts)


def _by_abc(
    models: Models,
    pool: Pool,
    banks: Mapping[str, Simulations],
    shared: Summaries | None,
    settings: ModelChoiceSettings,
    methods: dict[str, ModelChoice],
    notes: Notes,
) -> dict[str, F]:
    """Add what ABC says to `methods`; return the nearest simulations of each model, none where ABC fails."""
    name = models.names[0]
    simulator = models.simulators[name] if shared is not None else stand_in(banks[name])
    try:
        nearest = Nearest(pool, Target(simulator, models.observed), settings.abc_quantile)
        methods[ABC] = nearest.shares(models.prior)
        methods[ADJUSTED] = nearest.regressed(models.prior)
    except (ObservationError, TooFewSimulationsError) as error:
        notes.note("ABC left out", reason=str(error))
        return {}
    notes.note("ABC of models", summaries=nearest.summaries.shape[1], declared=shared is not None)
    return {model: nearest.nearest_of(pool, k) for k, model in enumerate(models.names)}
