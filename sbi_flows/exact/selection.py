"""n draws out of many weighted ones, with weights that are nearly equal and none taken twice.

Rejection control (Liu, Chen & Wong 1998): draw i is kept with probability min(1, w_i / c), and then has the
weight max(w_i, c). c is such that n are kept on average; systematic sampling in random order keeps n exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F


def select(weights: F, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], F]:
    """n rows (n,) and their weights, which sum to 1. Where fewer than n have a weight, some are repeated."""
    order = rng.permutation(len(weights))
    if np.count_nonzero(weights) < n:
        edges = np.cumsum(weights[order])
        places = (np.arange(n) + rng.random()) / n * edges[-1]
        rows = order[np.minimum(np.searchsorted(edges, places, side="right"), len(order) - 1)]
        return rows, np.full(n, 1 / n)
    c = _control(weights, n)
    edges = np.cumsum(np.minimum(weights[order], c))
    places = (np.arange(n) + rng.random()) / n * edges[-1]
    rows = order[np.minimum(np.searchsorted(edges, places, side="right"), len(order) - 1)]
    kept = np.maximum(weights[rows], c)
    return rows, kept / kept.sum()


def _control(weights: F, n: int) -> float:
    """c with sum min(1, w_i / c) = n: with the k largest kept for certain, c = (the sum of the others) / (n -
    k).
    """
    ordered = np.sort(weights)[::-1]
    rest = ordered.sum() - np.concatenate([[0.0], np.cumsum(ordered)[:-1]])
    k = np.arange(min(n, len(ordered)))
    c = rest[k] / (n - k)
    fits = np.flatnonzero(ordered[k] <= c)
    return float(c[fits[0]] if len(fits) else ordered[n - 1])
