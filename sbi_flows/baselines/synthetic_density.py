"""The density of the observed summaries s under a normal one of n simulated ones, s_1..n in R^k, estimated.

plug-in (Wood 2010, Nature 466:1102)

    log N(s; mean, S),   S the sample covariance

unbiased (Ghurye & Olkin 1969; Price, Drovandi, Lee & Nott 2018, JCGS 27:1), for n > k + 3, with M = (n - 1) S

    (2 pi)^(-k/2) c(k, n-2) / (c(k, n-1) (1 - 1/n)^(k/2)) |M|^-((n-k-2)/2)
        |M - (s - mean)(s - mean)' / (1 - 1/n)|_+^((n-k-3)/2),
    c(k, v) = 2^(-kv/2) pi^(-k(k-1)/4) / prod_{i=1..k} Gamma((v - i + 1)/2),

0 where the matrix in the second determinant is not positive definite

shrinkage (Warton 2008): the plug-in with S = D (g R + (1 - g) I) D, R the correlations, D the sds

Simulations that failed count as such that do not give s: the estimate is multiplied by the share that ran.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy.special import gammaln

from sbi_flows.arrays import F

Covariance = Literal["unbiased", "plug-in", "shrinkage"]


class Estimates(NamedTuple):
    """log density in nats of each of c groups: as asked for, and plug-in, which is finite where it can be."""

    asked: F
    plug_in: F


class Estimator(NamedTuple):
    """kind: of the estimate. floor (k,): added to the variances, so that a summary that happens not to vary
    gives no infinite density. keep: g of the shrinkage.
    """

    kind: Covariance
    floor: F
    keep: float = 1.0

    def __call__(self, summaries: F, observed: F) -> Estimates:
        """Of groups of simulations (c, n, k), NaN in rows that failed, at the observed summaries (k,)."""
        pairs = [self._one(rows, observed) for rows in summaries]
        return Estimates(*(np.array(column) for column in zip(*pairs, strict=True)))

    def _one(self, rows: F, observed: F) -> tuple[float, float]:
        total, k = rows.shape
        rows = rows[np.isfinite(rows).all(axis=1)]
        n = len(rows)
        if n < (k + 4 if self.kind == "unbiased" else 3):
            return -np.inf, -np.inf
        ran, mean = np.log(n / total), rows.mean(axis=0)
        covariance = np.atleast_2d(np.cov(rows.T)) + np.diag(self.floor)
        if self.kind == "shrinkage":
            covariance = shrunk(covariance, self.keep)
        plug_in = ran + _log_normal(observed - mean, covariance)
        if self.kind != "unbiased":
            return plug_in, plug_in
        return ran + log_unbiased(observed - mean, (n - 1) * covariance, n), plug_in


def log_unbiased(offset: F, scatter: F, n: int) -> float:
    """Of Ghurye & Olkin. offset: s - mean (k,); scatter: M (k, k)."""
    k, less = len(offset), 1 - 1 / n
    rest = scatter - np.outer(offset, offset) / less
    sign, log_scatter = np.linalg.slogdet(scatter)
    if sign <= 0 or np.linalg.eigvalsh(rest)[0] <= 0:
        return -np.inf
    log_rest = np.linalg.slogdet(rest)[1]
    constant = -0.5 * k * np.log(2 * np.pi) + _log_c(k, n - 2) - _log_c(k, n - 1) - 0.5 * k * np.log(less)
    return float(constant - 0.5 * (n - k - 2) * log_scatter + 0.5 * (n - k - 3) * log_rest)


def shrunk(covariance: F, keep: float) -> F:
    """Correlations times keep."""
    return keep * covariance + (1 - keep) * np.diag(np.diag(covariance))


def shrinkage_of(rows: F) -> float:
    """g = 1 - sum var(r_ij) / sum r_ij^2 for simulations (n, k) (Schaefer & Strimmer 2005), in [0, 1]."""
    rows = rows[np.isfinite(rows).all(axis=1)]
    n, k = rows.shape
    sd = rows.std(axis=0, ddof=1)
    if n < 4 or k < 2 or not (sd > 0).any():
        return 1.0
    scaled = (rows - rows.mean(axis=0)) / np.where(sd > 0, sd, 1.0)
    off = ~np.eye(k, dtype=bool)
    correlations = scaled.T @ scaled / (n - 1)
    products = np.einsum("ni,nj->nij", scaled, scaled)
    variances = np.square(products - products.mean(axis=0)).sum(axis=0) * n / (n - 1) ** 3
    squares = float(np.square(correlations[off]).sum())
    return float(np.clip(1 - variances[off].sum() / squares, 0, 1)) if squares > 0 else 0.0


def _log_normal(offset: F, covariance: F) -> float:
    try:
        root = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return -np.inf
    scaled = np.linalg.solve(root, offset)
    log_det = np.log(np.diag(root)).sum()
    return float(-0.5 * len(offset) * np.log(2 * np.pi) - log_det - 0.5 * scaled @ scaled)


def _log_c(k: int, v: float) -> float:
    gammas = gammaln((v - np.arange(1, k + 1) + 1) / 2).sum()
    return float(-0.5 * k * v * np.log(2) - 0.25 * k * (k - 1) * np.log(np.pi) - gammas)
