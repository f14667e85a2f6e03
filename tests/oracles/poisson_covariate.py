"""Counts whose log mean is linear in a covariate that is part of the data.

    a ~ N(1, 0.7^2),  b ~ N(0, 0.5^2),  x_t ~ N(0, 1),  counts_t ~ Poisson(exp(a + b x_t)),   t = 1, ..., 30

The posterior of (a, b) given counts and x is log-concave: Newton steps find its mode, and Gauss-Legendre
quadrature in the coordinates in which it is about N(0, I) its normalising constant. Counts may be NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray

F = NDArray[np.float64]
NAMES = ("a", "b")
MEAN, SD = np.array([1.0, 0.0]), np.array([0.7, 0.5])
LENGTH = 30
_NODES, _REACH, _NEWTON_STEPS = 40, 7.0, 30


def simulate(n: int, rng: np.random.Generator) -> tuple[F, dict[str, F]]:
    """theta (n, 2) = (a, b) from the prior, and the data: "counts" (n, 30, 1) and "covariate" (n, 30)."""
    theta = MEAN + SD * rng.standard_normal((n, 2))
    x = rng.standard_normal((n, LENGTH))
    counts = rng.poisson(np.exp(theta[:, :1] + theta[:, 1:] * x)).astype(np.float64)
    return theta, {"counts": counts[..., None], "covariate": x}


def posterior(data: dict[str, F]) -> tuple[F, F, F]:
    """Nodes (n, G, 2), the log posterior density and the log weights of the quadrature there, (n, G)."""
    mode, root = _laplace(data)
    axis, weight = leggauss(_NODES)
    z = _REACH * np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    nodes = mode[:, None] + z @ root.mT
    log_area = np.log(np.abs(np.linalg.det(root))) + 2 * np.log(_REACH)
    log_weight = log_area[:, None] + np.log(np.outer(weight, weight)).reshape(-1)
    log_p = _log_joint(nodes, data)
    top = log_p.max(axis=1, keepdims=True)
    log_p -= top + np.log(np.exp(log_p - top + log_weight).sum(axis=1, keepdims=True))
    return nodes, log_p, log_weight


def kl_to_exact(log_q: Callable[[F, dict[str, F]], F], data: dict[str, F]) -> F:
    """KL(p(. | data_i) || q(. | data_i)) in nats for each row of the data.

    log_q: takes theta (n, G, 2) and the data, gives (n, G).
    """
    nodes, log_p, log_weight = posterior(data)
    return np.asarray((np.exp(log_p + log_weight) * (log_p - log_q(nodes, data))).sum(axis=1))


def _log_joint(theta: F, data: dict[str, F]) -> F:
    """log p(theta, counts | x), (n, G), up to what does not depend on theta (n, G, 2)."""
    seen, counts, x = _parts(data)
    sums = np.stack([counts.sum(axis=1), (counts * x).sum(axis=1)], axis=1)
    total = (theta @ sums[:, :, None])[..., 0]
    for t in range(x.shape[1]):
        total -= seen[:, t, None] * np.exp(theta[..., 0] + theta[..., 1] * x[:, t, None])
    return np.asarray(total - 0.5 * (((theta - MEAN) / SD) ** 2).sum(axis=-1))


def _laplace(data: dict[str, F]) -> tuple[F, F]:
    """The mode (n, 2) of the posterior, and R (n, 2, 2) with R R' the inverse of minus its Hessian there."""
    seen, counts, x = _parts(data)
    design = np.stack([np.ones_like(x), x], axis=2)
    theta = np.tile(MEAN, (len(x), 1))
    for _ in range(_NEWTON_STEPS):
        rate = seen * np.exp(np.clip((design @ theta[:, :, None])[..., 0], -30, 30))
        slope = ((counts - rate)[..., None] * design).sum(axis=1) - (theta - MEAN) / SD**2
        hessian = (design * rate[..., None]).mT @ design + np.diag(1 / SD**2)
        step = np.linalg.solve(hessian, slope[..., None])[..., 0]
        theta = theta + step / np.maximum(1.0, np.linalg.norm(step, axis=1, keepdims=True))
    return theta, np.linalg.inv(np.linalg.cholesky(hessian)).mT


def _parts(data: dict[str, F]) -> tuple[F, F, F]:
    counts, x = data["counts"][..., 0], data["covariate"]
    seen = np.isfinite(counts)
    return seen.astype(np.float64), np.where(seen, counts, 0.0), x
