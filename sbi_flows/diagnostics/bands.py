"""Is the empirical distribution function of m ranks that of a uniform distribution, at all points at once?

At K - 1 equally spaced points z_k the count N_k = #{u_i <= z_k} is Bin(m, z_k). The statistic is the smallest
two-sided pointwise tail probability, gamma = min_k 2 min(P(Bin <= N_k), P(Bin >= N_k)). Its exact null
distribution follows from the probability that a path of counts stays between two curves (Sailynoja, Buerkner
& Vehtari 2022, 2103.10522). Increments of the path are those of a Poisson process of rate m conditioned on m
arrivals, so the recursion over k is a convolution:

    P(inside) = sum_a Q_{K-1}(a) Poi(m - a; m / K) / Poi(m; m),
    Q_k(j) = 1[low_k <= j <= high_k] sum_a Q_{k-1}(a) Poi(j - a; m / K)
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binom, poisson

_POINTS = 100
_HALVINGS = 40
_TINY = 1e-9


def grid(m: int) -> Float[np.ndarray, " points"]:
    """The points z_k for m ranks."""
    points = min(m, _POINTS)
    return np.arange(1, points) / points


def ecdf_p_value(ranks: Float[np.ndarray, " m"]) -> float:
    """The exact p-value of m ranks under uniformity."""
    m = len(ranks)
    z = grid(m)
    counts = np.searchsorted(np.sort(ranks), z, side="right")
    tails = np.minimum(binom.cdf(counts, m, z), binom.sf(counts - 1, m, z))
    gamma = float(2 * tails.min())
    if gamma < _TINY:  # 1 - P(inside) has lost its digits there; the union bound over the points has not
        return gamma * len(z)
    return float(np.clip(1 - _chance_inside(*_curves(gamma, m), m), 0, 1))


def ecdf_band(m: int, level: float) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """The lowest and highest value of the ECDF of m uniform ranks at each z_k. All of it lies between them
    with probability `level`.
    """
    low, high = np.log(1e-16), np.log(1 - level)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        inside = _chance_inside(*_curves(float(np.exp(middle)), m), m)
        low, high = (middle, high) if inside >= level else (low, middle)
    lowest, highest = _curves(float(np.exp(low)), m)
    return lowest / m, highest / m


def largest_gap(ranks: Float[np.ndarray, " m"]) -> float:
    """max_k |N_k / m - z_k|: the largest error in the coverage of one-sided intervals."""
    z = grid(len(ranks))
    return float(np.abs(np.searchsorted(np.sort(ranks), z, side="right") / len(ranks) - z).max())


def _curves(gamma: float, m: int) -> tuple[Int[np.ndarray, " points"], Int[np.ndarray, " points"]]:
    """The lowest and highest count whose two-sided pointwise tail probability exceeds gamma."""
    tail = min(gamma / 2 * (1 + 1e-9), 0.5)
    z = grid(m)
    return binom.ppf(tail, m, z).astype(np.int64), binom.isf(tail, m, z).astype(np.int64)


def _chance_inside(low: Int[np.ndarray, " points"], high: Int[np.ndarray, " points"], m: int) -> float:
    if (low > high).any():
        return 0.0
    rate = m / (len(low) + 1)
    steps = poisson.pmf(np.arange(m + 1), rate)
    chances, first = np.ones(1), 0
    for lowest, highest in zip(low, high, strict=True):
        reached = np.convolve(chances, steps[: highest - first + 1])
        kept = np.zeros(highest - lowest + 1)
        begin = max(lowest, first)
        kept[begin - lowest :] = reached[begin - first : highest - first + 1]
        chances, first = kept, int(lowest)
    left = m - first - np.arange(len(chances))
    return float(chances @ steps[left] / poisson.pmf(m, m))
