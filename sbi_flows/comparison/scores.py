"""Scores of one method's draws at one observation whose truth is known.

    CRPS(F, t)  = E|X - t| - E|X - X'| / 2                of each parameter, X, X' ~ F
    energy(F, t) = E||X - t|| - E||X - X'|| / 2           of all parameters together

Both are proper: their expectation over data sets is smallest for the exact posterior (Gneiting & Raftery
2007, JASA 102:359). Parameters are measured in standard deviations of the prior.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.draws import Draws, weighted_quantile
from sbi_flows.rng import stream

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def by_parameter(draws: Draws, truth: F, scale: F) -> list[dict[str, Any]]:
    """A row for each parameter. scale: the standard deviations of the prior, (d,)."""
    equal = draws.to_numpy()
    weights = np.full(len(draws), 1 / len(draws)) if draws.weights is None else draws.weights
    rows = []
    for j, name in enumerate(draws.names):
        column = draws.values[:, j]
        mean = float(weights @ column)
        quantiles = {f"q{100 * p:02.0f}": weighted_quantile(column, weights, p) for p in QUANTILES}
        rows.append(
            {
                "parameter": name,
                "truth": float(truth[j]),
                "mean": mean,
                "sd": float(np.sqrt(weights @ np.square(column - mean))),
                **quantiles,
                "error": float((mean - truth[j]) / scale[j]),
                "rank": float(weights @ (column < truth[j]) + 0.5 * weights @ (column == truth[j])),
                "crps": crps(equal[:, j], float(truth[j])) / float(scale[j]),
            }
        )
    return rows


def crps(draws: F, truth: float) -> float:
    """The continuous ranked probability score of equally weighted draws (n,), without bias in n."""
    n, ordered = len(draws), np.sort(draws)
    between = 2 * float(ordered @ (2 * np.arange(1, n + 1) - n - 1)) / (n * (n - 1))
    return float(np.abs(draws - truth).mean()) - between / 2


def energy(draws: Draws, truth: F, scale: F) -> float:
    """The energy score of the draws. E||X - X'|| is the mean over n pairs of them, drawn without overlap."""
    rows = (draws.to_numpy() - truth) / scale
    rows = rows[stream(0, "energy score").permutation(len(rows))]
    apart = np.linalg.norm(rows - np.roll(rows, 1, axis=0), axis=1)
    return float(np.linalg.norm(rows, axis=1).mean() - apart.mean() / 2)
