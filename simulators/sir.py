"""An epidemic seen through tests (Kermack & McKendrick 1927; Lueckmann et al. 2021, arXiv:2101.04653, T.9).

    S' = -beta S I / N,   I' = beta S I / N - gamma I,   N = 1e6,   S(0) = N - 1,   I(0) = 1      time in days
    y_i ~ Binomial(1000, I(t_i) / N),   t_i = 0, 17, ..., 153
    log beta ~ N(log 0.4, 0.5^2),   log gamma ~ N(log 0.125, 0.2^2)

y is (10,), counts; beta and gamma are per day. Of 20,000 draws from the prior, integrated with the step used
here and a quarter of it, the worst I / N differs by 5e-6, or 4e-4 standard deviations of its binomial noise.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, lognorm

from sbi_flows import Prior, simulator
from simulators.public_observations import F, public_observations
from simulators.runge_kutta import trajectories

POPULATION, TESTS = 1e6, 1000
TIMES = 17 * np.arange(10, dtype=np.float64)
_STEP = 0.1


def infected_share(theta: Mapping[str, F]) -> F:
    """I / N at the ten times, (n, 10), for theta name -> (n,); NaN where it cannot be computed."""
    beta, gamma = theta["beta"], theta["gamma"]
    alone, together = np.stack([np.zeros_like(gamma), -gamma]), np.stack([-beta, beta])

    def slope(state: F) -> F:
        return np.asarray(state * (alone + together * state[::-1]))  # of (S, I) / N

    start = np.repeat([[1 - 1 / POPULATION], [1 / POPULATION]], len(beta), axis=1)
    share = trajectories(slope, start, TIMES, _STEP)[:, 1].T
    return np.where(((share >= 0) & (share <= 1)).all(axis=1, keepdims=True), share, np.nan)


def sir_log_likelihood(theta: Mapping[str, F], y: NDArray[np.floating], rng: np.random.Generator) -> F:
    """log p(y | theta) in nats, (n,), for one y (10,); -inf for a row whose solution cannot be computed."""
    values = binom.logpmf(y, TESTS, infected_share(theta)).sum(axis=1)
    return np.where(np.isnan(values), -np.inf, values)


@simulator(
    Prior(beta=lognorm(0.5, scale=0.4), gamma=lognorm(0.2, scale=0.125)),
    event_shape=(10,),
    log_likelihood=sir_log_likelihood,
    observed=public_observations("sir"),
)
def sir(theta: Mapping[str, F], rng: np.random.Generator) -> NDArray[np.float32]:
    """n series of positive tests, (n, 10), for theta name -> (n,); NaN where I / N cannot be computed."""
    share = infected_share(theta)
    lost = np.isnan(share)
    counts = rng.binomial(TESTS, np.where(lost, 0, share)).astype(np.float32)
    counts[lost] = np.nan
    return counts
