"""Which columns of the data depend on the parameters: a screen before training (after Fan & Lv 2008; Li,
Zhong & Zhu 2012).

A column u_j is kept where one of three tests of independence of u_j and the parameters z rejects at 0.5%,
Bonferroni within each:

    pairs       chi-squared in a table of quantile bins of u_j and of each z_k: dependence on one parameter
    powers      F of the regression of u_j and u_j^2 on 1, z_k, z_k z_l: dependence on several together
    products    F of the regression of u_i u_j on the same, for all i: columns that matter only together with
                another, as the covariate x of a response theta x + noise; of many columns in fewer rows, at
                least 500

If the columns that pass none have more small p-values than expected by chance, all are kept: many weak
signals are not noise. Ranks replace u_j, so that tails do not matter. A column that passes none may still
matter in ways that no test here sees, so a fit never relies on the screen alone: one network sees all
columns.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import binom, chi2, f, rankdata

from sbi_flows.arrays import F

_LEVEL, _SMALL = 0.005, 0.1
_OPERATIONS, _LEAST_ROWS = 2e10, 500
_MOST_BINS, _ROWS_PER_CELL = 8, 20


def relevant_columns(u: Float[np.ndarray, "n m"], z: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " m"]:
    """Whether each column of u shows a dependence on z."""
    n, m = u.shape
    ranks = (rankdata(u, axis=0) - 0.5) / n - 0.5
    of_z = (rankdata(z, axis=0) - 0.5) / n - 0.5
    design = _quadratic(of_z)
    found = _pairs(ranks, of_z) * z.shape[1] < _LEVEL
    of_means = _regression(ranks, design)
    found |= 2 * np.minimum(of_means, _regression(np.square(ranks), design)) < _LEVEL
    rows = min(n, int(_OPERATIONS / (m * m * design.shape[1])))
    if rows >= min(n, _LEAST_ROWS):
        step = -(-n // rows)
        ranks, design = ranks[::step], _quadratic(of_z[::step])
        for j in np.flatnonzero(~found):
            found[j] = m * _regression(ranks[:, [j]] * ranks, design).min() < _LEVEL
    hidden = of_means[~found]
    if len(hidden) and binom.sf((hidden < _SMALL).sum() - 1, len(hidden), _SMALL) < _LEVEL:
        return np.ones(m, dtype=np.bool_)
    return np.asarray(found)


def _pairs(u: F, z: F) -> F:
    """The least p-value of each column of u over the columns of z, (m,). Both are ranks in (-0.5, 0.5)."""
    bins = int(np.clip(np.sqrt(len(u) / _ROWS_PER_CELL), 2, _MOST_BINS))
    of_u, of_z = (np.minimum(((part + 0.5) * bins).astype(np.int64), bins - 1) for part in (u, z))
    least = np.ones(u.shape[1])
    for j in range(u.shape[1]):
        for k in range(z.shape[1]):
            counts = np.bincount(of_u[:, j] * bins + of_z[:, k], minlength=bins * bins)
            table = counts.reshape(bins, bins).astype(np.float64)
            table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
            if min(table.shape) > 1:
                expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / len(u)
                freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
                statistic = (np.square(table - expected) / expected).sum()
                least[j] = min(least[j], float(chi2.sf(statistic, freedom)))
    return least


def _quadratic(z: F) -> F:
    """An orthonormal basis of the span of 1, z_k and z_k z_l; without products where rows are too few."""
    n, d = z.shape
    products = [z[:, k] * z[:, i] for k in range(d) for i in range(k, d)]
    columns = [np.ones(n), *z.T, *(products if 4 * (1 + d + len(products)) < n else [])]
    return np.asarray(np.linalg.qr(np.column_stack(columns))[0])


def _regression(w: F, basis: F) -> F:
    """p-values of the F test that a column of w does not depend on the basis (first column constant),
    (m,).
    """
    n, q = basis.shape
    w = w - w.mean(axis=0)
    whole, explained = np.square(w).sum(axis=0), np.square(basis[:, 1:].T @ w).sum(axis=0)
    varies = whole > 1e-12 * n
    rest = np.maximum(np.where(varies, whole - explained, 1.0), 1e-300)
    return np.asarray(np.where(varies, f.sf(explained / (q - 1) / (rest / (n - q)), q - 1, n - q), 1.0))
