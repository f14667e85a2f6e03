"""The Gaussian mixture: two widths, drawn row by row, and a posterior cut by the prior's edge."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, kstest, multivariate_normal

from simulators.gaussian_mixture import (
    gaussian_mixture,
    gaussian_mixture_log_likelihood,
    gaussian_mixture_posterior,
)

RNG = np.random.default_rng(0)


def test_each_row_draws_its_own_component() -> None:
    """Squared distances follow the even mixture, directions are uniform, and neighbours do not share a width;
    1e-6 each.
    """
    y = gaussian_mixture.run(np.repeat([[3.0, -8.0]], 5000, axis=0), np.random.default_rng(1)) - [3.0, -8.0]
    squared = (y**2).sum(axis=1)
    assert kstest(squared, lambda x: (chi2.cdf(x, 2) + chi2.cdf(x / 0.01, 2)) / 2).pvalue > 1e-6
    assert kstest(np.arctan2(*y.T), "uniform", args=(-np.pi, 2 * np.pi)).pvalue > 1e-6
    assert abs(np.corrcoef(squared[1:] < 0.1, squared[:-1] < 0.1)[0, 1]) < 5 / np.sqrt(5000)


def test_the_likelihood_is_the_even_mixture() -> None:
    theta, y = gaussian_mixture.prior.sample(50, np.random.default_rng(2)), np.array([0.3, -0.2])
    theta[:10] = y + np.linspace(0, 0.5, 10)[:, None]
    wanted = [
        np.log((multivariate_normal(row, 1).pdf(y) + multivariate_normal(row, 0.01).pdf(y)) / 2)
        for row in theta
    ]
    np.testing.assert_allclose(
        gaussian_mixture_log_likelihood(gaussian_mixture.prior.as_mapping(theta), y, RNG), wanted, rtol=1e-9
    )


@pytest.mark.parametrize("y", [[0.0, 0.0], [9.9, -9.5], [-10.1, 10.02], [11.5, 3.0]])
def test_draws_of_the_posterior_follow_prior_times_likelihood(y: list[float]) -> None:
    """Each column against quadrature over the square, Kolmogorov-Smirnov at 1e-6."""
    data = np.array(y)
    draws = gaussian_mixture_posterior(data, 10_000, np.random.default_rng(3))
    assert gaussian_mixture.prior.inside(draws).all()
    axes = [np.linspace(max(-10, v - 6), min(10, v + 6), 1201) for v in y]
    middles = [(axis[1:] + axis[:-1]) / 2 for axis in axes]
    grid = np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(
        gaussian_mixture_log_likelihood(gaussian_mixture.prior.as_mapping(grid), data, RNG)
    ).reshape(1200, 1200)
    for i, column in enumerate(draws.T):
        cumulative = np.r_[0, np.cumsum(density.sum(axis=1 - i))]
        assert kstest(column, lambda x, i=i, c=cumulative: np.interp(x, axes[i], c / c[-1])).pvalue > 1e-6


def test_data_that_no_theta_can_make_are_answered_inside_the_prior() -> None:
    draws = gaussian_mixture_posterior(np.array([80.0, -1000.0]), 100, np.random.default_rng(4))
    assert gaussian_mixture.prior.inside(draws).all()
