"""Do the ranks know anything of the data? For the right posterior they do not.

The rank u of the truth is uniform *given y*. So Phi^-1(u), which moves with a local shift of q, and
Phi^-1(|2u - 1|), which moves with a local width, are independent standard normals whatever y is, and in a
regression on features x(y)

    F = (R^2 / k) / ((1 - R^2) / (m - k - 1))  ~  F(k, m - k - 1)      exactly.

The prior in the place of the posterior, a posterior of other data, or one that ignores part of them pass
every rank test over the prior
but not this one: where y is large the truth lies high. x(y) are the normal scores of the columns of y (or of
its declared summaries; their leading principal components where there are many) and their squares. The idea
is that of local calibration (Zhao et al. 2021, 2102.10473; Linhart et al. 2023, 2306.03580), with an exact
null.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy.stats import f as f_law
from scipy.stats import norm, rankdata

from sbi_flows.diagnostics.calibration import RankTest

_MOST_FEATURES, _ROWS_A_FEATURE = 15, 20


@dataclass(frozen=True)
class Dependence:
    """One regression. r2: the share of the score's variance that the data explain, adjusted for the number of
    features; p: of F.
    """

    quantity: str
    score: str
    f: float
    degrees: tuple[int, int]
    r2: float
    p: float


def data_features(y: Shaped[np.ndarray, "m *event"]) -> Float[np.ndarray, "m k"]:
    """x(y), at most one column for 20 rows and 30 in all."""
    flat = y.reshape(len(y), -1).astype(np.float64)
    flat = flat[:, np.ptp(flat, axis=0) > 0]
    if flat.shape[1] == 0:
        return np.zeros((len(y), 0))
    scores = norm.ppf((rankdata(flat, axis=0) - 0.5) / len(flat))
    most = max(1, min(_MOST_FEATURES, len(y) // (2 * _ROWS_A_FEATURE)))
    if scores.shape[1] > most:
        directions = np.linalg.svd(scores - scores.mean(axis=0), full_matrices=False)[2][:most]
        scores = scores @ directions.T
        scores /= scores.std(axis=0)
    return np.concatenate([scores, np.square(scores)], axis=1)


def dependence(tests: list[RankTest], features: Float[np.ndarray, "m k"]) -> list[Dependence]:
    """Two regressions a quantity. features: any function of y, here of `data_features`; of a quantity with
    fewer ranks, the first rows.
    """
    bases = {m: _basis(features[:m]) for m in {len(test.ranks) for test in tests}}
    return [
        _regress(test.quantity, score, values, bases[len(values)])
        for test in tests
        for score, values in _scores(test)
    ]


def _basis(features: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "m r"]:
    design = np.column_stack([np.ones(len(features)), features])
    basis, singular, _ = np.linalg.svd(design, full_matrices=False)
    return np.asarray(basis[:, singular > 1e-9 * singular[0]])


def _scores(test: RankTest) -> list[tuple[str, Float[np.ndarray, " m"]]]:
    tiny = 1e-12
    inside = np.clip(test.ranks, tiny, 1 - tiny)
    return [("place", norm.ppf(inside)), ("width", norm.ppf(np.clip(np.abs(2 * inside - 1), tiny, 1 - tiny)))]


def _regress(
    quantity: str, score: str, values: Float[np.ndarray, " m"], basis: Float[np.ndarray, "m r"]
) -> Dependence:
    m, r = basis.shape
    total = np.square(values - values.mean()).sum()
    left = np.square(values - basis @ (basis.T @ values)).sum()
    degrees = (r - 1, m - r)
    if r < 2 or total <= 0:
        return Dependence(quantity, score, 0.0, degrees, 0.0, 1.0)
    statistic = (total - left) / degrees[0] / (left / degrees[1])
    adjusted = 1 - left / total * (m - 1) / degrees[1]
    return Dependence(
        quantity,
        score,
        float(statistic),
        degrees,
        float(max(adjusted, 0.0)),
        float(f_law.sf(statistic, *degrees)),
    )
