"""Log evidences by importance sampling, against those of another sampler; the gap of known densities."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from simulators.ricker import ricker
from tests.benchmarks import ricker_gap
from tests.benchmarks.accuracy import EXACT
from tests.benchmarks.ricker_grid import log_likelihood

F = np.ndarray


class NormalPosterior:
    """N(mean, 2 covariance) of exact draws in unconstrained coordinates, in place of a neural posterior."""

    prior = ricker.prior

    def __init__(self, draws: F) -> None:
        z = self.prior.to_unconstrained(draws)[0]
        self.normal = multivariate_normal(z.mean(axis=0), 2 * np.cov(z.T))

    def sample(self, y: F, n: int, seed: int) -> SimpleNamespace:
        theta = self.prior.from_unconstrained(self.normal.rvs(n, random_state=seed).reshape(n, 3))
        return SimpleNamespace(to_numpy=lambda: theta)

    def log_prob(self, theta: F, y: F) -> F:
        z, log_det = self.prior.to_unconstrained(theta)
        return np.asarray(self.normal.logpdf(z) + log_det)


def test_the_log_evidence_is_that_of_another_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kept value, by particle MCMC, has an error of about 0.01 nats, this one of at most 0.05: beyond
    3.9 sd of the difference lies 1e-4 of its distribution.
    """
    monkeypatch.setattr(ricker_gap, "ERROR", 0.05)
    draws, y = EXACT["prior_T100_0/draws"].astype(float), EXACT["prior_T100_0/x_obs"].astype(float)
    posterior = NormalPosterior(draws)
    found = ricker_gap.log_evidence(posterior, y, np.random.default_rng(1))  # type: ignore[arg-type]
    assert found.error <= 0.05
    assert found.ess <= found.n
    wanted = float(EXACT["prior_T100_0/log_evidence"])
    assert found.value == pytest.approx(wanted, abs=3.9 * np.hypot(found.error, 0.02))


def test_fewer_points_and_float32_change_the_likelihood_by_little() -> None:
    rng = np.random.default_rng(5)
    theta = ricker.prior.sample(10, rng)
    y = np.asarray(ricker.run(theta, rng), dtype=float)
    for row, series in zip(theta, y, strict=True):
        quick = log_likelihood(*row, series, 1.25, np.float32)
        assert quick == pytest.approx(log_likelihood(*row, series), abs=2e-4)


@pytest.mark.parametrize("count", [0.0, 40.0])
def test_a_series_out_of_reach_has_no_likelihood(count: float) -> None:
    """The first count is about 20 e^4, and N then falls to nearly nothing for some ten steps."""
    assert log_likelihood(5.0, 0.05, 20.0, np.full(100, count)) == -np.inf


def test_the_gap_is_the_mean_of_the_difference_with_its_error() -> None:
    log_p, log_q = np.array([1.0, 2.0, 3.0, 6.0]), np.array([0.0, 2.0, 2.0, 4.0])
    assert ricker_gap.gap(log_q, log_p) == (1.0, pytest.approx(np.sqrt(2 / 3) / 2))
