"""The synthetic likelihood: its estimates against the density that they estimate, and its verdict."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

import sbi_flows as sf
from sbi_flows.baselines.synthetic import normality_of
from sbi_flows.baselines.synthetic_density import Estimator, log_unbiased, shrinkage_of
from tests.baselines.test_methods import edge

COVARIANCE = np.array([[1.0, 0.5], [0.5, 2.0]])


def samples(groups: int, n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).multivariate_normal([0, 0], COVARIANCE, (groups, n))


@pytest.mark.parametrize("point", [[0.0, 0.0], [1.5, -1.0]])
def test_the_unbiased_estimate_has_the_density_as_its_mean(point: list[float]) -> None:
    """8,000 estimates from 12 draws each: |z| < 4. The plug-in is biased by many errors."""
    groups = samples(8_000, 12)
    found = Estimator("unbiased", np.zeros(2))(groups, np.array(point))
    exact = multivariate_normal([0, 0], COVARIANCE).pdf(point)
    estimates = np.exp(found.asked)
    error = estimates.std() / np.sqrt(len(estimates))
    assert abs(estimates.mean() - exact) < 4 * error
    assert abs(np.exp(found.plug_in).mean() - exact) > 6 * error


def test_failed_simulations_lower_the_estimate_by_their_share() -> None:
    groups = samples(1, 400)
    groups[0, :100] = np.nan
    whole = Estimator("plug-in", np.zeros(2))(groups[:, 100:], np.zeros(2)).asked
    assert Estimator("plug-in", np.zeros(2))(groups, np.zeros(2)).asked == pytest.approx(whole + np.log(0.75))
    groups[0, 3:] = np.nan
    assert Estimator("unbiased", np.zeros(2))(groups, np.zeros(2)).asked == -np.inf


def test_a_summary_that_does_not_vary_gives_no_infinite_density() -> None:
    groups = samples(1, 50)
    groups[..., 1] = 3.0
    found = Estimator("unbiased", np.array([1e-4, 1e-4]))(groups, np.array([0.0, 3.0]))
    assert np.isfinite(found.asked).all()
    assert Estimator("unbiased", np.array([1e-4, 1e-4]))(groups, np.array([0.0, 4.0])).asked == -np.inf


def test_far_from_all_simulations_the_unbiased_estimate_is_zero() -> None:
    assert log_unbiased(np.array([100.0, 0.0]), 11 * COVARIANCE, 12) == -np.inf


def test_shrinkage_is_strong_without_correlations_and_weak_with_them() -> None:
    rng = np.random.default_rng(2)
    assert shrinkage_of(rng.standard_normal((40, 20))) < 0.3
    common = rng.standard_normal((200, 1))
    assert shrinkage_of(common + 0.1 * rng.standard_normal((200, 5))) > 0.95


def test_normal_summaries_pass_the_test_and_others_do_not() -> None:
    """200 tests of normal samples: at most 8 below 0.01 (binomial, 2e-3 per test would give more once in
    10^4).
    """
    rng = np.random.default_rng(3)
    p = [normality_of(rng.multivariate_normal([0, 0], COVARIANCE, 300)) for _ in range(200)]
    assert sum(value <= 0.01 for value in p) <= 8
    assert normality_of(rng.exponential(1, (300, 2))) < 1e-3
    assert normality_of(rng.poisson(1, (300, 2)).astype(float)) < 1e-3
    assert np.isnan(normality_of(np.zeros((5, 2))))


@pytest.mark.parametrize("covariance", ["unbiased", "plug-in", "shrinkage"])
def test_each_estimate_finds_the_posterior(covariance: str) -> None:
    """b has the posterior N(0.4 / 1.09, 0.09 / 1.09)."""
    settings = sf.ABCSettings(covariance=covariance, pilot=300, simulations_each=30)  # type: ignore[arg-type]
    draws = sf.abc(
        edge, (0.5, 0.4), method="synthetic_likelihood", n_simulations=60_000, seed=1, settings=settings
    )
    sd, ess = np.sqrt(0.09 / 1.09), draws.facts["ess"]
    assert abs(draws["b"].mean() - 0.4 / 1.09) < (0.05 + 4.5 / np.sqrt(ess)) * sd
    assert abs(draws["b"].std() / sd - 1) < 0.08 + 4.5 / np.sqrt(2 * ess)
    assert draws.facts["covariance"] == covariance
    assert draws.facts["normality"] > 1e-4


def test_summaries_that_are_not_normal_are_no_more_than_caution() -> None:
    @sf.simulator(sf.Prior(a=norm(0, 1)), event_shape=(2,))
    def skewed(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return theta["a"][:, None] + rng.exponential(1, (len(theta["a"]), 2))

    draws = sf.abc(skewed, [1.0, 1.5], method="synthetic_likelihood", n_simulations=20_000, seed=1)
    assert draws.facts["normality"] < 1e-3
    assert draws.verdict.level != "trust"
    assert "not normal" in draws.verdict.text


def test_short_chains_are_not_to_be_trusted() -> None:
    draws = sf.abc(edge, (0.5, 0.4), method="synthetic_likelihood", n_simulations=12_000, seed=1)
    assert draws.facts["rhat"] > 1.01
    assert draws.verdict.level != "trust"
    assert "R-hat" in draws.verdict.text
