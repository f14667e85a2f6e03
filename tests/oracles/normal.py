"""Exchangeable normal data with unknown mean and standard deviation, and the exact posterior by quadrature.

    y_1, ..., y_n ~ N(mu, sd^2),   mu ~ U(-2, 2),   sd ~ U(0.3, 3)
    log p(y | mu, sd) = -n log sd - (S + n (m - mu)^2) / (2 sd^2) + constant

m and S are the mean of y and the sum of squares around it, so the posterior is a function of n, m and S. It
is integrated in (mu, log sd) by Gauss-Legendre nodes over the box that holds all but e^-25 of its height, cut
at the bounds of the prior.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import uniform

from sbi_flows import Prior

F = NDArray[np.float64]
PRIOR = Prior(mu=uniform(-2, 4), sd=uniform(0.3, 2.7))
MU, LOG_SD = (-2.0, 2.0), (np.log(0.3), np.log(3.0))
_COARSE, _NODES, _DEPTH = 201, 64, 25.0


def simulate(theta: F, n: int, rng: np.random.Generator) -> F:
    """y (rows, n) for theta (rows, 2), mu and sd."""
    return np.asarray(theta[:, :1] + theta[:, 1:] * rng.standard_normal((len(theta), n)))


def log_joint(mu: F, log_sd: F, y: F) -> F:
    """log p(y, mu, sd) in nats, up to a constant that depends on nothing, for broadcast mu and log sd."""
    n, mean = len(y), y.mean()
    squares = np.square(y - mean).sum() + n * np.square(mean - mu)
    return np.asarray(-n * log_sd - squares / (2 * np.exp(2 * log_sd)))


@dataclass(frozen=True, eq=False)
class Exact:
    """The posterior given y (n,), on nodes.

    theta (m, 2): mu and sd at the nodes. log_density (m,): in nats, over (mu, sd). mass (m,): sums to 1.
    """

    theta: F
    log_density: F
    mass: F
    _y: F
    _constant: float

    @classmethod
    def of(cls, y: F, nodes: int = _NODES) -> Exact:
        """By `nodes` squared nodes."""
        box = [MU, LOG_SD]
        for _ in range(3):
            box = _narrowed(box, y)
        (mu, w_mu), (log_sd, w_sd) = (_gauss_legendre(*side, nodes) for side in box)
        grid_mu, grid_sd = (part.ravel() for part in np.meshgrid(mu, log_sd, indexing="ij"))
        log_p = log_joint(grid_mu, grid_sd, y)
        # The prior is flat in sd, so its density over log sd is sd; that of theta is without it.
        log_mass = log_p + grid_sd + np.log(np.outer(w_mu, w_sd)).ravel()
        constant = float(logsumexp(log_mass))
        theta = np.stack([grid_mu, np.exp(grid_sd)], axis=1)
        return cls(theta, log_p - constant, np.exp(log_mass - constant), y, constant)

    def log_prob(self, theta: F) -> F:
        """log p(theta | y) in nats for theta (m, 2) inside the prior."""
        return log_joint(theta[:, 0], np.log(theta[:, 1]), self._y) - self._constant

    def kl(self, log_q: Callable[[F], F]) -> float:
        """KL(p || q) in nats: sum over the nodes of mass (log p - log q), log_q of theta (m, 2)."""
        return float(self.mass @ (self.log_density - log_q(self.theta)))


def kl_to_exact(log_q: Callable[[F, F], F], y: F) -> F:
    """KL(p(. | y) || q(. | y)) in nats for each row of y (rows, n); log_q(theta (m, 2), y (n,)) -> (m,)."""
    found = []
    for row in y:
        exact = Exact.of(row)
        found.append(exact.kl(lambda theta, row=row: log_q(theta, row)))  # type: ignore[misc]
    return np.array(found)


def _narrowed(box: list[tuple[float, float]], y: F) -> list[tuple[float, float]]:
    """The part of the box where the density is above e^-25 of its height, and a cell around it."""
    mu, log_sd = (np.linspace(*side, _COARSE) for side in box)
    high = log_joint(mu[:, None], log_sd[None], y)
    high = high > high.max() - _DEPTH
    return [_kept(mu, high.any(axis=1)), _kept(log_sd, high.any(axis=0))]


def _kept(nodes: F, high: NDArray[np.bool_]) -> tuple[float, float]:
    inside = np.flatnonzero(high)
    return float(nodes[max(inside[0] - 1, 0)]), float(nodes[min(inside[-1] + 1, len(nodes) - 1)])


def _gauss_legendre(low: float, high: float, nodes: int) -> tuple[F, F]:
    x, w = np.polynomial.legendre.leggauss(nodes)
    return low + (high - low) * (x + 1) / 2, w * (high - low) / 2
