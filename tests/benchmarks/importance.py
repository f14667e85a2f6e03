"""Importance sampling from a density that is known up to a constant, with a proposal that adapts.

    pi_b(z) = p(z) L(z)^b,   z_i ~ g,   w_i ∝ pi_b(z_i) / g(z_i),   effective size = (sum w)^2 / sum w^2

b rises from 0 to 1 as fast as the effective size allows; g is a mixture of Student t distributions, fitted to
the weighted draws of the round before (Cappé et al. 2008, 0710.4242). The last pool is many times larger than
the number of draws taken from it. They are taken systematically: draw i has expected count n w_i, so none is
taken twice where n w_i <= 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

F = NDArray[np.float64]
Density = Callable[[F], F]

_DEGREES, _INFLATION = 6.0, 1.1
_SHARE, _ROUNDS, _REFINEMENTS = 0.25, 60, 3
_ROWS_AT_ONCE = 5000


@dataclass(frozen=True)
class StudentMixture:
    """sum_k weight_k t_nu(z; mean_k, C_k C_k^T): weights (K,), means (K, d), factors C (K, d, d)."""

    weights: F
    means: F
    factors: F

    def sample(self, n: int, rng: np.random.Generator) -> F:
        """n draws (n, d)."""
        of = rng.choice(len(self.weights), n, p=self.weights)
        normal = rng.standard_normal((n, self.means.shape[1])) / np.sqrt(
            rng.chisquare(_DEGREES, (n, 1)) / _DEGREES
        )
        return np.asarray(self.means[of] + np.einsum("nij,nj->ni", self.factors[of], normal))

    def log_prob(self, z: F) -> F:
        """The log density of each row, (n,)."""
        d = z.shape[1]
        constant = gammaln((_DEGREES + d) / 2) - gammaln(_DEGREES / 2) - d / 2 * np.log(_DEGREES * np.pi)
        parts = []
        for weight, mean, factor in zip(self.weights, self.means, self.factors, strict=True):
            distance = np.square(np.linalg.solve(factor, (z - mean).T)).sum(axis=0)
            log_det = np.log(np.diag(factor)).sum()
            parts.append(
                np.log(weight) + constant - log_det - (_DEGREES + d) / 2 * np.log1p(distance / _DEGREES)
            )
        return np.asarray(logsumexp(parts, axis=0))


def normalised(log_weights: F) -> F:
    """Weights that sum to one."""
    return np.asarray(np.exp(log_weights - logsumexp(log_weights)))


def effective(log_weights: F) -> float:
    """The effective sample size of a pool."""
    return float(1 / np.square(normalised(log_weights)).sum())


def systematic(log_weights: F, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """n rows of a pool in random order; the count of row i is one of the two integers next to n w_i."""
    order = rng.permutation(len(log_weights))
    edges = np.cumsum(normalised(log_weights)[order])
    places = (np.arange(n) + rng.random()) / n * edges[-1]
    return np.asarray(
        rng.permutation(order[np.searchsorted(edges, places, side="right").clip(max=len(order) - 1)])
    )


def adapt(
    log_prior: Density, log_likelihood: Density, start: F, rng: np.random.Generator, components: int = 4
) -> StudentMixture:
    """A proposal for pi_1, from draws `start` (n, d) of the prior."""
    z, n = start, len(start)
    log_g, b, after = log_prior(z), 0.0, 0
    for _ in range(_ROUNDS):
        prior, likelihood = log_prior(z), in_parts(log_likelihood, z)
        b = _temperature(prior - log_g, likelihood, _SHARE * n)
        proposal = fit(z, _tempered(prior - log_g, likelihood, b), rng, components)
        after += b == 1
        if after > _REFINEMENTS:
            return proposal
        z = proposal.sample(n, rng)
        log_g = proposal.log_prob(z)
    raise RuntimeError(
        f"importance sampling reached the power {b:.3g} of the likelihood in {_ROUNDS} rounds, not 1."
    )


def in_parts(density: Density, z: F) -> F:
    """`density` evaluated in parts that fit the processor's cache; NaN becomes -inf."""
    values = np.concatenate([density(z[i : i + _ROWS_AT_ONCE]) for i in range(0, len(z), _ROWS_AT_ONCE)])
    return np.where(np.isnan(values), -np.inf, values)


def _tempered(log_ratio: F, log_likelihood: F, b: float) -> F:
    return log_ratio + np.where(np.isneginf(log_likelihood), -np.inf, b * log_likelihood)


def _temperature(log_ratio: F, log_likelihood: F, wanted: float) -> float:
    """The largest power in [0, 1] at which the effective size is at least `wanted`, by bisection."""
    if effective(_tempered(log_ratio, log_likelihood, 1.0)) >= wanted:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if effective(_tempered(log_ratio, log_likelihood, middle)) >= wanted
            else (low, middle)
        )
    return low


def fit(z: F, log_weights: F, rng: np.random.Generator, components: int) -> StudentMixture:
    """A mixture fitted to weighted draws z (n, d); the last component, of weight 0.02, is twice as wide."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    weights = normalised(log_weights)
    mean = weights @ z
    root = np.linalg.cholesky((weights[:, None] * (z - mean)).T @ (z - mean) + 1e-300 * np.eye(z.shape[1]))
    white = np.linalg.solve(root, (z[systematic(log_weights, len(z), rng)] - mean).T).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = GaussianMixture(components, reg_covar=1e-3, random_state=int(rng.integers(2**31))).fit(white)
    kept = 0.98 * found.weights_ / found.weights_.sum()
    wide = 2 * np.eye(z.shape[1])
    return StudentMixture(
        np.append(kept, 1 - kept.sum()),
        mean + np.concatenate([found.means_, np.zeros((1, z.shape[1]))]) @ root.T,
        root @ np.concatenate([_INFLATION * np.linalg.cholesky(found.covariances_), wide[None]]),
    )
