"""How good a proposal is q for importance sampling from p?

    w_s = p(theta_s) / q(theta_s),   theta_s ~ q,        efficiency = (sum w)^2 / (S sum w^2)

k-hat is the shape of the generalised Pareto distribution (GPD) that fits the largest weights (Vehtari et al.
2024, 1507.02646):

    excesses over the (M + 1)-th largest weight ~ GPD(k, sigma),   M = min(S / 5, 3 sqrt(S))

The variance of the weights is finite where k < 1/2; above 0.7 no estimate from them can be relied on. The fit
is the posterior mean of Zhang & Stephens (2009) on a grid of b = -k / sigma, with k shrunk towards 1/2 as by
ten more observations.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_LEAST_TAIL, _PRIOR_WEIGHTS, _ZERO, _NOTHING = 5, 10, 1e-9, 1e-200


def efficiency(log_weights: Float[np.ndarray, " s"]) -> float:
    """The effective sample size over the number of draws, in (0, 1]."""
    weights = np.exp(log_weights - log_weights.max())
    return float(weights.sum() ** 2 / (len(weights) * np.square(weights).sum()))


def k_hat(log_weights: Float[np.ndarray, "rows s"]) -> Float[np.ndarray, " rows"]:
    """k-hat of each row of log weights: NaN if s < 25, -inf where the largest weights do not differ, inf
    where fewer than five are more than nothing relative to the largest.
    """
    rows, s = log_weights.shape
    tail = int(min(s / 5, 3 * np.sqrt(s)))
    if tail < _LEAST_TAIL:
        return np.full(rows, np.nan)
    largest = np.sort(log_weights, axis=1)[:, -tail - 1 :]
    weights = np.exp(largest - largest[:, -1:])
    return np.array([_tail(row[1:] - row[0])[0] for row in weights])


def pareto_k(log_weights: Float[np.ndarray, " s"]) -> float:
    """k-hat of one set of log weights; infinite if there are fewer than 25."""
    found = float(k_hat(log_weights[None])[0])
    return np.inf if np.isnan(found) else found


def smoothed(log_weights: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """Log weights of which the M largest are replaced by the expected order statistics of the fitted GPD, and
    none is above the largest before; as they are if s < 25, or the largest do not differ or some are zero.
    """
    s = len(log_weights)
    tail = int(min(s / 5, 3 * np.sqrt(s)))
    if tail < _LEAST_TAIL:
        return log_weights
    order = np.argsort(log_weights)
    largest = log_weights[order[-1]]
    weights = np.exp(log_weights[order[-tail - 1 :]] - largest)
    k, sigma = _tail(weights[1:] - weights[0])
    if not sigma > 0:
        return log_weights
    at = -np.log1p(-(np.arange(tail) + 0.5) / tail)  # quantiles of an exponential distribution
    excesses = sigma * (np.expm1(k * at) / k if abs(k) > _ZERO else at)
    out = log_weights.copy()
    out[order[-tail:]] = largest + np.minimum(np.log(weights[0] + excesses), 0.0)
    return out


def _tail(tail: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """k and sigma of a GPD fitted to ascending numbers, none below 0; k is -inf where they do not differ.

    Numbers that are nothing relative to the largest are left out, and sigma is then 0: the rest has a
    shape, but is no tail to be smoothed. k is inf where fewer than five are left.
    """
    if not tail[-1] > 0:
        return -np.inf, 0.0
    whole, tail = len(tail), tail[tail > _NOTHING * tail[-1]]
    n = len(tail)
    if n < _LEAST_TAIL:
        return np.inf, 0.0
    quartile = tail[int(n / 4 + 0.5) - 1]
    points = 30 + int(np.sqrt(n))
    b = 1 / tail[-1] + (1 - np.sqrt(points / (np.arange(1, points + 1) - 0.5))) / (3 * quartile)
    b = b[b != 0]
    k = np.log1p(-b[:, None] * tail).mean(axis=1)
    log_profile = n * (np.log(-b / k) - k - 1)
    weights = np.exp(log_profile - log_profile.max())
    best = float((weights * b).sum() / weights.sum())
    found = float(np.log1p(-best * tail).mean())
    shape = (n * found + 0.5 * _PRIOR_WEIGHTS) / (n + _PRIOR_WEIGHTS)
    return shape, -found / best if n == whole else 0.0
