"""A neuron's spikes under a noise stimulus (Lueckmann et al. 2021, arXiv:2101.04653, T.5, T.6).

A generalised linear model:

    z_t ~ Bernoulli(1 / (1 + exp(-psi_t))),   psi = V (offset, filter),   t = 1..100
    V = [1, x_t, x_{t-1}, ..., x_{t-8}],   x_t = 0 for t < 1
    offset ~ N(0, 2),   filter ~ N(0, (F^T F)^-1) in R^9
    F = D D + diag(sqrt(i / 9))_{i = 0..8},   D = I - its first subdiagonal

The stimulus x_1..x_100 is white noise: single-precision standard normal numbers of NumPy's legacy generator
with seed 42. D takes differences of neighbours, so that the prior prefers smooth filters that end near zero.

`bernoulli_glm_raw`: y = z, (100,). `bernoulli_glm`: y = V^T z, (10,), the sufficient statistics, of which the
first is the number of spikes. With this stimulus different z have different statistics (a coincidence among
the 2^100 in nine dimensions of single-precision numbers is out of reach), so both have the same probability,
and the posterior is the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm
from torch.distributions import MultivariateNormal

from sbi_flows import Prior, simulator
from simulators.public_observations import F, public_observations

BINS, TAPS = 100, 9


def _design() -> F:
    stimulus = np.random.RandomState(42).randn(BINS).astype(np.float32).astype(np.float64)
    lagged = [np.r_[np.zeros(lag), stimulus[: BINS - lag]] for lag in range(TAPS)]
    return np.stack([np.ones(BINS), *lagged], axis=1)


def _filter_covariance() -> F:
    difference = np.eye(TAPS) - np.eye(TAPS, k=-1)
    root = difference @ difference + np.diag(np.sqrt(np.arange(TAPS) / TAPS))
    return np.asarray(np.linalg.inv(root.T @ root))


DESIGN = _design()
PRIOR = Prior(
    offset=norm(0, np.sqrt(2)),
    filter=MultivariateNormal(torch.zeros(TAPS, dtype=torch.float64), torch.from_numpy(_filter_covariance())),
)


def _logits(theta: Mapping[str, F]) -> F:
    """psi, (n, 100)."""
    return np.asarray(theta["offset"][..., None] + theta["filter"] @ DESIGN[:, 1:].T)


def _spikes(theta: Mapping[str, F], rng: np.random.Generator) -> NDArray[np.bool_]:
    chance = expit(_logits(theta))
    return np.asarray(rng.random(chance.shape) < chance)


def bernoulli_glm_log_likelihood(
    theta: Mapping[str, F], y: NDArray[np.floating], rng: np.random.Generator
) -> F:
    """log p(y | theta) in nats, (n,), for one y (10,)."""
    normaliser = np.logaddexp(0, _logits(theta)).sum(axis=-1)
    return np.asarray(theta["offset"] * y[0] + theta["filter"] @ y[1:] - normaliser)


def bernoulli_glm_raw_log_likelihood(
    theta: Mapping[str, F], y: NDArray[np.floating], rng: np.random.Generator
) -> F:
    """log p(y | theta) in nats, (n,), for one y (100,)."""
    return bernoulli_glm_log_likelihood(theta, y @ DESIGN, rng)


@simulator(
    PRIOR,
    event_shape=(TAPS + 1,),
    log_likelihood=bernoulli_glm_log_likelihood,
    observed=public_observations("bernoulli_glm"),
)
def bernoulli_glm(theta: Mapping[str, F], rng: np.random.Generator) -> F:
    """The sufficient statistics of n spike trains, (n, 10), for offset (n,) and filter (n, 9)."""
    return np.asarray(_spikes(theta, rng) @ DESIGN)


@simulator(
    PRIOR,
    event_shape=(BINS,),
    log_likelihood=bernoulli_glm_raw_log_likelihood,
    observed=public_observations("bernoulli_glm_raw"),
)
def bernoulli_glm_raw(theta: Mapping[str, F], rng: np.random.Generator) -> NDArray[np.float32]:
    """n spike trains of zeros and ones, (n, 100), for offset (n,) and filter (n, 9)."""
    return _spikes(theta, rng).astype(np.float32)
