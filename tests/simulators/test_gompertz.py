"""The Gompertz model: the map, the counts and the likelihood, each against something that shares no code."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, poisson

import sbi_flows as sf
from simulators.gompertz import (
    GREAT_TITS,
    classic_gompertz,
    gompertz,
    gompertz_log_likelihood,
    gompertz_tits,
    make_gompertz,
    simulate_gompertz,
)
from simulators.ricker import great_tits, ricker

F = NDArray[np.float64]


def rows(n: int, a: float, k: float, sigma: float) -> dict[str, F]:
    return {"a": np.full(n, a), "k": np.full(n, k), "sigma": np.full(n, sigma)}


def test_log_counts_are_an_autoregression_around_log_k() -> None:
    """Of 20,000 series at k = e^14, where Poisson noise is slight: mean, variance and lag-1 covariance of the
    last steps against sigma^2 / (1 - (1 - a)^2), z-scores below 4.5 (false alarm rate 7e-6 each)."""
    n, a, sigma = 20_000, 0.6, 0.4
    logs = np.log(simulate_gompertz(rows(n, a, np.exp(14), sigma), np.random.default_rng(1), 30))[:, -2:] - 14
    variance = sigma**2 / (1 - (1 - a) ** 2)
    assert abs(logs[:, 1].mean()) < 4.5 * np.sqrt(variance / n)
    assert abs(logs[:, 1].var() / variance - 1) < 4.5 * np.sqrt(2 / n)
    correlation = np.corrcoef(logs.T)[0, 1]
    assert abs(correlation - (1 - a)) < 4.5 * (1 - (1 - a) ** 2) / np.sqrt(n)


def test_the_first_count_is_seen_after_a_step_from_k() -> None:
    """Without noise it rests at k: z-scores of the mean below 4.5."""
    y = simulate_gompertz(rows(10_000, 0.7, 20.0, 1e-12), np.random.default_rng(2), 3)
    assert (np.abs(y.mean(axis=0) - 20) < 4.5 * np.sqrt(20 / 10_000)).all()


def test_the_filter_estimates_the_likelihood_without_bias() -> None:
    """Against 400,000 paths drawn from the exact Gaussian distribution of log N: z-score below 4.5."""
    a, k, sigma, y = 0.5, 8.0, 0.5, np.array([5.0, 12.0, 9.0])
    estimates = np.exp(gompertz_log_likelihood(rows(400, a, k, sigma), y, np.random.default_rng(3), 100))
    steps = np.arange(1, 4)
    covariance = np.array(
        [
            [sum((1 - a) ** (s + t - 2 * j) for j in range(1, min(s, t) + 1)) * sigma**2 for t in steps]
            for s in steps
        ]
    )
    paths = multivariate_normal(np.full(3, np.log(k)), covariance, seed=4).rvs(400_000)
    direct = poisson.pmf(y, np.exp(paths)).prod(axis=1)
    error = np.hypot(estimates.std() / np.sqrt(400), direct.std() / np.sqrt(400_000))
    assert abs(estimates.mean() - direct.mean()) < 4.5 * error


def test_what_is_not_observed_does_not_count() -> None:
    theta = rows(50, 0.5, 8.0, 0.3)
    gaps = np.array([5.0, np.nan, 9.0, np.nan])
    found = gompertz_log_likelihood(theta, gaps, np.random.default_rng(5))
    cut = gompertz_log_likelihood(theta, gaps[:3], np.random.default_rng(5))
    assert np.isfinite(found).all()
    assert abs(found.mean() - cut.mean()) < 4.5 * np.hypot(found.std(), cut.std()) / np.sqrt(50)


@pytest.mark.parametrize(("one", "other"), [(gompertz, ricker), (gompertz_tits, great_tits)])
def test_it_is_a_rival_for_the_same_data(one: sf.Simulator, other: sf.Simulator) -> None:
    assert one.event_shape == other.event_shape
    y = np.asarray(sf.simulate(one, 50, seed=1).y, dtype=np.float64)
    np.testing.assert_array_equal(one.compute_summaries(y), other.compute_summaries(y))


def test_observed_data_are_there_and_the_suite_passes() -> None:
    assert gompertz_tits.data("wytham_wood").tolist() == list(GREAT_TITS)
    np.testing.assert_array_equal(gompertz.data("classic"), classic_gompertz())
    assert sf.testing.check_simulator(make_gompertz(steps=8, observed={"y": np.arange(8.0)})).ok
