"""SLCP with and without distractors: the points, their density, the four modes and the hidden columns."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest, multivariate_normal, norm, spearmanr
from scipy.stats import t as student_t

from simulators.slcp import (
    PRIOR,
    distractors,
    informative_columns,
    slcp,
    slcp_distractors,
    slcp_log_likelihood,
)

F = NDArray[np.float64]
RNG = np.random.default_rng(0)


def covariance(theta: F) -> F:
    """S as in the paper."""
    s_1, s_2, c = theta[2] ** 2, theta[3] ** 2, np.tanh(theta[4])
    return np.array([[s_1**2, c * s_1 * s_2], [c * s_1 * s_2, s_2**2]]) + 1e-6 * np.eye(2)


@pytest.mark.parametrize(
    "theta", [[0.7, -2.9, -1.0, -0.9, 0.6], [0.0, 0.0, 2.5, 0.1, -2.0], [1.0, 1.0, 0.01, 0.02, 0.0]]
)
@pytest.mark.parametrize("hidden", [False, True])
def test_the_points_are_normal_with_the_mean_and_covariance_of_theta(
    theta: list[float], hidden: bool
) -> None:
    """Whitened by an eigendecomposition: normal, with chi-squared lengths, neighbours uncorrelated; false
    alarm rate 1e-6 each.
    """
    simulator = slcp_distractors if hidden else slcp
    y = simulator.run(np.repeat([theta], 2000, axis=0), np.random.default_rng(1))
    points = (y[:, informative_columns()] if hidden else y).reshape(-1, 2)
    values, vectors = np.linalg.eigh(covariance(np.array(theta)))
    white = (points - theta[:2]) @ vectors / np.sqrt(values)
    assert all(kstest(column, norm.cdf).pvalue > 1e-6 for column in white.T)
    assert kstest((white**2).sum(axis=1), "chi2", args=(2,)).pvalue > 1e-6
    correlations = np.corrcoef(white.reshape(2000, 8).T)[np.triu_indices(8, 1)]
    assert np.abs(correlations).max() < 5.5 / np.sqrt(2000)


def test_the_likelihood_is_that_of_four_normal_points() -> None:
    theta = PRIOR.sample(200, np.random.default_rng(2))
    theta[:3, 4] = [3, -3, 2.99]
    y = np.random.default_rng(3).normal(size=8)
    wanted = [
        multivariate_normal(row[:2], covariance(row), allow_singular=True).logpdf(y.reshape(4, 2)).sum()
        for row in theta
    ]
    np.testing.assert_allclose(
        slcp_log_likelihood(PRIOR.as_mapping(theta), y, RNG), wanted, rtol=1e-6, atol=1e-6
    )


def test_the_signs_of_both_spreads_leave_no_trace() -> None:
    theta = PRIOR.sample(50, np.random.default_rng(4))
    values = [
        slcp_log_likelihood(PRIOR.as_mapping(theta * [1, 1, a, b, 1]), slcp.data("1"), RNG)
        for a, b in product([1.0, -1.0], repeat=2)
    ]
    for other in values[1:]:
        np.testing.assert_array_equal(values[0], other)
    moved = [slcp.run(theta * [1, 1, sign, 1, 1], np.random.default_rng(5)) for sign in (1, -1)]
    np.testing.assert_array_equal(*moved)


def test_the_four_points_can_change_places() -> None:
    theta, y = PRIOR.as_mapping(PRIOR.sample(50, np.random.default_rng(6))), slcp.data("2")
    np.testing.assert_allclose(
        slcp_log_likelihood(theta, y, RNG),
        slcp_log_likelihood(theta, y.reshape(4, 2)[[2, 0, 3, 1]].ravel(), RNG),
        rtol=1e-9,
    )


def test_the_likelihood_of_the_hundred_numbers_is_that_of_the_eight() -> None:
    theta = PRIOR.as_mapping(PRIOR.sample(50, np.random.default_rng(7)))
    assert slcp_distractors.log_likelihood is not None
    y = slcp_distractors.data("3")
    np.testing.assert_array_equal(
        slcp_distractors.log_likelihood(theta, y, RNG), slcp_log_likelihood(theta, slcp.data("3"), RNG)
    )
    y[np.setdiff1d(np.arange(100), informative_columns())] = 1e6
    np.testing.assert_array_equal(
        slcp_distractors.log_likelihood(theta, y, RNG), slcp_log_likelihood(theta, slcp.data("3"), RNG)
    )


def test_the_distractors_are_a_mixture_of_student_t_and_know_nothing_of_theta() -> None:
    """The columns, and 20 sums of them with random weights, against the distribution functions of their
    mixtures; each at 1e-7.
    """
    theta = PRIOR.sample(4000, np.random.default_rng(8))
    y = slcp_distractors.run(theta, np.random.default_rng(9))
    centres, factors, order = distractors()
    assert sorted(order) == list(range(100))
    unmixed = np.empty_like(y)
    unmixed[:, order] = y
    noise = unmixed[:, 8:]
    directions = np.concatenate([np.eye(92), np.random.default_rng(10).normal(size=(20, 92))])
    for w in directions:
        places, scales = centres @ w, np.linalg.norm(w @ factors, axis=-1)

        def cdf(x: F, places: F = places, scales: F = scales) -> F:
            return np.asarray(student_t.cdf((x[:, None] - places) / scales, 2).mean(axis=1))

        assert kstest(noise @ w, cdf).pvalue > 1e-7
    correlations = spearmanr(theta, noise).statistic[:5, 5:]
    assert np.abs(correlations).max() < 5.5 / np.sqrt(4000)
