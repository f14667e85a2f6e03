"""`sf.check`: is this posterior calibrated over the prior, and does it learn from the data?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sbi_flows.arrays import F, integer
from sbi_flows.calibration.result import Check
from sbi_flows.diagnostics.dependence import data_features
from sbi_flows.diagnostics.local import local_c2st
from sbi_flows.diagnostics.pairs import Pairs, Progress, Sampler, draw_pairs, likelihoods
from sbi_flows.diagnostics.predictive import PredictiveCheck, check_predictive
from sbi_flows.diagnostics.recovery import Gain, recovery
from sbi_flows.diagnostics.resolution import Simulated, crossed_resolution, evidence_near
from sbi_flows.diagnostics.tests import (
    Measurements,
    Outcome,
    apply_tests,
    local_outcome,
    local_resolution_outcome,
    measure,
    misspecification_outcome,
    overall,
    predictive_outcome,
)
from sbi_flows.errors import SettingsError, TooFewSimulationsError
from sbi_flows.notes import Note
from sbi_flows.posterior.betting import features
from sbi_flows.posterior.posterior import Posterior, check_pair
from sbi_flows.problem.events import Events
from sbi_flows.problem.observation import as_observation
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed, stream
from sbi_flows.simulation.engine import simulate
from sbi_flows.simulation.held_out import held_out
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.simulation.stand_in import simulator_or_stand_in
from sbi_flows.verdict import Verdict

_LEAST_PAIRS = 100
_LOCAL_DRAWS = 500
_LIKELIHOOD_DRAWS = 10


def check(
    posterior: Posterior,
    simulator: Simulator | None = None,
    *,
    simulations: Simulations | None = None,
    n: int = 1000,
    seed: int = 0,
    y_obs: ArrayLike | None = None,
    n_likelihood: int = 100,
    progress: Callable[[int, int, str], None] | None = None,
) -> Check:
    """Test `posterior` on `n` fresh pairs (theta, y), all tests on the same 100 draws per pair.

    A test fails only if its statistic exceeds its limit and the fault is not slight. For an exact posterior,
    the chance that any statistic exceeds its limit is at most 1e-4. Faults are slight up to 0.1 sd of bias, a
    factor 1.1 of dispersion and 5% of coverage; up to 0.3 sd, 1.25 and 15% the level is "caution", beyond "do
    not trust", as is a log density at the truth that is no higher than the prior's.

    simulations: test on the first `n` usable pairs of these that the posterior was not trained on, or on as
        many as there are. No simulator is needed then.
    y_obs: also test the posterior here: is this like the simulations, does the posterior predict it, and
        local C2ST. False-alarm rates of each: 1% for "caution", 0.1% for "do not trust".
    n_likelihood: the number of pairs, 0 or from 100 to n, on which the log-likelihood of the truth is ranked
        among that of 10 draws. Only for a simulator with a `log_likelihood`, exact or estimated.
    progress: called as progress(done, total, text) while drawing.

    Raises `SettingsError`, and `TooFewSimulationsError` for fewer than 100 pairs, or 200 with y_obs.
    """
    simulator = simulator_or_stand_in(simulator, simulations, "check")
    check_pair(posterior, simulator, "check")
    n_likelihood, least = _check_counts(n, n_likelihood, _LEAST_PAIRS if y_obs is None else 2 * _LEAST_PAIRS)
    of_y, names = _events(posterior, simulator), posterior.names
    observed = None if y_obs is None else as_observation(y_obs, of_y)
    rng = stream(check_seed(seed), "check")
    used = _fresh(simulator, n, rng) if simulations is None else _given(simulations, posterior, n)
    theta, y, failed = _enough(_as_in_training(used, posterior, rng), least)
    sampler, log_prob = _sampler_of(posterior, of_y), _log_prob_of(posterior, of_y)
    pairs = draw_pairs(sampler, theta, y, names=names, rng=rng, log_prob=log_prob, progress=progress)
    pairs, left_out = _with_likelihoods(pairs, simulator, n_likelihood, rng, progress)
    measured = _measured(posterior, simulator, pairs, rng)
    here = _Here() if observed is None else _at(observed, posterior, simulator, pairs, measured, rng)
    outcomes = (*apply_tests(measured), *here.outcomes)
    gained = measured.gain or Gain(np.nan, np.nan)
    left_out = (*left_out, *here.left_out)
    return Check(
        posterior=posterior,
        tests=tuple(measured.tests),
        outcomes=outcomes,
        recovery=tuple(recovery(pairs)),
        gain=gained.mean,
        gain_error=gained.error,
        verdict=_verdict(outcomes, gained, observed is not None, failed, left_out),
        n=len(theta),
        seed=seed,
        failed=failed,
        y_obs=observed,
        left_out=left_out,
        predictive_check=here.predictive_check,
        predicted=here.predicted,
    )


def _check_counts(n: int, n_likelihood: int, least: int) -> tuple[int, int]:
    integer("n", n)
    if 0 < integer("n_likelihood", n_likelihood, least=0) < _LEAST_PAIRS:
        raise SettingsError(f"n_likelihood must be 0 or at least {_LEAST_PAIRS}, got {n_likelihood}.")
    if n < least:
        at = "" if least == _LEAST_PAIRS else " with an observation"
        raise TooFewSimulationsError(f"check needs at least {least} pairs{at}, got n={n}.")
    return int(n_likelihood), least


class _Used(NamedTuple):
    """Usable pairs, and how many simulations besides them failed."""

    theta: F
    y: F
    failed: int


def _fresh(simulator: Simulator, n: int, rng: np.random.Generator) -> _Used:
    theta, y = simulate(simulator, n, seed=int(rng.integers(2**31))).usable()
    return _Used(theta, np.asarray(y, dtype=np.float64), n - len(theta))


def _given(simulations: Simulations, posterior: Posterior, n: int) -> _Used:
    simulations.check_matches(posterior.prior, posterior.event_shape)
    theta, y, failed = held_out(simulations, posterior.facts, n)
    return _Used(theta, np.asarray(y, dtype=np.float64), failed)


def _as_in_training(used: _Used, posterior: Posterior, rng: np.random.Generator) -> _Used:
    """The pairs with gaps and lengths drawn as in training; those of which nothing is left do not count."""
    observe = getattr(posterior, "observe", None)
    if observe is None:
        return used
    y = np.asarray(observe(used.y, rng), dtype=np.float64)
    there = ~np.isnan(y.reshape(len(y), -1)).all(axis=1)
    return _Used(used.theta[there], y[there], used.failed)


def _enough(used: _Used, least: int) -> _Used:
    if len(used.theta) < least:
        raise TooFewSimulationsError(
            f"{len(used.theta)} of {len(used.theta) + used.failed} simulations are usable; check needs at "
            f"least {least}. Raise n, or pass more simulations."
        )
    return used


def _events(posterior: Posterior, simulator: Simulator) -> Events:
    """What y is; of a posterior of another make, what the simulator says."""
    found: Events = getattr(posterior, "events", simulator.events)
    return found


def _sampler_of(posterior: Posterior, events: Events) -> Sampler:
    def sampler(y: F, draws: int, rng: np.random.Generator) -> F:
        given = events.unpack(y)
        return posterior.sample(given, draws, seed=int(rng.integers(2**31))).values

    return sampler


def _log_prob_of(posterior: Posterior, events: Events) -> Callable[[F, F], F]:
    """log q of theta and events as they travel."""
    return lambda theta, y: posterior.log_prob(theta, events.unpack(y))


def _with_likelihoods(
    pairs: Pairs, simulator: Simulator, rows: int, rng: np.random.Generator, progress: Progress | None
) -> tuple[Pairs, tuple[Note, ...]]:
    """The pairs with log-likelihoods; without, and the reason, where the user's function fails."""
    likelihood = simulator.log_likelihood
    if likelihood is None or rows == 0:
        return pairs, ()

    def of_one(theta: F, y: F) -> F:
        return np.asarray(likelihood(simulator.prior.as_mapping(theta), y, rng), dtype=np.float64)

    try:
        found = likelihoods(pairs, of_one, rows=rows, draws=_LIKELIHOOD_DRAWS, progress=progress)
    except Exception as error:  # of the user's function: the rest of the check is not lost
        return pairs, (Note("likelihood untested", reason=_reason(error)),)
    if missing := int(np.isnan(found).sum()):
        return pairs, (Note("likelihood untested", reason=f"{missing} of {found.size} values are NaN"),)
    return replace(pairs, log_likelihood=found), ()


def _measured(
    posterior: Posterior, simulator: Simulator, pairs: Pairs, rng: np.random.Generator
) -> Measurements:
    prior = simulator.prior
    simulated = Simulated(pairs.theta, features(posterior, pairs.y))
    measured = measure(
        pairs,
        rng,
        log_prob=_log_prob_of(posterior, _events(posterior, simulator))
        if prior.unconstrained_dim == prior.d
        else None,
        log_prior=prior.log_prob(pairs.theta),
        features=data_features(_complete(simulator.compute_summaries(pairs.y))),
    )
    return replace(measured, resolved=crossed_resolution(simulated, pairs.draws, pairs.names))


@dataclass(frozen=True)
class _Here:
    """What was found at one observation."""

    outcomes: tuple[Outcome, ...] = ()
    predictive_check: PredictiveCheck | None = None
    predicted: F | None = None
    left_out: tuple[Note, ...] = ()


def _at(
    y_obs: F,
    posterior: Posterior,
    simulator: Simulator,
    pairs: Pairs,
    measured: Measurements,
    rng: np.random.Generator,
) -> _Here:
    events = _events(posterior, simulator)
    own = _sampler_of(posterior, events)(y_obs[None], _LOCAL_DRAWS, rng)[0]
    outcomes = [misspecification_outcome(posterior.verdicts(events.unpack(y_obs))[0])]
    here = _predictions(y_obs, simulator, own, rng)
    if here.predictive_check is not None:
        outcomes.append(predictive_outcome(here.predictive_check))
    summaries = _complete(simulator.compute_summaries(np.concatenate([y_obs[None], pairs.y])))
    local = local_c2st(pairs.theta, pairs.draws[:, 0], summaries[1:], own, summaries[0], rng=rng)
    outcomes += [*_resolved_at(y_obs, posterior, pairs, measured), local_outcome(local)]
    return replace(here, outcomes=tuple(outcomes))


def _resolved_at(y_obs: F, posterior: Posterior, pairs: Pairs, measured: Measurements) -> list[Outcome]:
    places, at = features(posterior, pairs.y), features(posterior, y_obs[None])
    if not places:
        return []
    log_e = np.stack([one.log_e for one in measured.resolved], axis=1)
    return [local_resolution_outcome(pairs.names, evidence_near(log_e, places[-1], at[-1])[0])]


def _complete(summaries: F) -> F:
    """Summaries with the mean of a column in place of what is missing, and how much is, as one more."""
    missing = ~np.isfinite(summaries)
    if not missing.any():
        return summaries
    there = np.where(missing, np.nan, summaries)
    there[:, missing.all(axis=0)] = 0.0
    filled = np.where(np.isnan(there), np.nanmean(there, axis=0), there)
    return np.column_stack([filled, missing.mean(axis=1)])


def _predictions(y_obs: F, simulator: Simulator, draws: F, rng: np.random.Generator) -> _Here:
    try:
        predicted = np.asarray(simulator.run(draws, rng), dtype=np.float64)
        declared = simulator.declared_summaries
        checked = check_predictive(y_obs, predicted, declared, missing=simulator.missing)
        return _Here(predictive_check=checked, predicted=predicted)
    except Exception as error:  # of the user's simulator, at theta that the prior may never have drawn
        return _Here(left_out=(Note("predictions untested", reason=_reason(error)),))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _verdict(
    outcomes: Sequence[Outcome], gained: Gain, here: bool, failed: int, left_out: Sequence[Note]
) -> Verdict:
    praise = "" if np.isnan(gained.mean) else f"; {gained.mean:.2f} nats gained over the prior"
    praise += "; all tests at the observation pass too" if here else ""
    verdict = overall(outcomes, praise)
    lost = [f"{failed:,} simulations failed and are not tested."] if failed else []
    return replace(verdict, text=" ".join([verdict.text, *lost, *left_out]))
