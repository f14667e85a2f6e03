"""Mixtures of Student t distributions, fitted to weighted draws by EM (Peel & McLachlan 2000; as proposals of
importance sampling: Cappé et al. 2008, 0710.4242).

    t(z) = sum_k a_k t_nu(z; m_k, S_k),   nu = 3
    r_ik = a_k t_k(z_i) / t(z_i),         v_ik = (nu + u) / (nu + (z_i - m_k)' S_k^-1 (z_i - m_k))

    a_k = sum_i w_i r_ik
    m_k = sum_i w_i r_ik v_ik z_i / sum_i w_i r_ik v_ik
    S_k = sum_i w_i r_ik v_ik (z_i - m_k)(z_i - m_k)' / sum_i w_i r_ik

S_k is drawn towards the covariance of all draws divided by K^(2/u), as by u + 1 draws, so that a component
with few draws does not collapse. At the end the scales are multiplied by 1.2: a proposal should have the
heavier tails. Start: k-means++ (Arthur & Vassilvitskii 2007) on draws taken by weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from sbi_flows.arrays import F

_DEGREES, _INFLATION = 3.0, 1.2
_STEPS, _TOLERANCE, _LLOYD = 60, 1e-3, 5
_ROWS_AT_ONCE = 4096
_LEAST_WEIGHT = 1e-4


@dataclass(frozen=True, eq=False)
class StudentMixture:
    """weights (K,), means (K, u), and lower triangular factors (K, u, u) of the scale matrices."""

    weights: F
    means: F
    factors: F

    def sample(self, n: int, rng: np.random.Generator) -> F:
        """n draws (n, u)."""
        k = rng.choice(len(self.weights), n, p=self.weights)
        normal = rng.standard_normal((n, self.means.shape[1]))
        normal /= np.sqrt(rng.chisquare(_DEGREES, (n, 1)) / _DEGREES)
        return np.asarray(self.means[k] + np.einsum("nij,nj->ni", self.factors[k], normal))

    def log_prob(self, z: F) -> F:
        """The log density of each row of z (n, u), (n,)."""
        return np.concatenate(
            [
                np.logaddexp.reduce(self._terms(z[i : i + _ROWS_AT_ONCE])[0], axis=0)
                for i in range(0, len(z), _ROWS_AT_ONCE)
            ]
            or [np.zeros(0)]
        )

    def _terms(self, z: F) -> tuple[F, F]:
        """log(a_k t_k) and the squared distances, (K, n)."""
        u = z.shape[1]
        inverse = np.linalg.inv(self.factors)
        white = inverse @ (z.T[None] - self.means[:, :, None])
        distance = np.square(white).sum(axis=1)
        constant = gammaln((_DEGREES + u) / 2) - gammaln(_DEGREES / 2) - u / 2 * np.log(_DEGREES * np.pi)
        log_det = np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(axis=1)
        heads = np.log(self.weights) + constant - log_det
        return heads[:, None] - (_DEGREES + u) / 2 * np.log1p(distance / _DEGREES), distance

    def improved(self, z: F, w: F, target: F, strength: float) -> tuple[StudentMixture, float]:
        """One step of EM, and the weighted mean log density before it. w (n,) sums to 1."""
        log_terms, distance = self._terms(z)
        log_density = np.logaddexp.reduce(log_terms, axis=0)
        r = np.exp(log_terms - log_density) * w
        v = r * (_DEGREES + z.shape[1]) / (_DEGREES + distance)
        mass = r.sum(axis=1)
        means = (v @ z) / np.maximum(v.sum(axis=1), 1e-300)[:, None]
        centred = z[None] - means[:, None]
        scatter = (v[..., None] * centred).transpose(0, 2, 1) @ centred
        scales = (scatter + strength * target) / (mass + strength)[:, None, None]
        weights = np.maximum(mass, _LEAST_WEIGHT)
        return (
            StudentMixture(weights / weights.sum(), means, np.linalg.cholesky(scales)),
            float(w @ log_density),
        )


def fit_students(z: F, weights: F, components: int, rng: np.random.Generator) -> StudentMixture:
    """A mixture of `components` fitted to draws z (n, u) with weights (n,) that sum to 1."""
    u, ess = z.shape[1], 1 / np.square(weights).sum()
    mean = weights @ z
    covariance = (weights[:, None] * (z - mean)).T @ (z - mean)
    covariance += np.diag(1e-9 * np.diag(covariance) + 1e-12)
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, (z - mean).T).T  # in which the covariance is I
    target = np.eye(u) * components ** (-2 / u)
    strength = (u + 1) / ess
    found = _start(white, weights, components, target, rng)
    before = -np.inf
    for _ in range(_STEPS):
        found, score = found.improved(white, weights, target, strength)
        if score < before + _TOLERANCE:
            break
        before = score
    return StudentMixture(
        found.weights, mean + found.means @ root.T, np.asarray(_INFLATION * root @ found.factors)
    )


def _start(z: F, weights: F, components: int, target: F, rng: np.random.Generator) -> StudentMixture:
    """Means by k-means++ and a few steps of Lloyd's algorithm; all scale matrices are `target`."""
    cumulative = np.cumsum(weights)

    def chosen(mass: F) -> F:
        edges = np.cumsum(mass)
        row = np.searchsorted(edges, rng.random() * edges[-1], side="right")
        return np.asarray(z[min(int(row), len(z) - 1)])

    centres = [chosen(weights)]
    nearest = np.square(z - centres[0]).sum(axis=1)
    for _ in range(components - 1):
        mass = weights * nearest
        centres.append(chosen(mass if mass.sum() > 0 else weights))
        nearest = np.minimum(nearest, np.square(z - centres[-1]).sum(axis=1))
    means, mass = np.stack(centres), np.full(components, cumulative[-1] / components)
    for _ in range(_LLOYD if components > 1 else 0):
        apart = np.square(z).sum(axis=1)[:, None] - 2 * z @ means.T + np.square(means).sum(axis=1)
        member = np.zeros((len(z), components))
        member[np.arange(len(z)), apart.argmin(axis=1)] = weights
        mass = member.sum(axis=0)
        means = np.where(mass[:, None] > 0, (member.T @ z) / np.maximum(mass, 1e-300)[:, None], means)
    mass = np.maximum(mass, _LEAST_WEIGHT)
    return StudentMixture(
        mass / mass.sum(), means, np.repeat(np.linalg.cholesky(target)[None], components, axis=0)
    )
