"""The linear-Gaussian toy, whose posterior is known: density, draws, and how ABC compares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import sbi_flows as sf
from sbi_flows.diagnostics.distances import c2st
from sbi_flows.npe.settings import training_for
from simulators.gaussian import make_gaussian, posterior_moments

pytestmark = pytest.mark.slow

CASES = {1: 20_000, 2: 20_000, 10: 50_000}


@pytest.fixture(scope="module", params=CASES, ids=lambda d: f"d={d}")
def fitted(request: pytest.FixtureRequest) -> tuple[sf.Simulator, sf.Simulations, sf.Posterior]:
    simulator = make_gaussian(request.param)
    simulations = sf.simulate(simulator, CASES[request.param], seed=1)
    training = replace(training_for(len(simulations), timed=False), epochs=15)
    settings = sf.FitSettings(size="auto" if request.param == 2 else "small", train=training)
    return (
        simulator,
        simulations,
        sf.fit(simulator, simulations=simulations, seed=1, settings=settings, say=None),
    )


def test_log_prob_is_within_a_twentieth_of_a_nat_of_the_exact_one(
    fitted: tuple[sf.Simulator, sf.Simulations, sf.Posterior],
) -> None:
    """Mean difference over 4,000 fresh pairs, the expected Kullback-Leibler divergence, whose Monte Carlo
    error is below 0.005.
    """
    simulator, _, posterior = fitted
    rng = np.random.default_rng(2)
    theta = simulator.prior.sample(4000, rng)
    y = np.asarray(simulator.run(theta, rng))
    covariance = posterior_moments(y[0])[1]
    means = np.array([posterior_moments(row)[0] for row in y])
    exact = multivariate_normal(np.zeros(simulator.prior.d), covariance).logpdf(
        (theta - means).reshape(theta.shape)
    )
    difference = (exact - posterior.log_prob(theta, y)).mean()
    assert abs(difference) <= 0.05


def test_draws_cannot_be_told_from_exact_ones_and_abc_can(
    fitted: tuple[sf.Simulator, sf.Simulations, sf.Posterior],
) -> None:
    """C2ST on 4,000 draws each (at one observation for d = 10); its sd under the null is 0.0056, so 0.53 is 5
    sd away.
    """
    simulator, simulations, posterior = fitted
    d = simulator.prior.d
    exact_posterior = simulator.exact_posterior
    assert exact_posterior is not None
    rng = np.random.default_rng(3)
    observations = np.asarray(simulator.run(simulator.prior.sample(1 if d == 10 else 3, rng), rng))
    scores = []
    for i, y in enumerate(observations):
        exact = exact_posterior(y, 4000, rng)
        scores.append(c2st(exact, posterior.sample(y, 4000, seed=i).to_numpy()))
    assert np.mean(scores) <= 0.53
    if d == 10:
        abc = sf.rejection_abc(simulator, observations[0], simulations=simulations, quantile=0.01)
        assert c2st(exact_posterior(observations[0], len(abc), rng), abc.to_numpy()) > 0.6
