"""Is q the posterior at this observation? Local C2ST (Linhart et al. 2023, 2306.03580).

A classifier d(theta, y) learns to tell theta_i ~ p(theta | y_i) from theta'_i ~ q(theta | y_i) over the
joint. If q is the posterior at y_obs, it cannot tell them apart there, so over draws of q(theta | y_obs)

    T = mean (d(theta_s, y_obs) - 1/2)^2

is as small as for a classifier that had nothing to learn. That null distribution is exact and does not depend
on the flow: the pair (theta_i, theta'_i) is swapped by a coin for each i, which leaves its distribution
unchanged if q is the posterior for every y, and the classifier is fitted again.

d is a ridge regression of the label on theta, its squares and products, and their products with the leading
components of features of y and with the products of the first four of these: as fast as one linear solve, so
thousands of swaps take a second.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """Test q at one observation. Raises `ShapeError`.

    theta, drawn, features: truths, one draw of q for each, and features of their data.
    draws_at, features_at: draws of q at the observation, and its features.
    """
    m = len(theta)
    if m < _LEAST_PAIRS:
        raise ShapeError(f"the local test needs at least {_LEAST_PAIRS} pairs, got {m}.")
    together, components = np.concatenate([theta, drawn]), _components(features)
    x, x_at = components(features), np.repeat(components(features_at[None]), len(draws_at), axis=0)
    first, second = (_columns(_normal_scores(values, together), x) for values in (theta, drawn))
    at = _columns(_normal_scores(draws_at, together), x_at)
    difference = (first - second) / 2
    design = np.concatenate([first, second])
    mean, sd = design.mean(axis=0), np.maximum(design.std(axis=0), 1e-9)
    design, difference, at = (design - mean) / sd, difference / sd, (at - mean) / sd
    solve = np.linalg.inv(design.T @ design + _RIDGE * len(design) * np.eye(design.shape[1]))
    signs = np.concatenate([np.ones((1, m)), rng.choice([-1.0, 1.0], (swaps, m))])
    found = np.square(at @ (solve @ (difference.T @ signs.T))).mean(axis=0)
    p = float((found >= found[0] * (1 - 1e-12)).sum() / (swaps + 1))
    return LocalTest(float(found[0]), float(np.quantile(found[1:], 0.99)), p)


def _components(features: F) -> Callable[[F], F]:
    """A function that gives the leading principal components of the features, with variance 1 and clipped at
    4, and the products of the first four.
    """
    centre, spread = features.mean(axis=0), features.std(axis=0)
    varies = spread > 0

    def standardised(x: F) -> F:
        return np.asarray((x[:, varies] - centre[varies]) / spread[varies])

    scaled = standardised(features) / np.sqrt(len(features))
    _, singular, directions = np.linalg.svd(scaled, full_matrices=False)
    kept = singular[:_MOST_FEATURES] > 1e-6
    rotation = (directions[:_MOST_FEATURES][kept] / singular[:_MOST_FEATURES][kept, None]).T

    def components(x: F) -> F:
        leading = np.clip(standardised(x) @ rotation, -4, 4)
        i, j = np.triu_indices(min(leading.shape[1], _MOST_CROSSED))
        return np.column_stack([leading, leading[:, i] * leading[:, j]])

    return components


def _normal_scores(values: F, reference: F) -> F:
    """Normal scores of each column among the reference's."""
    columns = zip(np.sort(reference, axis=0).T, values.T, strict=True)
    lower = np.column_stack([np.searchsorted(known, column) for known, column in columns])
    return np.asarray(ndtri((lower + 0.5) / (len(reference) + 1)))


def _columns(theta: F, x: F) -> F:
    i, j = np.triu_indices(theta.shape[1])
    own = np.column_stack([theta, theta[:, i] * theta[:, j]])
    crossed = (own[:, :, None] * x[:, None]).reshape(len(own), -1)
    return np.column_stack([own, crossed])
