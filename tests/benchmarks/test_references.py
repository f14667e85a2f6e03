"""The references of the benchmark: importance sampling and quadrature against closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_t, norm, poisson

from sbi_flows.rng import stream
from simulators.gaussian import make_gaussian, posterior_moments
from tests.benchmarks.importance import StudentMixture, effective, normalised, systematic
from tests.benchmarks.references import _pool, folded, make, reference
from tests.benchmarks.ricker_grid import log_likelihood

PUBLISHED = np.load(Path(__file__).parent.parent / "data" / "benchmark_posteriors.npz")


def test_systematic_draws_take_each_row_as_often_as_its_weight_says() -> None:
    rng = np.random.default_rng(1)
    log_weights = rng.normal(0, 1.5, 300)
    counts = np.bincount(systematic(log_weights, 1000, rng), minlength=300)
    assert counts.sum() == 1000
    assert (np.abs(counts - 1000 * normalised(log_weights)) < 1).all()


def test_the_effective_size_of_equal_weights_is_their_number() -> None:
    assert effective(np.full(50, -700.0)) == pytest.approx(50)
    assert effective(np.r_[np.zeros(10), np.full(40, -np.inf)]) == pytest.approx(10)


def test_the_density_of_a_student_mixture_is_that_of_scipy() -> None:
    rng = np.random.default_rng(2)
    factors = np.tril(rng.normal(size=(2, 3, 3)), -1) + np.eye(3)
    mixture = StudentMixture(np.array([0.3, 0.7]), rng.normal(size=(2, 3)), factors)
    z = mixture.sample(20, rng)
    parts = [multivariate_t(m, c @ c.T, df=6).pdf(z) for m, c in zip(mixture.means, factors, strict=True)]
    np.testing.assert_allclose(mixture.log_prob(z), np.log(0.3 * parts[0] + 0.7 * parts[1]), rtol=1e-10)


def test_importance_sampling_finds_a_posterior_known_in_closed_form() -> None:
    """Means within 5 standard errors, second moments within 5 of theirs: false-alarm rate 3e-6 for the five
    of them.
    """
    simulator, y = make_gaussian(2, noise=0.05), np.array([1.5, -2.0])
    theta, log_weights = _pool(simulator, y, 1000, stream(1, "test"))
    mean, covariance = posterior_moments(y, 0.05)
    weights, n = normalised(log_weights), effective(log_weights)
    assert n > 0.3 * len(theta)
    white = np.linalg.solve(np.linalg.cholesky(covariance), (theta - mean).T)
    assert np.abs(white @ weights).max() < 5 / np.sqrt(n)
    assert np.abs((white * weights) @ white.T - np.eye(2)).max() < 5 * np.sqrt(2 / n)


def test_slcp_is_made_like_the_published_draws_in_four_equal_modes() -> None:
    """Observation 2, whose posterior leans on the prior's box; errors as if 2,000 of the 10,000 published
    draws were independent.
    """
    made = make("slcp", "2", 2000)
    draws, wanted, sd = folded("slcp", made.draws), PUBLISHED["slcp/2/mean"], PUBLISHED["slcp/2/sd"]
    error = np.sqrt(1 / 2000 + 1 / 2000)
    assert np.abs((draws.mean(axis=0) - wanted) / sd).max() < 5 * error
    assert np.abs(np.log(draws.std(axis=0) / sd)).max() < 5 * error
    signs = np.bincount(2 * (made.draws[:, 2] > 0) + (made.draws[:, 3] > 0))
    assert np.abs(signs - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


def test_references_are_kept_and_published_ones_must_be_of_the_same_data(tmp_path: Path) -> None:
    first = reference("two_moons", "1", cache=tmp_path / "kept", n=50)
    np.testing.assert_array_equal(
        reference("two_moons", "1", cache=tmp_path / "kept", n=50).draws, first.draws.astype(np.float32)
    )
    np.savez(tmp_path / "two_moons.npz", y_obs=np.ones((10, 2)), reference=np.zeros((10, 50, 2)))
    with pytest.raises(ValueError, match="observation 1 is not that of the simulator"):
        reference("two_moons", "1", published=tmp_path, cache=tmp_path / "kept", n=50)


def test_the_ricker_likelihood_by_quadrature_is_the_integral_over_the_noise() -> None:
    """Two counts: trapezoidal rule over both normal variates."""
    log_r, sigma, rho, y = 3.6, 0.4, 9.0, np.array([5.0, 60.0])
    grid = np.linspace(-9, 9, 1201)
    first = np.exp(log_r - 1 + sigma * grid)[:, None]
    second = np.exp(log_r) * first * np.exp(-first + sigma * grid[None])
    values = (
        norm.pdf(grid)[:, None]
        * norm.pdf(grid)[None]
        * poisson.pmf(y[0], rho * first)
        * poisson.pmf(y[1], rho * second)
    )
    assert log_likelihood(log_r, sigma, rho, y) == pytest.approx(
        np.log(values.sum() * (grid[1] - grid[0]) ** 2), abs=1e-8
    )
