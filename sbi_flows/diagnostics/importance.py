"""How good a proposal for importance sampling is the posterior at one observation?

    w_s = p(y | theta_s) p(theta_s) / q(theta_s | y),   theta_s ~ q        efficiency = (sum w)^2 / (S sum w^2)

and k, the shape of the generalised Pareto law of the largest weights: below 0.5 their variance is finite, above 0.7 no estimate from
them can be relied on (Vehtari et al. 2024, 1507.02646). k is found from the largest min(S / 5, 3 sqrt(S)) weights by the posterior mean of
Zhang & Stephens (2009), drawn towards 0.5 as if by 10 weights more.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_LEAST_TAIL = 10
_PRIOR_WEIGHTS = 10


def efficiency(log_weights: Float[np.ndarray, " s"]) -> float:
    """The effective share of the draws, in (0, 1]."""
    weights = np.exp(log_weights - log_weights.max())
    return float(weights.sum() ** 2 / (len(weights) * np.square(weights).sum()))


def pareto_k(log_weights: Float[np.ndarray, " s"]) -> float:
    """k of the largest weights; infinite where they are too few to say."""
    s = len(log_weights)
    size = int(min(s / 5, 3 * np.sqrt(s)))
    ordered = np.sort(np.exp(log_weights - log_weights.max()))
    if size < _LEAST_TAIL:
        return np.inf
    tail = ordered[-size:] - ordered[-size - 1]
    tail = tail[tail > 0]
    if len(tail) < _LEAST_TAIL:
        return -np.inf
    n = len(tail)
    k = _shape(tail)
    return float((n * k + 0.5 * _PRIOR_WEIGHTS) / (n + _PRIOR_WEIGHTS))


def _shape(tail: Float[np.ndarray, " n"]) -> float:
    """The mean of k over a grid of theta = -k / sigma weighted by their profile likelihood."""
    n = len(tail)
    points = 30 + int(np.sqrt(n))
    quartile = tail[int(n / 4 + 0.5) - 1]
    theta = 1 / tail[-1] + (1 - np.sqrt(points / (np.arange(1, points + 1) - 0.5))) / (3 * quartile)
    k = np.log1p(-theta[:, None] * tail).mean(axis=1)
    profile = n * (np.log(-theta / k) - k - 1)
    weights = np.exp(profile - profile.max())
    best = float((weights * theta).sum() / weights.sum())
    return float(np.log1p(-best * tail).mean())
