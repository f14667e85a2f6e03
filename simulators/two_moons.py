"""Two moons: a posterior of two crescents (Greenberg et al. 2019, arXiv:1905.07488; Lueckmann et al. 2021,
arXiv:2101.04653, T.8).

    a ~ U(-pi/2, pi/2),   r ~ N(0.1, 0.01^2),   theta_1, theta_2 ~ U(-1, 1)
    y = (r cos a + 0.25 - |theta_1 + theta_2| / sqrt 2,  r sin a + (theta_2 - theta_1) / sqrt 2)

y is (2,). theta -> (-theta_2, -theta_1) changes the sign of theta_1 + theta_2 alone, so the posterior is its
own mirror image. With (u, v) = (r cos a, r sin a) recovered from y and theta, and r taken with the sign of u,
the likelihood is N(r; 0.1, 0.01^2) / (pi |r|).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr
from scipy.stats import norm, truncnorm, uniform

from sbi_flows import Prior, simulator
from simulators.public_observations import F, public_observations

RADIUS, WIDTH, SHIFT = 0.1, 0.01, 0.25
_ANGLES = 2**14


def two_moons_log_likelihood(theta: Mapping[str, F], y: NDArray[np.floating], rng: np.random.Generator) -> F:
    """log p(y | theta) in nats, (n,), for one y (2,)."""
    u = y[0] - SHIFT + np.abs(theta["theta_1"] + theta["theta_2"]) / np.sqrt(2)
    v = y[1] - (theta["theta_2"] - theta["theta_1"]) / np.sqrt(2)
    distance = np.maximum(np.hypot(u, v), np.finfo(np.float64).tiny)
    return np.asarray(norm.logpdf(np.copysign(distance, u), RADIUS, WIDTH) - np.log(np.pi * distance))


def two_moons_posterior(y: NDArray[np.floating], n: int, rng: np.random.Generator) -> F:
    """n draws (n, 2) from p(theta | y) for one y (2,), without rejection.

        p = |theta_1 + theta_2| / sqrt 2 = r cos a + 0.25 - y_1
        q = (theta_2 - theta_1) / sqrt 2 = y_2 - r sin a

    The prior's square is p + |q| <= sqrt 2 and p >= 0: three half-lines for r at each angle. So the angle is
    drawn by inverting its distribution function, tabulated on 2^14 points, r from a normal truncated to that
    interval, and the sign of theta_1 + theta_2 by a coin.
    """
    angles = np.pi * ((np.arange(_ANGLES) + 0.5) / _ANGLES - 0.5)
    low, high = _radii(angles, y)
    log_mass = _log_mass(low, high)
    cumulative = np.cumsum(np.exp(log_mass - log_mass.max()))
    chosen = np.searchsorted(cumulative, cumulative[-1] * rng.random(n), side="right")
    a = angles[chosen]
    r = truncnorm.rvs(low[chosen], high[chosen], RADIUS, WIDTH, size=n, random_state=rng)
    p = rng.choice([-1.0, 1.0], n) * np.maximum(r * np.cos(a) + SHIFT - y[0], 0)
    q = y[1] - r * np.sin(a)
    return np.asarray(np.clip(np.stack([p - q, p + q], axis=1) / np.sqrt(2), -1, 1))


def _radii(angles: F, y: NDArray[np.floating]) -> tuple[F, F]:
    """The interval of (r - 0.1) / 0.01 inside the prior at each angle; empty where the ends are reversed."""
    cosine, sine = np.cos(angles), np.sin(angles)
    slopes = np.stack([-cosine, cosine - sine, cosine + sine])
    room = np.array([SHIFT - y[0], np.sqrt(2) - SHIFT + y[0] - y[1], np.sqrt(2) - SHIFT + y[0] + y[1]])
    ends = (room[:, None] / slopes - RADIUS) / WIDTH
    return np.where(slopes < 0, ends, -np.inf).max(axis=0), np.where(slopes > 0, ends, np.inf).min(axis=0)


def _log_mass(low: F, high: F) -> F:
    """log of the standard normal mass of each interval, -inf where it is empty, without loss of digits."""
    empty = low >= high
    flip = low > 0
    left, right = np.where(flip, -high, low), np.where(flip, -low, high)
    left, right = np.where(empty, -1.0, left), np.where(empty, 1.0, right)
    return np.where(empty, -np.inf, log_ndtr(right) + np.log(-np.expm1(log_ndtr(left) - log_ndtr(right))))


@simulator(
    Prior(theta_1=uniform(-1, 2), theta_2=uniform(-1, 2)),
    event_shape=(2,),
    log_likelihood=two_moons_log_likelihood,
    exact_posterior=two_moons_posterior,
    observed=public_observations("two_moons"),
)
def two_moons(theta: Mapping[str, F], rng: np.random.Generator) -> F:
    """n points, (n, 2), for theta name -> (n,)."""
    n = len(theta["theta_1"])
    a = rng.uniform(-np.pi / 2, np.pi / 2, n)
    r = RADIUS + WIDTH * rng.standard_normal(n)
    first = r * np.cos(a) + SHIFT - np.abs(theta["theta_1"] + theta["theta_2"]) / np.sqrt(2)
    second = r * np.sin(a) + (theta["theta_2"] - theta["theta_1"]) / np.sqrt(2)
    return np.stack([first, second], axis=1)
