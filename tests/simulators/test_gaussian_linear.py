"""The Gaussian tasks with ten means: noise, density and both posteriors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, multivariate_normal, norm, truncnorm

import sbi_flows as sf
from simulators.gaussian_linear import (
    gaussian_linear,
    gaussian_linear_log_likelihood,
    gaussian_linear_posterior,
    gaussian_linear_uniform,
    gaussian_linear_uniform_posterior,
)

RNG = np.random.default_rng(0)
BOTH = pytest.mark.parametrize(
    "simulator", [gaussian_linear, gaussian_linear_uniform], ids=lambda simulator: simulator.name
)


@BOTH
def test_data_scatter_around_theta_with_variance_a_tenth(simulator: sf.Simulator) -> None:
    """Residuals are normal and uncorrelated: false alarm rate 1e-6 each."""
    theta = simulator.prior.sample(4000, np.random.default_rng(1))
    residuals = (simulator.run(theta, np.random.default_rng(2)) - theta) / np.sqrt(0.1)
    assert all(kstest(column, norm.cdf).pvalue > 1e-6 for column in residuals.T)
    assert np.abs(np.corrcoef(residuals.T, theta.T)[:10, 10:]).max() < 5.5 / np.sqrt(4000)
    assert np.abs(np.corrcoef(residuals.T)[np.triu_indices(10, 1)]).max() < 5.5 / np.sqrt(4000)


@BOTH
def test_the_likelihood_is_the_normal_density(simulator: sf.Simulator) -> None:
    theta, y = simulator.prior.sample(20, np.random.default_rng(3)), np.random.default_rng(4).normal(size=10)
    wanted = [multivariate_normal(row, 0.1 * np.eye(10)).logpdf(y) for row in theta]
    np.testing.assert_allclose(
        gaussian_linear_log_likelihood(simulator.prior.as_mapping(theta), y, RNG), wanted, rtol=1e-10
    )


def test_the_priors_are_those_published() -> None:
    np.testing.assert_allclose(
        gaussian_linear.prior.log_prob(np.full(10, 0.2)), norm.logpdf(0.2, 0, np.sqrt(0.1)) * 10
    )
    assert gaussian_linear_uniform.prior.log_prob(np.full(10, 0.2)) == pytest.approx(-10 * np.log(2))
    np.testing.assert_allclose(gaussian_linear_uniform.prior.upper, 1)


@pytest.mark.parametrize("level", [0.0, 0.8, -3.0])
def test_draws_of_both_posteriors_follow_their_closed_forms(level: float) -> None:
    """Prior times likelihood in one coordinate, by quadrature; Kolmogorov-Smirnov at 1e-7 for each of ten
    columns.
    """
    y = np.full(10, level)
    grid = np.linspace(-4, 4, 16_001)
    for simulator, draw in (
        (gaussian_linear, gaussian_linear_posterior),
        (gaussian_linear_uniform, gaussian_linear_uniform_posterior),
    ):
        marginal = (
            norm(0, np.sqrt(0.1)).pdf(grid)
            if simulator is gaussian_linear
            else np.where(np.abs(grid) <= 1, 0.5, 0)
        )
        cumulative = np.cumsum(marginal * norm.pdf(level, grid, np.sqrt(0.1)))
        draws = draw(y, 3000, np.random.default_rng(5))
        assert simulator.prior.inside(draws).all()
        for column in draws.T:
            assert kstest(column, lambda x, c=cumulative: np.interp(x, grid, c / c[-1])).pvalue > 1e-7
        assert np.abs(np.corrcoef(draws.T)[np.triu_indices(10, 1)]).max() < 5.5 / np.sqrt(3000)


def test_data_far_outside_the_prior_put_the_posterior_at_its_edge() -> None:
    draws = gaussian_linear_uniform_posterior(np.full(10, 40.0), 1000, np.random.default_rng(6))
    assert gaussian_linear_uniform.prior.inside(draws).all()
    sd = np.sqrt(0.1)
    assert draws.mean() == pytest.approx(truncnorm(-41 / sd, -39 / sd, 40, sd).mean(), abs=5 * 0.0026 / 100)
