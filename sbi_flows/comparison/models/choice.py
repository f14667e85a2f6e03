"""What one method says of the models: log evidences, and from them probabilities and log Bayes factors.

    P(k | y) = P(k) p(y | k) / sum_j P(j) p(y | j),      log BF_kj = log p(y | k) - log p(y | j)

Errors of both follow from the covariance of the errors of log p(y | k), to first order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import softmax

from sbi_flows.arrays import F


@dataclass(frozen=True, eq=False)
class ModelChoice:
    """log_evidence (K,): log p(y | k) in nats, up to a constant that all models share unless the method knows
    it. covariance (K, K): of its errors. prior (K,): probabilities of the models. facts: how it was found.
    """

    log_evidence: Float[np.ndarray, " k"]
    covariance: Float[np.ndarray, "k k"]
    prior: Float[np.ndarray, " k"]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def probabilities(self) -> F:
        """P(k | y), (K,)."""
        return np.asarray(softmax(self.log_evidence + np.log(self.prior)))

    @property
    def errors(self) -> F:
        """Standard errors of the probabilities, (K,)."""
        p = self.probabilities
        slope = np.diag(p) - np.outer(p, p)
        return np.asarray(np.sqrt(np.maximum(np.diag(slope @ self.covariance @ slope.T), 0)))

    def log_bayes_factors(self, against: int) -> tuple[F, F]:
        """log BF of each model against one, in nats, and their standard errors, (K,) each; 0 of itself."""
        variance = np.diag(self.covariance)
        differences = variance + variance[against] - 2 * self.covariance[:, against]
        found = self.log_evidence - self.log_evidence[against]
        return found, np.sqrt(np.maximum(differences, 0))
