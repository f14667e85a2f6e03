"""How much was learnt. Contraction, z-score and recovery describe; the gain can also be tested.

contraction   1 - E Var_q(theta_j | y) / Var_p(theta_j)      0: the prior's variance; 1: a point
              (Schad et al. 2021, 1904.12765)
z-score       (theta_j - E_q theta_j) / sd_q(theta_j)        its sd is 1 if q is the posterior
recovery      the correlation R of posterior means with the truth
gain          E[log q(theta | y) - log p(theta)], in nats    if q is the posterior, the mutual information of
              theta and y
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sbi_flows.arrays import F
from sbi_flows.diagnostics.pairs import Pairs


@dataclass(frozen=True)
class Recovery:
    """Of one parameter: the truths and the posterior means, contraction, sd of the z-scores, and R."""

    name: str
    truth: Float[np.ndarray, " m"]
    means: Float[np.ndarray, " m"]
    contraction: float
    z_sd: float
    correlation: float


@dataclass(frozen=True)
class Gain:
    """The mean over m pairs and its standard error, in nats."""

    mean: float
    error: float

    @property
    def z(self) -> float:
        """The gain in standard errors. If q does not depend on the data, at most standard normal."""
        if not np.isfinite(self.mean):
            return -np.inf
        return self.mean / self.error if self.error > 0 else (np.inf if self.mean > 0 else 0.0)


def recovery(pairs: Pairs) -> list[Recovery]:
    """One per parameter."""
    means, variances = pairs.draws.mean(axis=1), pairs.draws.var(axis=1, ddof=1)
    columns = zip(pairs.names, pairs.theta.T, means.T, variances.T, strict=True)
    return [_recovery(name, truth, mean, variance) for name, truth, mean, variance in columns]


def _recovery(name: str, truth: F, means: F, variances: F) -> Recovery:
    z = (truth - means) / np.sqrt(np.where(variances > 0, variances, np.inf))
    flat = np.ptp(means) == 0 or np.ptp(truth) == 0
    correlation = 0.0 if flat else float(np.corrcoef(truth, means)[0, 1])
    contraction = float(1 - variances.mean() / truth.var()) if truth.var() > 0 else 0.0
    return Recovery(name, truth, means, contraction, float(z.std()), correlation)


def gain(log_q: Float[np.ndarray, " m"], log_prior: Float[np.ndarray, " m"]) -> Gain:
    """The gain of a posterior with these log densities at the truths; -inf if it excludes one of them."""
    nats = log_q - log_prior
    if not np.isfinite(nats).all():
        return Gain(-np.inf, np.inf)
    return Gain(float(nats.mean()), float(nats.std(ddof=1) / np.sqrt(len(nats))))
