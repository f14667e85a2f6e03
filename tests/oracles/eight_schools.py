"""Eight schools (Rubin 1981, Journal of Educational Statistics 6:377): exact posterior moments by quadrature.

    mu ~ N(0, 5^2),  tau ~ halfCauchy(0, 5),  theta_j ~ N(mu, tau^2),  y_j ~ N(theta_j, sd_j^2)

Given tau, everything is normal:

    y_j | mu, tau ~ N(mu, sd_j^2 + tau^2)
    mu | tau, y   ~ N(m, v),   1/v = 1/25 + sum_j w_j,   m = v sum_j w_j y_j,   w_j = 1 / (sd_j^2 + tau^2)
    E[theta_j | mu, tau, y] = (1 - b_j) mu + b_j y_j,   var = b_j sd_j^2,   b_j = tau^2 w_j

so that only tau is left, on a grid with tau = 5 tan(pi u / 2): the half-Cauchy prior is uniform in u.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F = NDArray[np.float64]

Y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SD = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
PRIOR_SD, TAU_SCALE = 5.0, 5.0


def moments(y: F = Y, nodes: int = 200_000) -> tuple[F, F]:
    """Posterior mean and sd of (mu, tau, theta_1, ..., theta_8), by the midpoint rule in u."""
    u = (np.arange(nodes) + 0.5) / nodes
    tau = TAU_SCALE * np.tan(np.pi * u / 2)
    precision = 1 / (SD**2 + tau[:, None] ** 2)
    v = 1 / (1 / PRIOR_SD**2 + precision.sum(axis=1))
    m = v * (precision @ y)
    log_marginal = 0.5 * (
        np.log(precision).sum(axis=1) + np.log(v) + m**2 / v - (precision * y**2).sum(axis=1)
    )
    weights = np.exp(log_marginal - log_marginal.max())
    weights /= weights.sum()
    b = tau[:, None] ** 2 * precision
    centres = np.concatenate([m[:, None], tau[:, None], (1 - b) * m[:, None] + b * y], axis=1)
    spreads = np.concatenate(
        [v[:, None], np.zeros((nodes, 1)), b * SD**2 + (1 - b) ** 2 * v[:, None]], axis=1
    )
    mean = weights @ centres
    # far out in tau a square may be large, where its weight has long vanished
    return mean, np.sqrt(weights @ (spreads + (centres - mean) ** 2))
