"""The parts of exact inference: selection, t mixtures, pools, chains."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import multivariate_t

from sbi_flows.draws import diagnose_chains
from sbi_flows.exact.adaptation import adapt, fitted, pilot, to_fit
from sbi_flows.exact.chains import run_chains
from sbi_flows.exact.likelihood import Budget, Likelihood
from sbi_flows.exact.pool import Pool, effective, log_evidence, normalised
from sbi_flows.exact.proposal import Mixture, Sources
from sbi_flows.exact.selection import select
from sbi_flows.exact.students import StudentMixture, fit_students
from tests.exact.gaussian_toy import EVIDENCE, MEAN, RIGHT, SD, Y, toy

F = NDArray[np.float64]


def test_selected_rows_differ_and_carry_the_weight_that_makes_them_unbiased() -> None:
    """Over 400 repeats the weighted mean of x is that of all rows to 4.5 of its standard errors."""
    rng = np.random.default_rng(1)
    weights = normalised(1.5 * rng.standard_normal(2000))
    x, means = rng.standard_normal(2000), []
    for seed in range(400):
        rows, kept = select(weights, 300, np.random.default_rng(seed))
        assert len(np.unique(rows)) == len(rows) == 300
        means.append(kept @ x[rows])
    assert abs(np.mean(means) - weights @ x) < 4.5 * np.std(means) / 20
    assert effective(np.log(kept)) > 2 * effective(np.log(weights)) * 300 / 2000


def test_equal_weights_stay_equal_and_too_few_are_repeated() -> None:
    rows, weights = select(np.full(1000, 1e-3), 100, np.random.default_rng(1))
    np.testing.assert_allclose(weights, 0.01)
    assert len(np.unique(rows)) == 100
    few = np.zeros(1000)
    few[:4] = 0.1, 0.2, 0.3, 0.4
    rows, weights = select(few, 1000, np.random.default_rng(1))
    np.testing.assert_allclose(np.bincount(rows, minlength=4) / 1000, few[:4], atol=1.1e-3)
    np.testing.assert_allclose(weights, 1e-3)


def test_the_density_of_a_mixture_is_that_of_its_components() -> None:
    rng = np.random.default_rng(1)
    factors = np.stack([np.eye(2), np.array([[0.3, 0.0], [0.2, 0.1]])])
    mixture = StudentMixture(np.array([0.3, 0.7]), np.array([[0.0, 0.0], [2.0, 1.0]]), factors)
    z = mixture.sample(10_000, rng)
    parts = [
        np.log(a) + multivariate_t(m, c @ c.T, df=3).logpdf(z)
        for a, m, c in zip(mixture.weights, mixture.means, factors, strict=True)
    ]
    np.testing.assert_allclose(mixture.log_prob(z), np.logaddexp(*parts), rtol=1e-10)


def test_a_fit_finds_separate_clusters_of_weighted_draws() -> None:
    """The first cluster has half of the rows and a tenth of the weight."""
    rng = np.random.default_rng(1)
    z = np.concatenate([rng.normal(-5, 0.1, (2000, 2)), rng.normal(5, 1.0, (2000, 2))])
    weights = np.repeat([0.1, 0.9], 2000) / 2000
    found = fit_students(z, weights, 2, rng)
    order = np.argsort(found.means[:, 0])
    np.testing.assert_allclose(found.weights[order], [0.1, 0.9], atol=0.01)
    np.testing.assert_allclose(found.means[order], [[-5, -5], [5, 5]], atol=0.2)


def test_few_draws_do_not_collapse_a_component() -> None:
    z = np.random.default_rng(1).standard_normal((30, 3))
    z[10:] = z[0]
    found = fit_students(z, np.full(30, 1 / 30), 8, np.random.default_rng(2))
    assert np.isfinite(found.log_prob(z)).all()


def test_draws_of_several_mixtures_are_weighted_by_all_of_them() -> None:
    """One of the mixtures alone is poor; the pool's evidence is right to 4.5 standard errors."""
    simulator = toy()
    sources, rng = Sources(simulator.prior, RIGHT), np.random.default_rng(1)
    with Likelihood(simulator, Y, 1, Budget(10**6), {"workers": 1}) as likelihood:
        pool = Pool(sources, with_q=True)
        for mixture in (Mixture(sources, 1.0, 0.0), Mixture(sources, 0.2, 0.8)):
            pool.propose(2000, mixture, likelihood, rng)
    evidence, error = log_evidence(pool.log_weights())
    assert abs(evidence - EVIDENCE) < 4.5 * error < 0.2
    alone = [effective(own[2000 * i : 2000 * (i + 1)]) for i, own in enumerate(pool.log_weights_of_each())]
    assert alone[0] < 1000 < alone[1]
    assert effective(pool.log_weights()) > alone[0]


def test_chains_with_a_noisy_likelihood_have_the_posterior_as_their_limit() -> None:
    """Means within 4.5 standard errors by their own effective size, sd within 15%."""
    simulator = toy(noise=1.0)
    sources, rng = Sources(simulator.prior, RIGHT), np.random.default_rng(1)
    with Likelihood(simulator, Y, 1, Budget(200_000), {"workers": 1}) as likelihood:
        pool = pilot(sources, likelihood, rng)
        mixture = fitted(pool, to_fit(pool)[1], rng).without_q()
        learned = Pool(sources, with_q=False)
        best = adapt(learned, mixture, likelihood, rng, wanted=500, tell=lambda *told: None)
        assert best.efficiency > 0.05
        found = run_chains(
            learned, best.mixture, likelihood, rng, chains=32, wanted=400, tell=lambda *told: None
        )
    assert found is not None
    assert found.diagnostics.rhat < 1.02
    draws = found.theta.reshape(-1, 2)
    assert (np.abs(draws.mean(axis=0) - MEAN) < 4.5 * SD / np.sqrt(found.diagnostics.ess)).all()
    assert (np.abs(draws.std(axis=0) / SD - 1) < 0.15).all()
    assert found.thinned(100).shape == (100, 2)


def test_chains_are_judged_by_the_worst_column() -> None:
    rng = np.random.default_rng(1)
    good = rng.standard_normal((4, 1000, 2))
    found = diagnose_chains(good)
    assert found.rhat < 1.01
    assert found.ess > 2000
    apart = good.copy()
    apart[0, :, 1] += 3
    assert diagnose_chains(apart).rhat > 1.1
    stuck = good.copy()
    stuck[2, :, 0] = 0.5
    assert diagnose_chains(stuck).rhat == np.inf
