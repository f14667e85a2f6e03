"""Does theta look like draws of the prior? A test of pairs that were made elsewhere.

Each coordinate z_j of T(theta) in R^u is compared with that of m fresh draws of the prior by the two-sample
Kolmogorov-Smirnov test, and each pair of coordinates by the mean of

    v_i v_j,    v_j = 2 F_j(z_j) - 1,    F_j the empirical distribution of other fresh draws of z_j,

which is a third of the rank correlation (Spearman 1904); the difference of two means of such bounded products
is normal but for terms of order 1/n, whether or not the coordinates depend on one another under the prior.
The chance that draws of the prior are doubted is at most `FALSE_ALARMS` over all comparisons together
(Bonferroni), half of it for the coordinates and half for the pairs.
"""

from __future__ import annotations

import numpy as np
import scipy.stats
from jaxtyping import Float

from sbi_flows.arrays import F
from sbi_flows.problem.prior import Prior
from sbi_flows.rng import stream

FALSE_ALARMS = 1e-4
_LEAST_ROWS, _MOST_ROWS = 20, 100_000
_FRESH, _FRESH_PER_ROW, _MOST_FRESH = 20_000, 10, 200_000
_RANKED = 20_000
_SHOWN = 4


def doubts(prior: Prior, theta: Float[np.ndarray, "n d"]) -> str:
    """A sentence on how theta differs from draws of the prior; empty if it looks like them.

    The fresh draws come from a stream of their own, so that the same theta always gets the same answer. Below
    20 rows nothing is said; of more than 100,000, as many are tested, evenly spaced. Rows that all come the
    same number of times, as where each theta was simulated often, count once.
    """
    if not len(theta):
        return ""
    theta = _distinct(theta[:: -(-len(theta) // _MOST_ROWS)])
    if len(theta) < _LEAST_ROWS:
        return ""
    rng = stream(0, "pairs made elsewhere")
    given = _coordinates(prior, theta)
    fresh = _coordinates(prior, prior.sample(_number_of_fresh(len(theta)), rng))
    ranked = np.sort(_coordinates(prior, prior.sample(_RANKED, rng)), axis=0)
    found = _different_columns(prior, given, fresh) + _different_pairs(prior, given, fresh, ranked)
    if not found:
        return ""
    more = f" (and {len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
    return (
        f"theta does not look like draws of the prior: {'; '.join(found[:_SHOWN])}{more}. The posterior will "
        "be that of the distribution that theta was drawn from, in place of the prior that was passed. Pass "
        "that distribution as the prior, or draw theta from this one. (Draws of the prior are doubted with a "
        f"chance of at most {FALSE_ALARMS:g}.)"
    )


def _distinct(theta: F) -> F:
    rows, counts = np.unique(theta, axis=0, return_counts=True)
    return rows if len(set(counts.tolist())) == 1 else theta


def _number_of_fresh(n: int) -> int:
    return min(max(_FRESH, _FRESH_PER_ROW * n), _MOST_FRESH)


def _coordinates(prior: Prior, theta: F) -> F:
    """z, one column for each of theta; theta itself where T has fewer, as on a simplex."""
    return prior.to_unconstrained(theta)[0] if prior.unconstrained_dim == prior.d else theta


def _different_columns(prior: Prior, given: F, fresh: F) -> list[str]:
    limit = FALSE_ALARMS / 2 / prior.d
    found = []
    for j, name in enumerate(prior.names):
        if scipy.stats.ks_2samp(given[:, j], fresh[:, j], method="asymp").pvalue < limit:
            quartiles = np.quantile(given[:, j], [0.25, 0.5, 0.75])
            at = [f"{np.mean(fresh[:, j] <= quartile):.0%}" for quartile in quartiles]
            found.append(f"{name} (its quartiles lie at the prior's {at[0]}, {at[1]} and {at[2]} points)")
    return found


def _different_pairs(prior: Prior, given: F, fresh: F, ranked: F) -> list[str]:
    names, d = prior.names, prior.d
    if d < 2:
        return []
    of_given, error_given = _products(_scores(given, ranked))
    of_fresh, error_fresh = _products(_scores(fresh, ranked))
    error = np.sqrt(error_given + error_fresh)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(error > 0, np.abs(of_given - of_fresh) / error, 0.0)
    limit = scipy.stats.t.isf(FALSE_ALARMS / 2 / (d * (d - 1)), len(given) - 1)
    of_given, of_fresh = (np.round(3 * mean, 2) + 0.0 for mean in (of_given, of_fresh))
    return [
        f"{names[i]} and {names[j]} together (rank correlation {of_given[i, j]:.2f}, under the prior "
        f"{of_fresh[i, j]:.2f})"
        for i, j in zip(*np.nonzero(np.triu(t > limit, 1)), strict=True)
    ]


def _scores(z: F, ranked: F) -> F:
    """v (n, u) in [-1, 1]."""
    below = [
        np.searchsorted(known, column) + np.searchsorted(known, column, "right")
        for column, known in zip(z.T, ranked.T, strict=True)
    ]
    return np.stack(below, axis=1) / len(ranked) - 1.0


def _products(v: F) -> tuple[F, F]:
    """The means of v_i v_j, (u, u), and their squared standard errors."""
    n = len(v)
    mean = v.T @ v / n
    return mean, np.maximum(np.square(v).T @ np.square(v) / n - np.square(mean), 0.0) / n
