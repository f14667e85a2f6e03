"""Does the posterior predict data like those observed?

    y_s ~ p(y | theta_s),  theta_s ~ q(theta | y_obs),   t(y): plain statistics and declared summaries

Each statistic has the two-sided posterior predictive p-value 2 min(P(t(y_s) <= t(y_obs)), P(t(y_s) >=
t(y_obs))) (Gelman, Meng & Stern 1996). All together give one more: the rank of y_obs among the y_s in
Mahalanobis distance from their common centre,

    d_i^2 = (t_i - m)^T C^-1 (t_i - m),   m, C of y_obs and the y_s together,
    p = (1 + #{d_s >= d_obs}) / (S + 1)

exact if y_obs is one more draw from the predictive distribution, and conservative because theta was inferred
from it (Robins et al. 2000).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sbi_flows.errors import ShapeError

_LEAST = 50
_FLOOR = 1e-6
_MOST_ENTRIES = 8
_HUGE = 1e100  # beyond it squares leave floating point


@dataclass(frozen=True)
class PredictiveCheck:
    """For each statistic: the observed value, the 5% and 95% quantiles of the predicted ones, and p. The last
    p is of all statistics together.
    """

    names: tuple[str, ...]
    observed: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]
    p_values: Float[np.ndarray, " k"]
    p: float

    @property
    def worst(self) -> str:
        """The statistic with the smallest p-value."""
        return self.names[int(np.argmin(self.p_values))]


def check_predictive(
    y: Float[np.ndarray, "*event"],
    predicted: Float[np.ndarray, "n *event"],
    summaries: Callable[[Float[np.ndarray, "m *event"]], Float[np.ndarray, "m k"]] | None,
    *,
    missing: bool = False,
) -> PredictiveCheck:
    """Compare statistics of y, with the declared summaries if any, with those of predicted data: both of what
    was observed of y. missing: whether predictions have gaps of their own; each data set then has the
    statistics of what is there. Raises `ShapeError`.
    """
    there = ~np.isnan(y)
    predicted = np.where(there, predicted, np.nan)
    if missing:
        predicted = predicted[~np.isnan(predicted.reshape(len(predicted), -1)).all(axis=1)]
        usable = ~np.isinf(predicted)
    else:
        usable = np.isfinite(predicted) | ~there
    finite = usable.reshape(len(predicted), -1).all(axis=1)
    together = np.concatenate([y[None], predicted[finite]])
    if missing:
        names, values = _statistics_of_what_is_there(together)
    else:
        names, values = plain_statistics(together[:, there] if not there.all() else together)
    if summaries is not None:
        declared = summaries(together)
        exist = np.isfinite(declared[0])
        names += tuple(f"summary {i + 1}" for i in np.flatnonzero(exist))
        values = np.column_stack([values, declared[:, exist]])
    return predictive_check(values[0], values[1:], names)


def predictive_check(
    observed: Float[np.ndarray, " k"], predicted: Float[np.ndarray, "s k"], names: Sequence[str]
) -> PredictiveCheck:
    """Compare the statistics of one data set with those of S predicted ones; rows that are not finite are
    left out. Raises `ShapeError`.
    """
    predicted = predicted[np.isfinite(predicted).all(axis=1)]
    s = len(predicted)
    if s < _LEAST:
        raise ShapeError(f"a posterior predictive check needs {_LEAST} finite predicted data sets, got {s}.")
    below = (1 + (predicted <= observed).sum(axis=0)) / (s + 1)
    above = (1 + (predicted >= observed).sum(axis=0)) / (s + 1)
    together = np.concatenate([observed[None], predicted])
    size = np.abs(together).max(axis=0)
    together = together / np.where(size > _HUGE, size, 1.0)
    sd = together.std(axis=0)
    scaled = (together - together.mean(axis=0)) / np.where(sd > 0, sd, 1.0)
    basis, singular, _ = np.linalg.svd(scaled, full_matrices=False)
    distances = np.square(basis[:, singular > _FLOOR * max(singular[0], _FLOOR)]).sum(axis=1)
    p = float((distances >= distances[0] * (1 - 1e-12)).sum() / (s + 1))
    low, high = np.quantile(predicted, [0.05, 0.95], axis=0)
    p_values = np.minimum(1.0, 2 * np.minimum(below, above))
    return PredictiveCheck(tuple(names), observed, low, high, p_values, p)


def plain_statistics(y: Float[np.ndarray, "n *event"]) -> tuple[tuple[str, ...], Float[np.ndarray, "n k"]]:
    """The entries of y if there are at most 8. Otherwise moments, quartiles and extremes, and of neighbouring
    entries: repeats, jumps, correlation and trend.
    """
    flat = y.reshape(len(y), -1)
    if flat.shape[1] <= _MOST_ENTRIES:
        return tuple(f"entry {i + 1}" for i in range(flat.shape[1])), flat
    mean, sd = flat.mean(axis=1), flat.std(axis=1)
    centred, scale = flat - mean[:, None], np.where(sd > 0, sd, 1.0)
    lower, median, upper = np.quantile(flat, [0.25, 0.5, 0.75], axis=1)
    differences = np.diff(flat, axis=1)
    found = {
        "mean": mean,
        "sd": sd,
        "smallest": flat.min(axis=1),
        "lower quartile": lower,
        "median": median,
        "upper quartile": upper,
        "largest": flat.max(axis=1),
        "share of repeated values": (differences == 0).mean(axis=1),
        "longest run of equal values": _longest_run(differences == 0),
        "largest jump": np.abs(differences).max(axis=1),
        "correlation of neighbours": (centred[:, 1:] * centred[:, :-1]).mean(axis=1) / np.square(scale),
        "trend": (centred * np.linspace(-1, 1, flat.shape[1])).mean(axis=1) / scale,
    }
    return tuple(found), np.column_stack(list(found.values()))


def _statistics_of_what_is_there(
    y: Float[np.ndarray, "n *event"],
) -> tuple[tuple[str, ...], Float[np.ndarray, "n k"]]:
    """Moments, quartiles and extremes of the values that are there, and how many those are."""
    flat = y.reshape(len(y), -1)
    lower, median, upper = np.nanquantile(flat, [0.25, 0.5, 0.75], axis=1)
    found = {
        "mean": np.nanmean(flat, axis=1),
        "sd": np.nanstd(flat, axis=1),
        "smallest": np.nanmin(flat, axis=1),
        "lower quartile": lower,
        "median": median,
        "upper quartile": upper,
        "largest": np.nanmax(flat, axis=1),
        "share of missing values": np.isnan(flat).mean(axis=1),
    }
    return tuple(found), np.column_stack(list(found.values()))


def _longest_run(same: np.ndarray) -> Float[np.ndarray, " n"]:
    run, longest = np.zeros(len(same)), np.zeros(len(same))
    for column in same.T:
        run = np.where(column, run + 1, 0)
        longest = np.maximum(longest, run)
    return longest
