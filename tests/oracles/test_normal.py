"""The exact posterior of normal data, beside integrals done otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import dblquad, quad
from scipy.stats import norm

from tests.oracles.normal import PRIOR, Exact, kl_to_exact, simulate


def data(n: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return simulate(np.asarray(PRIOR.sample(1, rng)), n, rng)[0]


@pytest.mark.parametrize("n", [1, 2, 5, 20, 200])
def test_twice_the_nodes_change_nothing(n: int) -> None:
    y = data(n)
    once, twice = Exact.of(y), Exact.of(y, nodes=128)
    np.testing.assert_allclose(once.mass @ once.theta, twice.mass @ twice.theta, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(once.log_prob(once.theta), twice.log_prob(once.theta), atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 10])
def test_the_density_integrates_to_one(n: int) -> None:
    exact = Exact.of(data(n))

    def density(sd: float, mu: float) -> float:
        return float(np.exp(exact.log_prob(np.array([[mu, sd]])))[0])

    assert dblquad(density, -2, 2, 0.3, 3, epsabs=1e-6)[0] == pytest.approx(1, abs=1e-5)


def test_the_density_of_the_mean_given_the_sd_is_the_normal_one() -> None:
    y = data(20)
    exact, sd = Exact.of(y), 1.3

    def density(mu: float) -> float:
        return float(np.exp(exact.log_prob(np.array([[mu, sd]])))[0])

    total = quad(density, -2, 2)[0]
    given = norm(y.mean(), sd / np.sqrt(20))
    wanted = given.pdf(0.1) / (given.cdf(2) - given.cdf(-2))
    assert density(0.1) / total == pytest.approx(wanted, rel=1e-6)


def test_a_posterior_is_at_no_distance_from_itself_and_at_the_right_one_from_the_prior() -> None:
    y = data(5)[None]
    exact = Exact.of(y[0])
    assert kl_to_exact(lambda theta, row: Exact.of(row).log_prob(theta), y)[0] == pytest.approx(0, abs=1e-9)
    wanted = float(exact.mass @ exact.log_density) + np.log(4 * 2.7)
    found = kl_to_exact(lambda theta, _: np.full(len(theta), -np.log(4 * 2.7)), y)[0]
    assert found == pytest.approx(wanted)
    assert found > 0.1


def test_the_true_parameters_are_where_the_posterior_says() -> None:
    """mu at its posterior quantile, over 400 data sets: uniform, by a chi-square of 10 bins (9 degrees of
    freedom: 33.7 is passed with probability 1e-4).
    """
    rng = np.random.default_rng(2)
    theta = np.asarray(PRIOR.sample(400, rng))
    counts = np.zeros(10)
    for row, truth in zip(simulate(theta, 4, rng), theta, strict=True):
        exact = Exact.of(row)
        counts[min(int(10 * exact.mass[exact.theta[:, 0] < truth[0]].sum()), 9)] += 1
    assert np.square(counts - 40).sum() / 40 < 33.7
