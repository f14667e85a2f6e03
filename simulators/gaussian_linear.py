"""Ten Gaussian means, under two priors (Lueckmann et al. 2021, arXiv:2101.04653, T.1, T.2).

    y ~ N(theta, 0.1 I_10), 0.1 being the variance

    gaussian_linear            theta ~ N(0, 0.1 I_10),   theta | y ~ N(y / 2, 0.05 I_10)
    gaussian_linear_uniform    theta ~ U(-1, 1)^10,      theta_i | y ~ N(y_i, 0.1) on [-1, 1], independent

y is (10,).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, truncnorm, uniform

from sbi_flows import Prior, simulator
from simulators.public_observations import F, public_observations

NAMES = tuple(f"theta_{i}" for i in range(1, 11))
SD = np.sqrt(0.1)


def _stack(theta: Mapping[str, F]) -> F:
    return np.stack([theta[name] for name in NAMES], axis=-1)


def gaussian_linear_log_likelihood(
    theta: Mapping[str, F], y: NDArray[np.floating], rng: np.random.Generator
) -> F:
    """log p(y | theta) in nats, (n,), for one y (10,); the same for both priors."""
    return np.asarray(norm.logpdf(y, _stack(theta), SD).sum(axis=-1))


def gaussian_linear_posterior(y: NDArray[np.floating], n: int, rng: np.random.Generator) -> F:
    """n draws (n, 10) from p(theta | y) under the Gaussian prior."""
    return np.asarray(y / 2 + SD / np.sqrt(2) * rng.standard_normal((n, len(NAMES))))


def gaussian_linear_uniform_posterior(y: NDArray[np.floating], n: int, rng: np.random.Generator) -> F:
    """n draws (n, 10) from p(theta | y) under the uniform prior."""
    draws = truncnorm.rvs((-1 - y) / SD, (1 - y) / SD, y, SD, size=(n, len(NAMES)), random_state=rng)
    return np.asarray(np.clip(draws, -1, 1))


@simulator(
    Prior(**{name: norm(0, SD) for name in NAMES}),
    event_shape=(10,),
    log_likelihood=gaussian_linear_log_likelihood,
    exact_posterior=gaussian_linear_posterior,
    observed=public_observations("gaussian_linear"),
)
def gaussian_linear(theta: Mapping[str, F], rng: np.random.Generator) -> F:
    """n rows of ten numbers, (n, 10), for theta name -> (n,)."""
    means = _stack(theta)
    return np.asarray(means + SD * rng.standard_normal(means.shape))


@simulator(
    Prior(**{name: uniform(-1, 2) for name in NAMES}),
    event_shape=(10,),
    log_likelihood=gaussian_linear_log_likelihood,
    exact_posterior=gaussian_linear_uniform_posterior,
    observed=public_observations("gaussian_linear_uniform"),
)
def gaussian_linear_uniform(theta: Mapping[str, F], rng: np.random.Generator) -> F:
    """n rows of ten numbers, (n, 10), for theta name -> (n,)."""
    means = _stack(theta)
    return np.asarray(means + SD * rng.standard_normal(means.shape))
