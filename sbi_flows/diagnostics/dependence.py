"""Do the ranks depend on the data? If q is the posterior they do not.

The rank u of the truth is then uniform *given y*. So Phi^-1(u), which moves with a local bias of q, and
Phi^-1(|2u - 1|), which moves with its local dispersion, are independent standard normals whatever y is. In a
regression of either on features x(y),

    F = (R^2 / k) / ((1 - R^2) / (m - k - 1))  ~  F(k, m - k - 1)      exactly.

The prior in place of the posterior, the posterior of other data, and one that ignores part of the data pass
every rank test over the prior but not this one: where y is large, the truth is high. x(y) are the normal
scores of the columns of y (or of its declared summaries; their leading principal components where there are
many) and their squares. The idea is that of local calibration (Zhao et al. 2021, 2102.10473; Linhart et al.
2023, 2306.03580), with an exact null distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy.stats import f as f_distribution
from scipy.stats import norm, rankdata

from sbi_flows.diagnostics.calibration import RankTest

_MOST_FEATURES, _ROWS_PER_FEATURE = 15, 20
_TINY = 1e-12


@dataclass(frozen=True)
class Dependence:
    """The regression of one score, "bias" or "dispersion". r2: the share of its variance that the data
    explain, adjusted for the number of features; p: of F.
    """

    quantity: str
    score: str
    f: float
    degrees: tuple[int, int]
    r2: float
    p: float


def data_features(y: Shaped[np.ndarray, "m *event"]) -> Float[np.ndarray, "m k"]:
    """x(y), at most one column per 20 rows and 30 in all."""
    flat = y.reshape(len(y), -1).astype(np.float64)
    flat = flat[:, np.ptp(flat, axis=0) > 0]
    if flat.shape[1] == 0:
        return np.zeros((len(y), 0))
    scores = norm.ppf((rankdata(flat, axis=0) - 0.5) / len(flat))
    most = max(1, min(_MOST_FEATURES, len(y) // (2 * _ROWS_PER_FEATURE)))
    if scores.shape[1] > most:
        directions = np.linalg.svd(scores - scores.mean(axis=0), full_matrices=False)[2][:most]
        scores = scores @ directions.T
        scores /= scores.std(axis=0)
    return np.concatenate([scores, np.square(scores)], axis=1)


def dependence(tests: list[RankTest], features: Float[np.ndarray, "m k"]) -> list[Dependence]:
    """Two regressions per quantity, on any features of y such as `data_features(y)`. A quantity with fewer
    ranks than rows of features takes the first rows.
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
    inside = np.clip(test.ranks, _TINY, 1 - _TINY)
    from_middle = np.clip(np.abs(2 * inside - 1), _TINY, 1 - _TINY)
    return [("bias", norm.ppf(inside)), ("dispersion", norm.ppf(from_middle))]


def _regress(
    quantity: str, score: str, values: Float[np.ndarray, " m"], basis: Float[np.ndarray, "m r"]
) -> Dependence:
    m, r = basis.shape
    total = np.square(values - values.mean()).sum()
    left = np.square(values - basis @ (basis.T @ values)).sum()
    degrees = (r - 1, m - r)
    if r < 2 or total <= 0:
        return Dependence(quantity, score, 0.0, degrees, 0.0, 1.0)
    f = float((total - left) / degrees[0] / (left / degrees[1]))
    r2 = float(max(1 - left / total * (m - 1) / degrees[1], 0.0))
    return Dependence(quantity, score, f, degrees, r2, float(f_distribution.sf(f, *degrees)))
