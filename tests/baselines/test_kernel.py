"""The kernels of sequential ABC."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from sbi_flows.baselines.kernel import Kernel


def two_clusters(n: int = 200) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.concatenate([rng.normal(-4, 0.3, (n, 2)), rng.normal(4, 0.3, (n, 2))])


def test_the_density_is_that_of_the_mixture() -> None:
    z = two_clusters(30)
    weights = np.arange(1.0, 61.0)
    kernel = Kernel.around(z, weights)
    at = z[:5] + 0.2
    terms = [
        w
        * (
            0.9 * multivariate_normal(c, r @ r.T).pdf(at)
            + 0.1 * multivariate_normal(c, kernel.wide @ kernel.wide.T).pdf(at)
        )
        for c, w, r in zip(kernel.centres, kernel.weights, kernel.roots, strict=True)
    ]
    assert kernel.log_prob(at) == pytest.approx(np.log(np.sum(terms, axis=0)), rel=1e-7)


def test_draws_follow_the_density() -> None:
    """Importance weights of a third density have mean one: z-test, |z| < 4."""
    kernel = Kernel.around(two_clusters(), np.ones(400))
    draws = kernel.sample(6_000, np.random.default_rng(2))
    third = multivariate_normal([4, 4], 0.2 * np.eye(2))
    weights = np.exp(third.logpdf(draws) - kernel.log_prob(draws))
    assert abs(weights.mean() - 1) < 4 * weights.std() / np.sqrt(len(weights))


def test_local_kernels_do_not_bridge_the_gap_between_clusters() -> None:
    kernel = Kernel.around(two_clusters(), np.ones(400))
    assert np.abs(kernel.roots).max() < 2
    assert np.abs(kernel.wide).max() > 4


def test_the_walk_leaves_a_normal_distribution_as_it_is() -> None:
    """Metropolis-Hastings with the ratio that `walk` returns, from exact draws of N(0, I): after 30 steps the
    means and variances are still right, |z| < 4.5.
    """
    rng = np.random.default_rng(3)
    kernel = Kernel.around(np.random.default_rng(4).normal(0, [1, 0.4], (300, 2)), np.ones(300))
    z = rng.standard_normal((4_000, 2))
    for _ in range(30):
        moved, ratio = kernel.walk(z, rng)
        log_ratio = ratio + 0.5 * (np.square(z) - np.square(moved)).sum(axis=1)
        z = np.where((np.log(rng.random(len(z))) < log_ratio)[:, None], moved, z)
    assert np.abs(z.mean(axis=0)).max() < 4.5 / np.sqrt(len(z))
    assert np.abs(z.var(axis=0) - 1).max() < 4.5 * np.sqrt(2 / len(z))


def test_equal_particles_still_give_a_kernel() -> None:
    kernel = Kernel.around(np.ones((40, 3)), np.ones(40))
    assert np.isfinite(kernel.log_prob(np.ones((2, 3)))).all()
