"""The evidence of each model by its likelihood: importance sampling from a posterior of each model.

    p(y | k) = integral of p(y | theta, k) p(theta | k) dtheta  ~  mean_i w_i

with the weights of `exact`, whose k-hat says whether their error can be relied on; the likelihood may be an
unbiased estimate. Unlike the classifier and ABC, this is exact as draws grow, whatever the networks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from sbi_flows.comparison.models.choice import ModelChoice
from sbi_flows.comparison.models.request import Models
from sbi_flows.draws import Draws
from sbi_flows.errors import SettingsError
from sbi_flows.notes import Notes
from sbi_flows.npe.settings import FitSettings
from sbi_flows.posterior.fit import fit
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.posterior.refine import exact_draws
from sbi_flows.posterior.request import RefineRequest, RefineSettings
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import stream
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.training.settings import TrainSettings

_TIMED = 20
_FACTS = ("log_evidence", "log_evidence_error", "ess", "k_hat")
_ROWS_SEEN, _MOST_EPOCHS, _BATCH = 200_000, 100, 128


@dataclass(frozen=True)
class EvidenceRequest:
    """ess: the effective sample size wanted of each model. draws: the most evaluations of its
    likelihood. seconds: for all models, None without a limit.
    """

    ess: int
    draws: int
    seed: int
    seconds: float | None = None


def evidence_of_models(
    models: Models, banks: dict[str, Simulations], request: EvidenceRequest, notes: Notes
) -> tuple[ModelChoice | None, dict[str, Draws]]:
    """By importance sampling, with draws of each posterior; None, with a note, where a model has no
    likelihood or it fails.
    """
    without = [name for name, simulator in models.simulators.items() if simulator.log_likelihood is None]
    if without:
        notes.note("evidence left out", reason=f"no log_likelihood of {', '.join(map(repr, without))}")
        return None, {}
    found, all_draws = [], {}
    for name, simulator in models.simulators.items():
        own = int(stream(request.seed, f"evidence of model {name}").integers(2**31))
        try:
            posterior = models.posteriors.get(name)
            if posterior is None:
                posterior = _fitted(name, banks[name], models, request, own, notes)
            draws = _affordable(simulator, models, request, notes, name)
            asked = _request(models, draws, request, own)
            all_draws[name] = exact_draws(posterior, models.observed, simulator, asked)
            found.append([float(all_draws[name].facts[fact]) for fact in _FACTS])
        except Exception as error:  # of the user's function, or of an observation that a posterior refuses
            notes.note("evidence left out", reason=f"of {name!r}, {type(error).__name__}: {error}")
            return None, all_draws
    values, errors, ess, k_hat = (np.array(column) for column in zip(*found, strict=True))
    facts = {"ess": ess.tolist(), "k_hat": k_hat.tolist()}
    notes.note("evidence found", models=list(models.names), errors=errors.tolist(), k_hat=k_hat.tolist())
    return ModelChoice(values, np.diag(np.square(errors)), models.prior, facts), all_draws


def _fitted(
    name: str, bank: Simulations, models: Models, request: EvidenceRequest, seed: int, notes: Notes
) -> Posterior:
    """A small posterior of one model, to propose from: its quality decides the error, not the answer."""
    simulator, usable = models.simulators[name], int(bank.ok.sum())
    notes.say("fitting for evidence", model=name, simulations=usable, rows=_ROWS_SEEN)
    like = models.events.unpack(models.observed) if np.isnan(models.observed).any() else None
    if request.seconds is not None:
        minutes = request.seconds / len(models.names) / 2 / 60
        settings = FitSettings(flow="nsf", size="small", members=1)
        return fit(simulator, minutes=minutes, seed=seed, like=like, settings=settings, say=None)
    epochs = min(max(_ROWS_SEEN // usable, 1), _MOST_EPOCHS)
    training = TrainSettings(epochs=epochs, batch_size=_BATCH)
    settings = FitSettings(flow="nsf", size="small", members=1, train=training)
    return fit(simulator, simulations=bank, seed=seed, like=like, settings=settings, say=None)


def _affordable(
    simulator: Simulator, models: Models, request: EvidenceRequest, notes: Notes, name: str
) -> int:
    """How many draws, said with the time that their likelihoods take. Raises `SettingsError`."""
    likelihood = simulator.log_likelihood
    if likelihood is None:
        raise SettingsError(f"{name!r} has no log_likelihood.")
    rng = stream(request.seed, f"time of the likelihood of {name}")
    theta = simulator.prior.as_mapping(simulator.prior.sample(_TIMED, rng))
    began = time.monotonic()
    likelihood(theta, models.observed, rng)
    each = (time.monotonic() - began) / _TIMED
    draws = request.draws
    if request.seconds is not None:
        draws = min(draws, int(request.seconds / len(models.names) / max(each, 1e-9) / 3))
        if draws < 100:
            raise SettingsError(f"time is left for {draws} evaluations of the likelihood only")
    notes.say("evaluating likelihoods", model=name, draws=draws, seconds=draws * each)
    return draws


def _request(models: Models, draws: int, request: EvidenceRequest, seed: int) -> RefineRequest:
    return RefineRequest(
        method="likelihood",
        n=request.ess // 2,
        n_simulations=draws,
        minutes=None if request.seconds is None else request.seconds / len(models.names) / 2 / 60,
        seed=seed,
        settings=RefineSettings(ess=request.ess),
    )
