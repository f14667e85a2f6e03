"""Synthetic likelihood (Wood 2010, Nature 466:1102; Price et al. 2018): Markov chains on

    p(z) N(s(y); mean(theta), S(theta)),   mean and S of n simulations at each theta

A pilot set from the prior says where to start: n simulations at each of the 20 nearest give the units of the
summaries there, the shrinkage, and the best starting points. In the end the summaries at the posterior mean
are tested for being normal: each by Shapiro and Wilk's W, all together by Mardia's kurtosis (Mardia 1970,
Biometrika 57:519).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, shapiro

from sbi_flows.arrays import F
from sbi_flows.baselines.budget import SpentError, check_some_budget
from sbi_flows.baselines.chains import Chains
from sbi_flows.baselines.distance import Distance
from sbi_flows.baselines.generations import log_prior
from sbi_flows.baselines.runs import Runs, calls_of
from sbi_flows.baselines.sequential import on_data, prior_set
from sbi_flows.baselines.settings import ABCSettings, usual_covariance, usual_simulations_each
from sbi_flows.baselines.stored import Store
from sbi_flows.baselines.synthetic_density import Estimator, shrinkage_of
from sbi_flows.errors import ObservationError
from sbi_flows.notes import Note
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.verdict import Verdict

_NEAREST, _SEGMENT, _LEAST_STEPS, _TIMED_WARMUP = 20, 20, 60, 250
_FLOOR, _AT_MODE = 1e-2, 500
_LAST = 9999


class Sampled(NamedTuple):
    """Chains, why they ended, the verdict on the data, and what was found at the posterior mean: the p-value
    of the normality of the summaries, and these (n, k).
    """

    chains: Chains
    why: Note
    on_data: Verdict
    normality: float
    at_mean: F


def sample(runs: Runs, settings: ABCSettings, store: Store, simulations: Simulations | None) -> Sampled:
    """Run the chains until the budget is spent. Raises `TooFewSimulationsError`, `TooManyFailuresError`."""
    found = store.latest(runs)
    if found is None:
        chains, verdict = _started(runs, settings, simulations)
        _save(store, chains, verdict)
    else:
        _, arrays, facts = found
        chains, verdict = Chains.of(runs, arrays, facts), Verdict(**facts["on_data"])
    with _held_back(runs):
        why = _advanced(chains, store, verdict)
    mean = np.concatenate(chains.history[chains.warmup :] or [chains.z]).mean(axis=0)
    summaries = np.empty((0, len(runs.target.summaries)))
    with suppress(SpentError):
        runs.text = "testing the summaries"
        rows = runs.budget.room(_AT_MODE)
        theta = np.repeat(log_prior(runs.simulator.prior, mean[None])[0], rows, axis=0)
        summaries = runs.at(theta, _LAST, 0)
    summaries = summaries[np.isfinite(summaries).all(axis=1)]
    return Sampled(chains, why, verdict, normality_of(summaries), summaries)


def _started(runs: Runs, settings: ABCSettings, simulations: Simulations | None) -> tuple[Chains, Verdict]:
    k = len(runs.target.summaries)
    kind = settings.covariance or usual_covariance(k)
    each = settings.simulations_each or usual_simulations_each(k, kind)
    count, pilot = settings.chains or 0, settings.pilot or 0
    made = 0 if simulations is not None else pilot
    what = (
        f"a pilot of {made:,}, {each} at its {_NEAREST} nearest, and {_LEAST_STEPS} steps of {count} x {each}"
    )
    check_some_budget(runs.budget, made + each * (_NEAREST + _LEAST_STEPS * count) + _AT_MODE, what)
    runs.text = "the pilot set"
    first = prior_set(runs, pilot, simulations)
    distance = Distance.of(first.summaries, runs.target.summaries)
    distances = distance(first.summaries)
    if not np.isfinite(np.sort(distances)[_NEAREST - 1]):
        raise ObservationError("the observed data are too far from all simulations. Check their units.")
    z = first.z[np.argsort(distances, kind="stable")[:_NEAREST]]
    theta, prior = log_prior(runs.simulator.prior, z)
    rows = runs.at(np.repeat(theta, each, axis=0), 0, 1).reshape(len(z), each, k)
    far = np.where(np.isfinite(distance.scales), distance.scales, 1.0)
    with np.errstate(all="ignore"):
        within = np.nan_to_num(np.nanmedian(np.nanstd(rows, axis=1), axis=0))
    unit = np.where(within > 0, within, _FLOOR * far)
    keep = float(np.mean([shrinkage_of(part) for part in rows])) if kind == "shrinkage" else 1.0
    estimator = Estimator(kind, np.square(_FLOOR * unit), keep)
    found = estimator(rows, runs.target.summaries)
    best = np.argsort(-np.nan_to_num(found.plug_in + prior, nan=-np.inf), kind="stable")[:count]
    best = np.resize(best, count)
    spread = np.maximum(z.std(axis=0), 1e-6)
    covariance = np.atleast_2d(np.cov(z.T)) + 0.1 * np.diag(np.square(spread))
    steps = None
    if runs.budget.n is not None:
        steps = (runs.budget.n - runs.budget.made - _AT_MODE) // (count * each)
    warmup = settings.warmup or (_TIMED_WARMUP if steps is None else max(steps // 3, _LEAST_STEPS // 3))
    start = (z[best], prior[best], found.asked[best], found.plug_in[best])
    scale = 2.38 / np.sqrt(z.shape[1]) / 2
    chains = Chains(runs, estimator, each, warmup, *start, np.asarray(np.linalg.cholesky(covariance)), scale)
    return chains, on_data(runs, distance, first)


def _advanced(chains: Chains, store: Store, verdict: Verdict) -> Note:
    runs = chains.runs
    while True:
        segment = 1 + chains.step // _SEGMENT
        try:
            for call in range(_SEGMENT):
                runs.text = f"step {chains.step + 1}{', warming up' if chains.step < chains.warmup else ''}"
                chains.advance(segment, call)
        except SpentError as spent:
            return Note("budget spent", what=spent.what, dropped=None)
        _save(store, chains, verdict)


def _save(store: Store, chains: Chains, verdict: Verdict) -> None:
    """The state, in place of the banks that led to it."""
    runs, segment = chains.runs, chains.step // _SEGMENT
    facts = {**chains.facts(), "on_data": asdict(verdict)}
    store.save(segment, chains.arrays(), facts, runs)
    if store.path is not None:
        shutil.rmtree(calls_of(store.path, segment), ignore_errors=True)


@contextmanager
def _held_back(runs: Runs) -> Iterator[None]:
    """Keep what the test in the end needs."""
    budget, n, seconds = runs.budget, runs.budget.n, runs.budget.seconds
    if n is not None:
        budget.n = n - _AT_MODE
    if seconds is not None:
        budget.seconds = seconds - min(0.1 * seconds, _AT_MODE * (runs.row_seconds or 0.0))
    try:
        yield
    finally:
        budget.n, budget.seconds = n, seconds


def normality_of(summaries: F) -> float:
    """The p-value of normal summaries (n, k): Bonferroni over W of each that varies, and Mardia's kurtosis;
    NaN for fewer than 4 (k + 1) rows.
    """
    n, k = summaries.shape
    if n < 4 * (k + 1):
        return float("nan")
    varies = summaries.std(axis=0) > 0
    columns = (summaries[:, varies] - summaries[:, varies].mean(axis=0)) / summaries[:, varies].std(axis=0)
    if not varies.all():
        return 0.0
    p = [float(shapiro(column).pvalue) for column in columns.T]
    values, vectors = np.linalg.eigh(columns.T @ columns / n)
    if values[0] > 1e-10:
        squares = np.square(columns @ vectors / np.sqrt(values)).sum(axis=1)
        z = (np.square(squares).mean() - k * (k + 2)) / np.sqrt(8 * k * (k + 2) / n)
        p.append(float(2 * norm.sf(abs(z))))
    return min(1.0, len(p) * min(p))
