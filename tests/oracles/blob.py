"""A blob on a map of noise.

    y_s = exp(-|s - place|^2 / (2 w^2)) + N(0, 0.5^2),   s on a grid of 32 x 32,
    place ~ U(6, 25)^2,  w ~ U(2, 5)                      in steps of the grid, counted from 0

The likelihood of the pixels that were observed is known. The posterior is computed on a coarse grid over the
prior, on a finer one over the box in which that one lies, and then by Gauss-Legendre quadrature. Its standard
deviation is about 0.4 for each coordinate of the place (0.5 sqrt(2 / pi)) and 0.2 for the width
(0.5 / sqrt(2 pi)).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray

F = NDArray[np.float64]
NAMES = ("row", "column", "width")
SIDE, NOISE = 32, 0.5
LOW, HIGH = np.array([6.0, 6.0, 2.0]), np.array([25.0, 25.0, 5.0])
_COARSE, _REFINED, _NODES = (39, 39, 13), 1, 20
_NEGLIGIBLE = 12.5


def simulate(n: int, rng: np.random.Generator) -> tuple[F, F]:
    """theta (n, 3) = (row, column, width) from the prior, and y (n, 32, 32, 1), complete."""
    theta = rng.uniform(LOW, HIGH, (n, 3))
    rows, columns = (_bump(theta[:, i], theta[:, 2]) for i in (0, 1))
    y = rows[:, :, None] * columns[:, None, :] + NOISE * rng.standard_normal((n, SIDE, SIDE))
    return theta, y[..., None]


def with_gaps(y: F, share: tuple[float, float], rng: np.random.Generator) -> F:
    """y with NaN in random pixels, a share of each map that is uniform between the two."""
    missing = rng.random(y.shape) < rng.uniform(*share, (len(y), 1, 1, 1))
    return np.where(missing, np.nan, y)


def posterior(y: F) -> tuple[F, F, F]:
    """Nodes (n, G, 3), the log posterior density and the log weights of the quadrature there, (n, G)."""
    parts = [_of_one(one) for one in y[..., 0]]
    nodes, log_p, log_weight = (np.stack(part) for part in zip(*parts, strict=True))
    return nodes, log_p, log_weight


def kl_to_exact(log_q: Callable[[F, F], F], y: F) -> F:
    """KL(p(. | y_i) || q(. | y_i)) in nats for each map of y.

    log_q: takes theta (n, G, 3) and y (n, 32, 32, 1), gives (n, G).
    """
    found = []
    for one in y:
        nodes, log_p, log_weight = posterior(one[None])
        mass = np.exp(log_p + log_weight)
        found.append((mass * (log_p - log_q(nodes, one[None]))).sum(axis=1))
    return np.concatenate(found)


def _of_one(y: F) -> tuple[F, F, F]:
    """Nodes (G, 3), log density (G,) and log weights (G,) for one map (32, 32)."""
    axes = [np.linspace(low, high, count) for low, high, count in zip(LOW, HIGH, _COARSE, strict=True)]
    for _ in range(_REFINED):
        box = _box(axes, _log_likelihood(axes, y))
        axes = [np.linspace(low, high, _NODES) for low, high in box]
    box = _box(axes, _log_likelihood(axes, y))
    nodes, weights = leggauss(_NODES)
    fine = [low + (high - low) / 2 * (nodes + 1) for low, high in box]
    log_p = _log_likelihood(fine, y).reshape(-1)
    scale = np.prod([(high - low) / 2 for low, high in box])
    log_weight = np.log(scale * weights[:, None, None] * weights[:, None] * weights).reshape(-1)
    top = log_p.max()
    log_p = log_p - top - np.log(np.exp(log_p - top + log_weight).sum())
    return np.stack(np.meshgrid(*fine, indexing="ij"), axis=-1).reshape(-1, 3), log_p, log_weight


def _box(axes: list[F], log_p: F) -> list[tuple[float, float]]:
    """The range, along each axis, of what is not negligible beside the mode, and a step more at both ends."""
    found = []
    for i, axis in enumerate(axes):
        profile = log_p.max(axis=tuple(j for j in range(3) if j != i))
        kept = np.flatnonzero(profile > profile.max() - _NEGLIGIBLE)
        found.append((float(axis[max(kept[0] - 1, 0)]), float(axis[min(kept[-1] + 1, len(axis) - 1)])))
    return found


def _log_likelihood(axes: list[F], y: F) -> F:
    """log p(y | theta), up to a constant, on the grid of axes: (rows, columns, widths)."""
    seen = np.isfinite(y)
    value, mask = np.where(seen, y, 0.0), seen.astype(np.float64)
    rows, columns = (_bump(axes[i][:, None], axes[2][None, :]) for i in (0, 1))

    def over_map(left: F, field: F, right: F) -> F:
        # (widths, places, side) @ (side, side) @ (widths, side, places)
        return np.asarray(left.transpose(1, 0, 2) @ field @ right.transpose(1, 2, 0))

    product = over_map(rows, value, columns) - 0.5 * over_map(rows**2, mask, columns**2)
    return np.asarray(product.transpose(1, 2, 0) / NOISE**2)


def _bump(place: F, width: F) -> F:
    """exp(-(s - place)^2 / (2 w^2)) for s = 0, ..., 31 along a new last axis."""
    return np.asarray(np.exp(-0.5 * ((np.arange(SIDE) - place[..., None]) / width[..., None]) ** 2))
