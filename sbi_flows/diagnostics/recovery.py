"""How much was learnt: descriptions, which have no null law to be judged by, and the gain, which has.

contraction   1 - E Var_q(theta_j | y) / Var_p(theta_j)         0: the prior's width; 1: a point        (Schad
et al. 2021, 1904.12765) z-score       (theta_j - E_q theta_j) / sd_q(theta_j), whose sd is 1 for the right
posterior recovery      the correlation of posterior means with the truth, R
gain          E[log q(theta | y) - log p(theta)]                 in nats; of the right posterior, the mutual
information of theta and y
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sbi_flows.diagnostics.pairs import Pairs


@dataclass(frozen=True)
class Recovery:
    """Of one parameter; see above. means: the posterior means (m,); truth (m,)."""

    name: str
    truth: Float[np.ndarray, " m"]
    means: Float[np.ndarray, " m"]
    contraction: float
    z_sd: float
    correlation: float


@dataclass(frozen=True)
class Gain:
    """The mean over m pairs with its standard error, in nats."""

    mean: float
    error: float

    @property
    def z(self) -> float:
        """The gain in standard errors: of a posterior that knows nothing of the data, at most standard
        normal.
        """
        if not np.isfinite(self.mean):
            return -np.inf
        return self.mean / self.error if self.error > 0 else (np.inf if self.mean > 0 else 0.0)


def recovery(pairs: Pairs) -> list[Recovery]:
    """One a parameter."""
    means, variances = pairs.draws.mean(axis=1), pairs.draws.var(axis=1, ddof=1)
    found = []
    for j, name in enumerate(pairs.names):
        truth = pairs.theta[:, j]
        sd = np.sqrt(np.where(variances[:, j] > 0, variances[:, j], np.inf))
        flat = np.ptp(means[:, j]) == 0 or np.ptp(truth) == 0
        correlation = 0.0 if flat else float(np.corrcoef(truth, means[:, j])[0, 1])
        contraction = float(1 - variances[:, j].mean() / truth.var()) if truth.var() > 0 else 0.0
        found.append(
            Recovery(
                name, truth, means[:, j], contraction, float(((truth - means[:, j]) / sd).std()), correlation
            )
        )
    return found


def gain(log_q: Float[np.ndarray, " m"], log_prior: Float[np.ndarray, " m"]) -> Gain:
    """The gain of a posterior with these log densities at the truth; -inf where a truth has no density at
    all.
    """
    nats = log_q - log_prior
    if not np.isfinite(nats).all():
        return Gain(-np.inf, np.inf)
    return Gain(float(nats.mean()), float(nats.std(ddof=1) / np.sqrt(len(nats))))
