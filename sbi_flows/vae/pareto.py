"""k-hat: the shape of the generalised Pareto distribution that fits the largest importance weights. Vehtari et al. (2024), 1507.02646.

    weights above the M-th largest, M = min(n / 5, 3 sqrt(n)), less that one ~ GPD(k, s):  the mean of the weights has a finite variance
    where k < 1/2, and can be estimated at practical sizes where k < 0.7

The fit is the profile-posterior mean of Zhang & Stephens (2009), with their prior on b = -k / s in the published form, and k shrunk
towards 1/2 as by ten more observations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F = NDArray[np.float64]

_LEAST_TAIL = 5


def k_hat(log_weights: F) -> F:
    """k-hat of each row of log weights (rows, n); NaN where n is below 25, -inf where the largest weights do not differ."""
    rows, n = log_weights.shape
    tail = int(min(n / 5, 3 * np.sqrt(n)))
    if tail < _LEAST_TAIL:
        return np.full(rows, np.nan)
    largest = np.sort(log_weights, axis=1)[:, -tail - 1 :]
    weights = np.exp(largest - largest[:, -1:])
    return np.array([_shape(row[1:] - row[0]) for row in weights])


def _shape(x: F) -> float:
    """k of a GPD fitted to sorted positive numbers."""
    n = len(x)
    quartile = x[int(n / 4 + 0.5) - 1]
    if not quartile > 0 or not x[-1] > 0:
        return -np.inf
    m = 30 + int(np.sqrt(n))
    b = 1 / x[-1] + (1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3 * quartile)
    b = b[b != 0]
    k = np.log1p(-b[:, None] * x).mean(axis=1)
    log_profile = n * (np.log(-b / k) - k - 1)
    weight = np.exp(log_profile - log_profile.max())
    mean_b = float((weight * b).sum() / weight.sum())
    found = float(np.log1p(-mean_b * x).mean())
    return (n * found + 10 * 0.5) / (n + 10)
