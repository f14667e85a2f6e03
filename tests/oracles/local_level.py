"""The local-level model: a random walk seen with noise.

    x_0 ~ N(0, 1),  x_t = x_{t-1} + N(0, q^2),  y_t = x_t + N(0, r^2),     log q, log r ~ U(log 0.1, log 2)

The Kalman filter gives the likelihood of the values that were observed, and Gauss-Legendre quadrature over
(log q, log r) the posterior, to about 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray

F = NDArray[np.float64]
NAMES = ("log_q", "log_r")
LOW, HIGH = float(np.log(0.1)), float(np.log(2.0))
_NODES = 40
_ROWS_AT_ONCE = 200


def simulate(n: int, rng: np.random.Generator, length: int = 60) -> tuple[F, F]:
    """theta (n, 2) = (log q, log r) from the prior, and y (n, length), complete."""
    theta = rng.uniform(LOW, HIGH, (n, 2))
    q, r = np.exp(theta).T[..., None]
    steps = rng.standard_normal((n, length))
    steps[:, 1:] *= q
    y = np.cumsum(steps, axis=1) + r * rng.standard_normal((n, length))
    return theta, y


def with_gaps(y: F, share: tuple[float, float], rng: np.random.Generator) -> F:
    """y with NaN at random places, a share of each row that is uniform between the two."""
    missing = rng.random(y.shape) < rng.uniform(*share, (len(y), 1))
    return np.where(missing, np.nan, y)


def log_likelihood(theta: F, y: F) -> F:
    """log p(y | theta), (n, G), of the observed values of y (n, T), for theta (G, 2) or (n, G, 2)."""
    q2, r2 = np.moveaxis(np.exp(2 * theta), -1, 0)
    shape = np.broadcast_shapes(q2.shape, (len(y), q2.shape[-1]))
    mean, variance, total = np.zeros(shape), np.ones(shape), np.zeros(shape)
    for t, value in enumerate(y.T):
        if t > 0:
            variance = variance + q2
        seen = np.isfinite(value)[:, None]
        innovation = np.where(seen, np.nan_to_num(value)[:, None] - mean, 0.0)
        spread = variance + r2
        total -= np.where(seen, 0.5 * (innovation**2 / spread + np.log(2 * np.pi * spread)), 0.0)
        gain = np.where(seen, variance / spread, 0.0)
        mean = mean + gain * innovation
        variance = variance * (1 - gain)
    return total


def posterior(y: F) -> tuple[F, F, F]:
    """Nodes (n, G, 2), the log posterior density and the log weights of the quadrature there, (n, G)."""
    axis, weight = _axis()
    nodes = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    log_weight = np.add.outer(np.log(weight), np.log(weight)).reshape(-1)
    log_p = log_likelihood(nodes, y)
    log_p -= _log_sum(log_p + log_weight)[:, None]
    many = (len(y), *nodes.shape)
    return np.broadcast_to(nodes, many), log_p, np.broadcast_to(log_weight, many[:2])


def log_posterior(theta: F, y: F) -> F:
    """log p(theta | y) of theta (n, 2), one per row of y."""
    axis, weight = _axis()
    nodes = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    log_weight = np.add.outer(np.log(weight), np.log(weight)).reshape(-1)
    evidence = _log_sum(log_likelihood(nodes, y) + log_weight)
    return np.asarray(log_likelihood(theta[:, None], y)[:, 0] - evidence)


def kl_to_exact(log_q: Callable[[F, F], F], y: F) -> F:
    """KL(p(. | y_i) || q(. | y_i)) in nats for each row of y.

    log_q: takes theta (n, G, 2) and y (n, T), gives (n, G).
    """
    found = []
    for start in range(0, len(y), _ROWS_AT_ONCE):
        part = y[start : start + _ROWS_AT_ONCE]
        nodes, log_p, log_weight = posterior(part)
        mass = np.exp(log_p + log_weight)
        found.append((mass * (log_p - log_q(nodes, part))).sum(axis=1))
    return np.concatenate(found)


def _axis() -> tuple[F, F]:
    nodes, weights = leggauss(_NODES)
    half = (HIGH - LOW) / 2
    return LOW + half * (nodes + 1), half * weights


def _log_sum(values: F) -> F:
    top = values.max(axis=1)
    return np.asarray(top + np.log(np.exp(values - top[:, None]).sum(axis=1)))
