"""Regressions of unconstrained parameters z (n, d) on summaries x (n, k), with weights K.

linear     argmin sum_i K_i |z_i - a - B x_i|^2
ridge      the same plus lambda |B_j|^2 for the columns of x in units of their sd, lambda for each
           parameter by generalised cross-validation (Golub, Heath & Wahba 1979, Technometrics 21:215)
networks   what the linear one leaves, r: a mean m(x) and, where asked, a standard deviation s(x), by
               argmin sum_i K_i (log s(x_i) + (r_i - m(x_i))^2 / (2 s(x_i)^2)),
           averaged over networks that begin at, and hold out, different random numbers
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sbi_flows.arrays import F

_PENALTIES = np.logspace(-8, 3, 45)
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Linear:
    """z = intercept + (x - centre) B."""

    centre: Float[np.ndarray, " k"]
    intercept: Float[np.ndarray, " d"]
    coefficients: Float[np.ndarray, "k d"]

    def __call__(self, x: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n d"]:
        return np.asarray(self.intercept + (x - self.centre) @ self.coefficients)


def fit_linear(x: F, z: F, weights: F) -> Linear:
    """Weighted least squares; of several solutions the smallest."""
    centre, intercept, root = _centred(x, z, weights)
    coefficients, *_ = np.linalg.lstsq(root * (x - centre), root * (z - intercept), rcond=None)
    return Linear(centre, intercept, coefficients)


def fit_ridge(x: F, z: F, weights: F) -> Linear:
    """Penalised, by as much as generalised cross-validation chooses for each parameter."""
    centre, intercept, root = _centred(x, z, weights)
    offsets, wanted = root * (x - centre), root * (z - intercept)
    sd = np.sqrt(np.square(offsets).sum(axis=0))
    sd = np.where(sd > _ROUNDING * np.abs(centre), sd, np.inf)
    left, singular, right = np.linalg.svd(offsets / sd, full_matrices=False)
    along = left.T @ wanted
    outside = np.square(wanted).sum(axis=0) - np.square(along).sum(axis=0)
    n = int((weights > 0).sum())
    penalty = _PENALTIES[:, None] * max(float(np.square(singular).max()), 1e-300)
    kept = np.square(singular) / (np.square(singular) + penalty)
    missed = outside + np.square(1 - kept) @ np.square(along)
    freedom = np.maximum(1 - (1 + kept.sum(axis=1)) / n, 1e-6)
    best = np.argmin(missed / np.square(freedom)[:, None], axis=0)
    shrunk = along * (singular / (np.square(singular) + penalty))[best].T
    return Linear(centre, intercept, right.T @ shrunk / sd[:, None])


def _centred(x: F, z: F, weights: F) -> tuple[F, F, F]:
    """The weighted means of x and z, and the roots of the weights (n, 1), which add up to one."""
    share = weights / weights.sum()
    return share @ x, share @ z, np.sqrt(share)[:, None]
