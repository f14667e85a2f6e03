"""`sf.check`: is this posterior calibrated over the prior, does it use the data, and has it learnt
anything?
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sbi_flows.diagnostics.calibration import RankTest
from sbi_flows.diagnostics.dependence import data_features
from sbi_flows.diagnostics.local import local_c2st
from sbi_flows.diagnostics.pairs import Pairs, Progress, draw_pairs, likelihoods
from sbi_flows.diagnostics.predictive import PredictiveCheck, check_predictive
from sbi_flows.diagnostics.recovery import Recovery, recovery
from sbi_flows.diagnostics.tests import (
    Outcome,
    apply_tests,
    local_outcome,
    measure,
    misspecification_outcome,
    overall,
    predictive_outcome,
)
from sbi_flows.errors import SettingsError, TooFewSimulationsError
from sbi_flows.posterior.posterior import Posterior, check_pair
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed, stream
from sbi_flows.simulation.engine import simulate
from sbi_flows.verdict import Level, Verdict

if TYPE_CHECKING:
    import pandas

_LEAST_PAIRS = 100
_DRAWS_HERE = 500
_LIKELIHOOD_DRAWS = 10


@dataclass(frozen=True, eq=False)
class Check:
    """The outcome of `sf.check`.

    tests: the ranks of each parameter, of log q, of the log-likelihood where there is one, and of the
    distance to random points;
    outcomes: one per test; recovery: of each parameter. gain: the mean of log q(theta | y) - log
    p(theta) over the n pairs, in nats. failed: simulations that are not among the n; y_obs: the observation,
    where one was judged; left_out: what was not, and why;
    predictive_check, predicted: data simulated at draws of the posterior of y_obs, (m, *event), and how y_obs
    lies among them.
    """

    posterior: Posterior
    tests: tuple[RankTest, ...]
    outcomes: tuple[Outcome, ...]
    recovery: tuple[Recovery, ...]
    gain: float
    gain_error: float
    verdict: Verdict
    n: int
    seed: int = 0
    failed: int = 0
    y_obs: NDArray[np.float64] | None = None
    left_out: tuple[str, ...] = ()
    predictive_check: PredictiveCheck | None = None
    predicted: NDArray[np.float64] | None = None

    @property
    def ok(self) -> bool:
        """Whether the verdict is "trust"."""
        return self.verdict.ok

    @property
    def level(self) -> Level:
        """The verdict's level: "trust", "caution" or "do not trust"."""
        return self.verdict.level

    @property
    def text(self) -> str:
        """The verdict in words."""
        return self.verdict.text

    @property
    def table(self) -> pandas.DataFrame:
        """One row per test, at its worst quantity: statistic, limit, the statistic's law if the posterior is
        right, verdict, sentence.
        """
        import pandas

        return pandas.DataFrame(
            [
                {
                    "test": found.test,
                    "quantity": found.quantity,
                    "statistic": found.statistic,
                    "limit": found.limit,
                    "null": found.null,
                    "verdict": found.level,
                    "sentence": found.sentence,
                }
                for found in self.outcomes
            ]
        )

    @property
    def quantities(self) -> pandas.DataFrame:
        """One row a quantity: z statistics, ECDF p-value, what they mean as shift (in sd) and dispersion,
        coverage; recovery.
        """
        import pandas

        recovered = {found.name: found for found in self.recovery}
        rows = []
        for test in self.tests:
            found = recovered.get(test.quantity)
            rows.append(
                {
                    "quantity": test.quantity,
                    "mean_z": test.mean_z,
                    "spread_z": test.spread_z,
                    "ecdf_p": test.ecdf_p,
                    "shift_sd": test.shift,
                    "dispersion": test.dispersion,
                    "coverage_50": test.coverage(0.5),
                    "coverage_90": test.coverage(0.9),
                    "contraction": found.contraction if found else np.nan,
                    "z_sd": found.z_sd if found else np.nan,
                    "correlation": found.correlation if found else np.nan,
                }
            )
        return pandas.DataFrame(rows)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the check as one HTML file that needs nothing else."""
        from sbi_flows.calibration.check_page import write_check

        write_check(self, path)


def check(
    posterior: Posterior,
    simulator: Simulator,
    *,
    n: int = 1000,
    seed: int = 0,
    y_obs: ArrayLike | None = None,
    n_likelihood: int = 100,
    progress: Callable[[int, int, str], None] | None = None,
) -> Check:
    """Judge `posterior` on `n` fresh pairs (theta, y) from prior and simulator, each with the same 100 draws
    for all tests.

    The posterior fails a test only where its statistic is beyond the limit (chance of any false alarm on an
    exact posterior at most 1e-4 in all) and the fault is not slight: "caution" for a shift of at most 0.3 sd,
    a width within a factor 1.25, coverage off by at most 15%, else "do not trust"; slight is 0.1 sd, 1.1, 5%.
    A posterior whose log density gains nothing on the prior's is not trusted either.
    y_obs: also judge it there, by whether it is recognised (`Posterior.verdicts`), data simulated at its
    draws and local C2ST, each at false-alarm rates of 1% for "caution" and 0.1% for "do not trust".
    n_likelihood: on how many of the pairs the log-likelihood of the truth is ranked among that of 10 draws,
    where the simulator has a `log_likelihood`, exact or estimated, at least 100 and at most n; 0: none.
    progress(done, total, text): while drawing.
    Raises `SettingsError`, `TooFewSimulationsError` (fewer than 100 pairs, or 200 with y_obs).
    """
    check_pair(posterior, simulator, "check")
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise SettingsError(f"n must be an integer, got {n!r}.")
    few = not isinstance(n_likelihood, int | np.integer) or not (
        n_likelihood == 0 or n_likelihood >= _LEAST_PAIRS
    )
    if few or isinstance(n_likelihood, bool):
        raise SettingsError(
            f"n_likelihood must be 0 or an integer of at least {_LEAST_PAIRS}, got {n_likelihood!r}."
        )
    least = _LEAST_PAIRS if y_obs is None else 2 * _LEAST_PAIRS
    if n < least:
        raise TooFewSimulationsError(
            f"check needs at least {_LEAST_PAIRS} pairs to say anything, twice as many at an observation, "
            f"got n={n}."
        )
    observed = None if y_obs is None else simulator.check_observation(y_obs)
    rng = stream(check_seed(seed), "check")
    theta, y = simulate(simulator, n, seed=int(rng.integers(2**31))).usable()
    if len(theta) < least:
        raise TooFewSimulationsError(
            f"{len(theta)} of {n} simulations are usable; check needs at least {least}. Raise n."
        )

    def sampler(events: NDArray[np.float64], draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return posterior.sample(events, draws, seed=int(rng.integers(2**31))).values

    def log_prob(values: NDArray[np.float64], events: NDArray[np.float64]) -> NDArray[np.float64]:
        return posterior.log_prob(values, events)

    y = np.asarray(y, dtype=np.float64)
    pairs = draw_pairs(
        sampler, theta, y, names=posterior.names, rng=rng, log_prob=log_prob, progress=progress
    )
    pairs, left_out = _with_likelihoods(pairs, simulator, int(n_likelihood), rng, progress)
    fills_space = simulator.prior.unconstrained_dim == simulator.prior.d
    measured = measure(
        pairs,
        rng,
        log_prob=log_prob if fills_space else None,
        log_prior=simulator.prior.log_prob(theta),
        features=data_features(simulator.compute_summaries(y)),
    )
    outcomes = apply_tests(measured)
    predicted, checked = None, None
    if observed is not None:
        outcomes.append(misspecification_outcome(posterior.verdicts(observed)[0]))
        own = sampler(observed[None], _DRAWS_HERE, rng)[0]
        predicted, checked, lost = _predictions(simulator, own, observed, rng)
        left_out += lost
        if checked is not None:
            outcomes.append(predictive_outcome(checked))
        summaries = simulator.compute_summaries(np.concatenate([observed[None], y]))
        outcomes.append(
            local_outcome(local_c2st(theta, pairs.draws[:, 0], summaries[1:], own, summaries[0], rng=rng))
        )
    gained = measured.gain
    praise = "" if gained is None else f"; {gained.mean:.2f} nats gained on the prior"
    praise += "" if observed is None else "; nothing speaks against it at the observation"
    mean, error = (np.nan, np.nan) if gained is None else (gained.mean, gained.error)
    return Check(
        posterior,
        tuple(measured.tests),
        tuple(outcomes),
        tuple(recovery(pairs)),
        mean,
        error,
        _with_left_out(overall(outcomes, praise), n - len(theta), n, left_out),
        len(theta),
        seed,
        n - len(theta),
        observed,
        left_out,
        checked,
        predicted,
    )


def _with_likelihoods(
    pairs: Pairs, simulator: Simulator, rows: int, rng: np.random.Generator, progress: Progress | None
) -> tuple[Pairs, tuple[str, ...]]:
    likelihood = simulator.log_likelihood
    if likelihood is None or rows == 0:
        return pairs, ()

    def of_one(theta: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(likelihood(simulator.prior.as_mapping(theta), y, rng), dtype=np.float64)

    try:
        found = likelihoods(pairs, of_one, rows=rows, draws=_LIKELIHOOD_DRAWS, progress=progress)
    except Exception as error:  # of the user's function: the rest of the check is not lost
        return pairs, (f"The log-likelihood is not judged: it failed with {type(error).__name__}: {error}",)
    if np.isnan(found).any():
        return pairs, (
            f"The log-likelihood is not judged: {int(np.isnan(found).sum())} of {found.size} values are NaN.",
        )
    return replace(pairs, log_likelihood=found), ()


def _predictions(
    simulator: Simulator, draws: NDArray[np.float64], observed: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64] | None, PredictiveCheck | None, tuple[str, ...]]:
    try:
        predicted = np.asarray(simulator.run(draws, rng), dtype=np.float64)
        return predicted, check_predictive(observed, predicted, simulator.declared_summaries), ()
    except Exception as error:  # of the user's simulator, at thetas that the prior may never have drawn
        return (
            None,
            None,
            (f"It was not held against predictions, which failed with {type(error).__name__}: {error}",),
        )


def _with_left_out(verdict: Verdict, failed: int, n: int, left_out: tuple[str, ...]) -> Verdict:
    lost = (f"{failed:,} of {n:,} simulations failed and are not judged.",) if failed else ()
    return Verdict(verdict.level, " ".join([verdict.text, *lost, *left_out]), verdict.quantile)
