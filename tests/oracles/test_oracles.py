"""The oracles: their quadrature is exact, and their posteriors cover the parameters as they should."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from scipy.stats import chi2, multivariate_normal

from tests.oracles import blob, local_level, poisson_covariate

ALL = pytest.mark.parametrize("oracle", [local_level, blob, poisson_covariate], ids=lambda m: m.__name__)


def gappy(oracle: ModuleType, n: int, rng: np.random.Generator) -> tuple[np.ndarray, object]:
    theta, y = oracle.simulate(n, rng)
    if oracle is not poisson_covariate:
        return theta, oracle.with_gaps(y, (0.0, 0.3), rng)
    y["counts"][rng.random(y["counts"].shape) < 0.2] = np.nan
    return theta, y


@ALL
def test_the_mean_of_squared_standardised_errors_is_one(oracle: ModuleType) -> None:
    theta, y = gappy(oracle, 300, np.random.default_rng(1))
    nodes, log_p, log_weight = oracle.posterior(y)
    mass = np.exp(log_p + log_weight)
    np.testing.assert_allclose(mass.sum(axis=1), 1.0, atol=1e-9)
    error = theta[:, None] - nodes
    mean = (mass[..., None] * error).sum(axis=1)
    spread = (mass[..., None, None] * (error[..., :, None] * error[..., None, :])).sum(axis=1)
    spread -= mean[:, :, None] * mean[:, None, :]
    d = theta.shape[1]
    squared = np.einsum("ni,nij,nj->n", mean, np.linalg.inv(spread), mean)
    # E = d exactly, whatever the shape of the posteriors; the standard error from the rows themselves.
    assert abs(squared.mean() - d) < 4 * squared.std() / np.sqrt(len(squared))
    assert np.median(squared) < chi2(d).ppf(0.75)


@ALL
def test_more_nodes_change_nothing(oracle: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    _, y = gappy(oracle, 20, np.random.default_rng(2))

    def entropy() -> np.ndarray:
        _, log_p, log_weight = oracle.posterior(y)
        return np.asarray(-(np.exp(log_p + log_weight) * log_p).sum(axis=1))

    before = entropy()
    monkeypatch.setattr(oracle, "_NODES", oracle._NODES * 3 // 2)
    np.testing.assert_allclose(entropy(), before, atol=2e-4)


@ALL
def test_the_divergence_of_the_posterior_itself_is_zero_and_of_a_tilted_one_is_not(
    oracle: ModuleType,
) -> None:
    _, y = gappy(oracle, 5, np.random.default_rng(3))
    nodes, log_p, log_weight = oracle.posterior(y)
    # kl_to_exact may go row by row; the nodes tell which row it is at.
    found = {row.tobytes(): values for row, values in zip(nodes[:, 0], log_p, strict=True)}
    if oracle is local_level:  # its nodes are the same for every row, and it takes all rows at once
        assert np.abs(oracle.kl_to_exact(lambda theta, y: log_p, y)).max() < 1e-12
        return

    def exact(theta: np.ndarray, y: object) -> np.ndarray:
        return np.stack([found[row.tobytes()] for row in theta[:, 0]])

    assert np.abs(oracle.kl_to_exact(exact, y)).max() < 1e-12
    tilt = np.log((np.exp(log_p + log_weight) * np.exp(0.1 * nodes[..., 0])).sum(axis=1))
    mean = (np.exp(log_p + log_weight) * nodes[..., 0]).sum(axis=1)
    normaliser = dict(zip(found, tilt, strict=True))

    def tilted(theta: np.ndarray, y: object) -> np.ndarray:
        shift = np.array([normaliser[row.tobytes()] for row in theta[:, 0]])
        return exact(theta, y) + 0.1 * theta[..., 0] - shift[:, None]

    np.testing.assert_allclose(oracle.kl_to_exact(tilted, y), tilt - 0.1 * mean, atol=1e-9)


def test_the_kalman_filter_is_the_density_of_what_was_observed() -> None:
    rng = np.random.default_rng(4)
    theta, y = local_level.simulate(4, rng, length=12)
    y = local_level.with_gaps(y, (0.2, 0.6), rng)
    y[0] = np.nan
    for row, (log_q, log_r) in zip(y, theta, strict=True):
        seen = np.flatnonzero(np.isfinite(row))
        steps = np.arange(len(row))
        covariance = (
            1 + np.exp(2 * log_q) * np.minimum.outer(steps, steps) + np.exp(2 * log_r) * np.eye(len(row))
        )
        exact = (
            multivariate_normal(cov=covariance[np.ix_(seen, seen)]).logpdf(row[seen]) if len(seen) else 0.0
        )
        ours = local_level.log_likelihood(np.array([[log_q, log_r]]), row[None])
        np.testing.assert_allclose(ours, exact, atol=1e-10)


def test_the_posterior_density_of_one_value_is_that_of_the_grid() -> None:
    rng = np.random.default_rng(5)
    _, y = local_level.simulate(3, rng, length=20)
    nodes, log_p, _ = local_level.posterior(y)
    np.testing.assert_allclose(local_level.log_posterior(nodes[:, 700], y), log_p[:, 700], atol=1e-10)
