"""A common mean of a wide and a narrow Gaussian (Sisson et al. 2007, PNAS 104:1760; Lueckmann et al. 2021,
arXiv:2101.04653, T.7).

    theta_1, theta_2 ~ U(-10, 10),   y ~ N(theta, I) / 2 + N(theta, 0.01 I) / 2
    p(theta | y): component j with probability proportional to its mass in the prior's square,
                  then N(y, s_j^2 I) truncated to the square

y is (2,). Each row draws its own component, as in the benchmark since its version 1.1.0. The runs of the
paper drew one component for a whole batch, so its published figures for this task are of another problem.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr
from scipy.stats import norm, truncnorm, uniform

from sbi_flows import Prior, simulator
from simulators.public_observations import F, public_observations

BOUND = 10.0
SDS = np.array([1.0, 0.1])


def gaussian_mixture_log_likelihood(
    theta: Mapping[str, F], y: NDArray[np.floating], rng: np.random.Generator
) -> F:
    """log p(y | theta) in nats, (n,), for one y (2,)."""
    wide, narrow = (
        norm.logpdf(y[0], theta["theta_1"], sd) + norm.logpdf(y[1], theta["theta_2"], sd) for sd in SDS
    )
    return np.asarray(np.logaddexp(wide, narrow) - np.log(2))


def gaussian_mixture_posterior(y: NDArray[np.floating], n: int, rng: np.random.Generator) -> F:
    """n draws (n, 2) from p(theta | y)."""
    outer, inner = (log_ndtr((end - np.abs(y)) / SDS[:, None]) for end in (-BOUND, BOUND))
    log_mass = (inner + np.log(-np.expm1(outer - inner))).sum(axis=1)
    wide = rng.random(n) < 1 / (1 + np.exp(np.minimum(log_mass[1] - log_mass[0], 700)))
    sd = np.where(wide, *SDS)[:, None]
    draws = truncnorm.rvs((-BOUND - y) / sd, (BOUND - y) / sd, y, sd, size=(n, 2), random_state=rng)
    return np.asarray(np.clip(draws, -BOUND, BOUND))


@simulator(
    Prior(theta_1=uniform(-BOUND, 2 * BOUND), theta_2=uniform(-BOUND, 2 * BOUND)),
    event_shape=(2,),
    log_likelihood=gaussian_mixture_log_likelihood,
    exact_posterior=gaussian_mixture_posterior,
    observed=public_observations("gaussian_mixture"),
)
def gaussian_mixture(theta: Mapping[str, F], rng: np.random.Generator) -> F:
    """n points, (n, 2), for theta name -> (n,)."""
    means = np.stack([theta["theta_1"], theta["theta_2"]], axis=-1)
    sd = SDS[rng.integers(0, 2, len(means))]
    return np.asarray(means + sd[:, None] * rng.standard_normal(means.shape))
