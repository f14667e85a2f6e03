"""Is the posterior right at this observation? Local C2ST (Linhart et al. 2023, 2306.03580).

A classifier d(theta, y) learns to tell theta_i ~ p(theta | y_i) from theta'_i ~ q(theta | y_i) over the
joint. Where q is right at y_obs it cannot, so over draws of q(theta | y_obs)

    T = mean (d(theta_s, y_obs) - 1/2)^2

is as small as for a classifier that had nothing to learn. That null is exact and free of the flow: the pair
(theta_i, theta'_i) is swapped by a coin for each i, which changes nothing in law if q is right for every y,
and the classifier is fitted again.

d is a ridge regression of the label on theta, its squares and products, and their products with the leading
components of features of y and
with the products of the first four: as quick as one linear solve, so that thousands of swaps take a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from sbi_flows.arrays import F
from sbi_flows.errors import ShapeError

_MOST_FEATURES, _MOST_CROSSED = 8, 4
_RIDGE = 1e-2
_LEAST_PAIRS = 200


@dataclass(frozen=True)
class LocalTest:
    """T at the observation, its limit at 1% and p = (1 + #{T_null >= T}) / (swaps + 1)."""

    statistic: float
    limit: float
    p: float


def local_c2st(
    theta: Float[np.ndarray, "m d"],
    drawn: Float[np.ndarray, "m d"],
    features: Float[np.ndarray, "m k"],
    draws_at: Float[np.ndarray, "s d"],
    features_at: Float[np.ndarray, " k"],
    *,
    rng: np.random.Generator,
    swaps: int = 2000,
) -> LocalTest:
    """theta, drawn: truths and one draw of q each, at data with those features; draws_at: of q at the
    observation. Raises `ShapeError`.
    """
    m = len(theta)
    if m < _LEAST_PAIRS:
        raise ShapeError(f"the local test needs at least {_LEAST_PAIRS} pairs, got {m}.")
    together = np.concatenate([theta, drawn])
    centre, spread = features.mean(axis=0), features.std(axis=0)
    kept = spread > 0
    _, singular, directions = np.linalg.svd(
        (features[:, kept] - centre[kept]) / spread[kept] / np.sqrt(m), full_matrices=False
    )
    leading = singular[:_MOST_FEATURES] > 1e-6
    turn = (directions[:_MOST_FEATURES][leading] / singular[:_MOST_FEATURES][leading, None]).T

    def of_data(x: F) -> F:
        leading = np.clip((x[:, kept] - centre[kept]) / spread[kept] @ turn, -4, 4)
        i, j = np.triu_indices(min(leading.shape[1], _MOST_CROSSED))
        return np.column_stack([leading, leading[:, i] * leading[:, j]])

    x = of_data(features)
    first, second = (_columns(_scores(values, together), x) for values in (theta, drawn))
    at = _columns(_scores(draws_at, together), np.repeat(of_data(features_at[None]), len(draws_at), axis=0))
    difference = (first - second) / 2
    design = np.concatenate([first, second])
    mean, sd = design.mean(axis=0), np.maximum(design.std(axis=0), 1e-9)
    design, difference, at = (design - mean) / sd, difference / sd, (at - mean) / sd
    solve = np.linalg.inv(design.T @ design + _RIDGE * len(design) * np.eye(design.shape[1]))
    signs = np.concatenate([np.ones((1, m)), rng.choice([-1.0, 1.0], (swaps, m))])
    found = np.square(at @ (solve @ (difference.T @ signs.T))).mean(axis=0)
    p = float((found >= found[0] * (1 - 1e-12)).sum() / (swaps + 1))
    return LocalTest(float(found[0]), float(np.quantile(found[1:], 0.99)), p)


def _scores(values: F, reference: F) -> F:
    """Normal scores of each column by the reference's."""
    ordered = np.sort(reference, axis=0)
    places = [np.searchsorted(known, column) for known, column in zip(ordered.T, values.T, strict=True)]
    return np.asarray(ndtri((np.column_stack(places) + 0.5) / (len(reference) + 1)))


def _columns(theta: F, x: F) -> F:
    i, j = np.triu_indices(theta.shape[1])
    own = np.column_stack([theta, theta[:, i] * theta[:, j]])
    crossed = (own[:, :, None] * x[:, None]).reshape(len(own), -1)
    return np.column_stack([own, crossed])
