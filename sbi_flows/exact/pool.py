"""Weighted draws: what was proposed, what the likelihood said, and the weights that follow.

Draws of several proposals are weighted as draws of their mixture (the deterministic mixture of Veach & Guibas
1995; Owen & Zhou 2000):

    w_i = p^(y | theta_i) p(theta_i) / sum_r (n_r / n) g_r(theta_i)

so that one bad proposal among them spoils nothing. With an unbiased estimate p^ this is importance sampling
over theta and the estimator's own randomness, and exact (Andrieu & Roberts 2009; Tran et al. 2013,
1309.3339):

    p(y) = E[w],   standard error of log p(y): sqrt((n / ess - 1) / n),   ess = (sum w)^2 / sum w^2
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.diagnostics.importance import pareto_k
from sbi_flows.exact.likelihood import Likelihood
from sbi_flows.exact.proposal import Mixture, Points, Sources


class Pool:
    """Draws of one or several mixtures.

    with_q: whether q is a part of them.
    at: where they are. log_likelihood (n,): the estimates, with the noise that they had. from_q (n,): which
    came from q.
    """

    def __init__(self, sources: Sources, *, with_q: bool) -> None:
        self.sources, self.with_q = sources, with_q
        u, d = sources.prior.unconstrained_dim, sources.prior.d
        self.at = Points(np.zeros((0, u)), np.zeros((0, d)), np.zeros(0), np.zeros(0))
        self.log_likelihood = np.zeros(0)
        self.from_q = np.zeros(0, dtype=np.bool_)
        self.mixtures: list[Mixture] = []
        self._counts: list[int] = []
        self._log_g: list[F] = []  # of each mixture at all draws

    def __len__(self) -> int:
        return len(self.log_likelihood)

    def propose(self, n: int, mixture: Mixture, likelihood: Likelihood, rng: np.random.Generator) -> None:
        """Add n draws of a mixture, or as many as there is time for."""
        z, from_q = mixture.sample(n, rng)
        at = self.sources.at(z, with_q=self.with_q)
        values = likelihood(at.theta)
        self._add(mixture, at.first(len(values)), values, from_q[: len(values)])

    def _add(self, mixture: Mixture, at: Points, values: F, from_q: NDArray[np.bool_]) -> None:
        if all(known is not mixture for known in self.mixtures):
            self.mixtures.append(mixture)
            self._counts.append(0)
            self._log_g.append(mixture.log_prob(self.at))
        for k, known in enumerate(self.mixtures):
            self._log_g[k] = np.concatenate([self._log_g[k], known.log_prob(at)])
            self._counts[k] += len(values) * (known is mixture)
        self.at = self.at.joined(at)
        self.log_likelihood = np.concatenate([self.log_likelihood, values])
        self.from_q = np.concatenate([self.from_q, from_q])

    def take(self, other: Pool) -> None:
        """Add the draws of another pool, which are all of one mixture."""
        self._add(other.mixtures[0], other.at, other.log_likelihood, other.from_q)

    def log_joint(self) -> F:
        """log p^(y | theta) + log p_Z(z), (n,); -inf where the prior's map leaves floating point."""
        values = self.log_likelihood + self.at.log_prior
        return np.where(np.isfinite(values), values, -np.inf)

    def log_weights(self) -> F:
        """log w, (n,)."""
        return self._weighed(
            [np.log(n / len(self)) + g for n, g in zip(self._counts, self._log_g, strict=True)]
        )

    def log_weights_of_each(self) -> list[F]:
        """log(p^ p / g_r) of all draws for each mixture g_r."""
        return [self._weighed([g]) for g in self._log_g]

    def ess(self) -> float:
        """The effective sample size."""
        return effective(self.log_weights())

    def k_hat(self) -> float:
        """Of the weights; infinite where all are zero."""
        log_weights = self.log_weights()
        return pareto_k(log_weights) if np.isfinite(log_weights.max()) else np.inf

    def _weighed(self, terms: list[F]) -> F:
        log_joint = self.log_joint()
        with np.errstate(invalid="ignore"):
            return np.where(np.isneginf(log_joint), -np.inf, log_joint - np.logaddexp.reduce(terms))


def normalised(log_weights: F) -> F:
    """Weights that sum to one; all the same where all are zero."""
    largest = log_weights.max()
    if not np.isfinite(largest):
        return np.full(len(log_weights), 1 / len(log_weights))
    weights = np.exp(log_weights - largest)
    return np.asarray(weights / weights.sum())


def effective(log_weights: F) -> float:
    """The effective sample size; 0 where all weights are zero."""
    if not len(log_weights) or not np.isfinite(log_weights.max()):
        return 0.0
    return float(1 / np.square(normalised(log_weights)).sum())


def log_evidence(log_weights: F) -> tuple[float, float]:
    """log p(y) in nats, and its standard error."""
    n, largest = len(log_weights), log_weights.max()
    if not np.isfinite(largest):
        return -np.inf, np.inf
    error = float(np.sqrt(max(n / effective(log_weights) - 1, 0.0) / n))
    return float(largest + np.log(np.exp(log_weights - largest).mean())), error
