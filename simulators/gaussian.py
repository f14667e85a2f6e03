"""Linear-Gaussian toy in any dimension, with its posterior in closed form: the oracle of the tests.

The model and its posterior:

    theta ~ N(0, I_d),   y = A theta + e,  e ~ N(0, s^2 I_d),   A_ij = 0.6^|i - j|
    p(theta | y) = N(S A^T y / s^2, S),   S = (I + A^T A / s^2)^-1
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, norm

from sbi_flows import Prior, Simulator, simulator

F = NDArray[np.float64]


def design(d: int) -> F:
    """The matrix A."""
    index = np.arange(d)
    return np.asarray(0.6 ** np.abs(index[:, None] - index[None, :]))


def posterior_moments(y: F, noise: float = 0.5) -> tuple[F, F]:
    """Mean and covariance of p(theta | y) for one y (d,)."""
    a = design(len(y))
    covariance = np.asarray(np.linalg.inv(np.eye(len(y)) + a.T @ a / noise**2))
    return covariance @ a.T @ y / noise**2, covariance


def make_gaussian(d: int = 2, noise: float = 0.5) -> Simulator:
    """The toy with parameters theta_1..theta_d and noise standard deviation `noise`."""
    names = [f"theta_{i + 1}" for i in range(d)]

    def gaussian(theta: Mapping[str, F], rng: np.random.Generator) -> F:
        stacked = np.stack([theta[name] for name in names], axis=1)
        return np.asarray(stacked @ design(d).T + noise * rng.standard_normal(stacked.shape))

    def log_likelihood(theta: Mapping[str, F], y: F, rng: np.random.Generator) -> F:
        stacked = np.stack([theta[name] for name in names], axis=-1)
        return np.asarray(norm.logpdf(y, stacked @ design(d).T, noise).sum(axis=-1))

    def exact_posterior(y: F, n: int, rng: np.random.Generator) -> F:
        mean, covariance = posterior_moments(y, noise)
        return np.asarray(multivariate_normal(mean, covariance).rvs(n, random_state=rng)).reshape(n, d)

    wrap = simulator(
        Prior(**{name: norm(0, 1) for name in names}),
        event_shape=(d,),
        log_likelihood=log_likelihood,
        exact_posterior=exact_posterior,
        observed={"ones": np.ones(d)},
    )
    return wrap(gaussian)


gaussian = make_gaussian()
