"""Rank tests of an exact, a too wide, a too narrow and a shifted posterior, and of the prior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, multivariate_normal, norm

from sbi_flows.diagnostics.calibration import LOG_LIKELIHOOD, LOG_Q, RANDOM_POINT, RankTest, rank_tests
from sbi_flows.diagnostics.dependence import data_features, dependence
from sbi_flows.diagnostics.pairs import Pairs, draw_pairs, likelihoods
from sbi_flows.diagnostics.tests import apply_tests, measure
from sbi_flows.errors import ShapeError
from simulators.gaussian import make_gaussian, posterior_moments

D = 2
SIMULATOR = make_gaussian(D)


def exact(
    width: float = 1.0, shift: float = 0.0
) -> tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]:
    """The closed-form posterior with its sd times `width` and its mean moved by `shift` sd: sampler and log
    density.
    """
    _, covariance = posterior_moments(np.zeros(D))
    sd = np.sqrt(np.diag(covariance))

    def mean(y: np.ndarray) -> np.ndarray:
        return np.array([posterior_moments(row)[0] for row in y]) + shift * sd

    def sampler(y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        noise = rng.multivariate_normal(np.zeros(D), width**2 * covariance, (len(y), n))
        return mean(y)[:, None] + noise

    def log_prob(theta: np.ndarray, y: np.ndarray) -> np.ndarray:
        density = multivariate_normal(np.zeros(D), width**2 * covariance)
        return density.logpdf(theta - mean(y)[:, None]).reshape(theta.shape[:2])

    return sampler, log_prob


def ranks_of(
    posterior: tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]], m: int, seed: int
) -> dict[str, RankTest]:
    rng = np.random.default_rng(seed)
    theta = SIMULATOR.prior.sample(m, rng)
    y = np.asarray(SIMULATOR.run(theta, rng))
    sampler, log_prob = posterior
    pairs = draw_pairs(sampler, theta, y, names=SIMULATOR.prior.names, rng=rng, log_prob=log_prob)
    return {test.quantity: test for test in rank_tests(pairs, rng)}


def test_the_exact_posterior_passes_and_its_statistics_are_standard_normal() -> None:
    """100 repeats at m = 100: the z statistics' mean and variance lie within 4.4 sd of 0 and 1 (false-alarm
    rate 1e-5 each).
    """
    found = [ranks_of(exact(), 100, seed) for seed in range(100)]
    assert min(test.p for tests in found for test in tests.values()) > 1e-5
    for statistic in ("mean_z", "spread_z"):
        z = np.array([getattr(tests["theta_1"], statistic) for tests in found])
        assert abs(z.mean()) < 4.4 / np.sqrt(100)
        assert abs(z.var() - 1) < 4.4 * np.sqrt(2 / 100)


@pytest.mark.parametrize("width", [0.8, 1.25])
def test_a_wrong_dispersion_is_detected_in_every_repeat_and_measured(width: float) -> None:
    for seed in range(20):
        tests = ranks_of(exact(width=width), 1000, seed)
        assert tests["theta_1"].p < 1e-6
        assert tests[LOG_Q].p < 1e-6
        assert tests[RANDOM_POINT].p < 1e-3
        assert tests["theta_1"].dispersion == pytest.approx(width, abs=0.12)
        assert abs(tests["theta_1"].shift) < 0.15


def test_a_shift_is_detected_in_every_repeat_and_measured() -> None:
    for seed in range(20):
        tests = ranks_of(exact(shift=0.3), 1000, seed)
        assert tests["theta_2"].p < 1e-6
        assert tests["theta_2"].shift == pytest.approx(-0.3, abs=0.15)


def test_coverage_is_that_of_the_dispersion() -> None:
    """Binomial limits at a false-alarm rate of 1e-5 around the exact coverage of an interval `width` times as
    long.
    """
    for width in (1.0, 0.8, 1.25):
        test = ranks_of(exact(width=width), 2000, 5)["theta_1"]
        for level in (0.5, 0.9):
            expected = 2 * norm.cdf(norm.ppf(0.5 + level / 2) * width) - 1
            low, high = binom.interval(1 - 1e-5, 2000, expected)
            assert low / 2000 - 0.01 <= test.coverage(level) <= high / 2000 + 0.01


def test_the_prior_passes_on_ranks_of_theta_alone() -> None:
    """Why `check` also asks for a gain over the prior: its ranks are uniform."""

    def sampler(y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal((len(y), n, D))

    tests = ranks_of((sampler, lambda theta, y: norm.logpdf(theta).sum(axis=-1)), 1000, 0)
    assert tests["theta_1"].p > 1e-4


def test_ties_are_broken_at_random() -> None:
    """A sampler that always returns the truth's own value has uniform ranks: |z| < 4.4 (1e-5)."""
    rng = np.random.default_rng(0)
    theta = np.ones((1000, 1))
    pairs = draw_pairs(
        lambda y, n, rng: np.ones((len(y), n, 1)), theta, np.zeros((1000, 1)), names=("x",), rng=rng
    )
    tests = rank_tests(pairs, rng)
    assert abs(tests[0].mean_z) < 4.4
    assert abs(tests[0].spread_z) < 4.4


def test_a_sampler_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(5, 10, 1\).*\(5, 100, 1\)"):
        draw_pairs(
            lambda y, n, rng: np.ones((5, 10, 1)),
            np.ones((5, 1)),
            np.ones((5, 1)),
            names=("x",),
            rng=np.random.default_rng(0),
        )


def test_the_likelihood_detects_data_that_the_posterior_ignores() -> None:
    """The posterior given y_1 alone passes on theta and log q, and not on the log-likelihood of both."""
    rng = np.random.default_rng(0)
    theta = rng.standard_normal((1000, 1))
    y = theta + 0.7 * rng.standard_normal((1000, 2))
    variance = 1 / (1 + 1 / 0.49)

    def sampler(y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        return (variance / 0.49 * y[:, :1] + np.sqrt(variance) * rng.standard_normal((len(y), n)))[..., None]

    def log_prob(theta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return norm.logpdf(theta[..., 0], variance / 0.49 * y[:, :1], np.sqrt(variance))

    def log_likelihood(theta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return norm.logpdf(y, theta, 0.7).sum(axis=-1)

    pairs = draw_pairs(sampler, theta, y, names=("x",), rng=rng, log_prob=log_prob)
    pairs = replace(pairs, log_likelihood=likelihoods(pairs, log_likelihood, rows=1000, draws=50))
    found = {test.quantity: test for test in rank_tests(pairs, rng)}
    assert min(found["x"].p, found[LOG_Q].p) > 1e-4
    assert found[LOG_LIKELIHOOD].p < 1e-6
    ignored = min(dependence([found["x"]], data_features(y)), key=lambda one: one.p)
    assert ignored.p < 1e-6
    assert ignored.r2 > 0.09


@pytest.mark.parametrize(
    ("centre", "spread", "level"), [(1.0, 1.0, "trust"), (0.0, 2**0.5, "caution"), (1.0, 0.3, "do not trust")]
)
def test_the_likelihood_of_the_truth_gives_a_lossy_posterior_caution_and_a_narrow_one_less(
    centre: float, spread: float, level: str
) -> None:
    """y | theta ~ N(theta, 1), theta ~ N(0, 1), posterior N(y / 2, 1 / 2): correct, the prior, and one 0.3
    times as wide.
    """
    rng = np.random.default_rng(4)
    theta = rng.standard_normal((400, 1))
    y = theta + rng.standard_normal((400, 1))

    def sampler(y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        return (centre * y / 2 + spread * np.sqrt(0.5) * rng.standard_normal((len(y), n)))[..., None]

    def estimated(theta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return norm.logpdf(y[0], theta[:, 0], 1.0) + 0.2 * rng.standard_normal(len(theta))

    pairs = draw_pairs(sampler, theta, y, names=("x",), rng=rng)
    pairs = replace(pairs, log_likelihood=likelihoods(pairs, estimated, rows=200, draws=10))
    found = {one.test: one for one in apply_tests(measure(pairs, rng))}
    assert found["likelihood of the truth"].level == level


def test_a_likelihood_of_the_wrong_shape_is_refused() -> None:
    pairs = Pairs(np.zeros((5, 1)), np.zeros((5, 1)), np.zeros((5, 30, 1)), ("x",))
    with pytest.raises(ShapeError, match=r"\(\) for 11 values.*\(11,\)"):
        likelihoods(pairs, lambda theta, y: np.array(0.0), rows=3, draws=10)
