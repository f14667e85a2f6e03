"""The linear-Gaussian toy: its closed forms against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest, multivariate_normal, norm

import sbi_flows as sf
from simulators.gaussian import design, make_gaussian, posterior_moments

F = NDArray[np.float64]


def grid_moments(model: sf.Simulator, y: F) -> tuple[F, F]:
    """Mean and covariance of p(theta | y) by the trapezoid rule over prior times likelihood, in one or two
    dimensions.
    """
    axis = np.linspace(-8, 8, 321)
    theta = np.stack(np.meshgrid(*[axis] * model.prior.d, indexing="ij"), axis=-1).reshape(-1, model.prior.d)
    assert model.log_likelihood is not None
    log_joint = model.prior.log_prob(theta) + model.log_likelihood(
        model.prior.as_mapping(theta), y, np.random.default_rng(0)
    )
    weights = np.exp(log_joint - log_joint.max())
    weights /= weights.sum()
    mean = weights @ theta
    return mean, (weights * (theta - mean).T) @ (theta - mean)


@pytest.mark.parametrize("noise", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("d", [1, 2])
def test_the_posterior_moments_are_those_of_quadrature(d: int, noise: float) -> None:
    y = np.array([0.7, -0.4])[:d]
    mean, covariance = grid_moments(make_gaussian(d, noise), y)
    np.testing.assert_allclose(posterior_moments(y, noise)[0], mean, atol=1e-8)
    np.testing.assert_allclose(posterior_moments(y, noise)[1], covariance, atol=1e-8)


def test_the_posterior_mean_in_ten_dimensions_solves_the_ridge_regression() -> None:
    y = np.random.default_rng(0).normal(size=10)
    stacked = np.concatenate([design(10) / 0.5, np.eye(10)])
    wanted = np.linalg.lstsq(stacked, np.r_[y / 0.5, np.zeros(10)], rcond=None)[0]
    np.testing.assert_allclose(posterior_moments(y)[0], wanted, atol=1e-10)


@pytest.mark.parametrize("d", [1, 2, 10])
def test_draws_of_the_exact_posterior_follow_it(d: int) -> None:
    """Squared Mahalanobis distances are chi-squared, each whitened column standard normal: Kolmogorov-Smirnov
    at 1e-6 each.
    """
    model, y = make_gaussian(d), np.linspace(-1, 1, d)
    assert model.exact_posterior is not None
    draws = model.exact_posterior(y, 4000, np.random.default_rng(1))
    assert draws.shape == (4000, d)
    mean, covariance = posterior_moments(y)
    white = np.linalg.solve(np.linalg.cholesky(covariance), (draws - mean).T)
    assert all(kstest(column, norm.cdf).pvalue > 1e-6 for column in white)
    assert kstest(np.square(white).sum(axis=0), "chi2", args=(d,)).pvalue > 1e-6


@pytest.mark.parametrize("d", [1, 2, 10])
def test_data_scatter_around_the_design_times_theta(d: int) -> None:
    """Residuals over the noise are standard normal, each component: Kolmogorov-Smirnov at 1e-6 each."""
    sims = sf.simulate(make_gaussian(d, 0.5), 4000, seed=2)
    for residual in ((sims.y - sims.theta @ design(d).T) / 0.5).T:
        assert kstest(residual, norm.cdf).pvalue > 1e-6


@pytest.mark.parametrize("d", [1, 3])
def test_the_likelihood_is_the_normal_density_at_the_design_times_theta(d: int) -> None:
    model, rng = make_gaussian(d, 0.7), np.random.default_rng(3)
    theta, y = rng.normal(size=(5, d)), rng.normal(size=d)
    wanted = [multivariate_normal(design(d) @ row, 0.49 * np.eye(d)).logpdf(y) for row in theta]
    assert model.log_likelihood is not None
    np.testing.assert_allclose(
        model.log_likelihood(model.prior.as_mapping(theta), y, rng), wanted, rtol=1e-10
    )


def test_the_design_falls_off_by_a_factor_with_distance() -> None:
    np.testing.assert_allclose(design(3), [[1, 0.6, 0.36], [0.6, 1, 0.6], [0.36, 0.6, 1]])


def test_parameters_are_named_from_one_and_independent_standard_normal() -> None:
    model = make_gaussian(3)
    assert model.prior.names == ("theta_1", "theta_2", "theta_3")
    assert model.prior.log_prob([0.3, -1.0, 2.0]) == pytest.approx(norm.logpdf([0.3, -1.0, 2.0]).sum())
    assert model.data("ones").tolist() == [1, 1, 1]
