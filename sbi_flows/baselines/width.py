"""Are accepted draws wider than the posterior, because the tolerance is too large?

Among the accepted simulations theta still depends on the summaries. A linear regression, in unconstrained
coordinates z,

    z_i = a + B (s_i - s(y)) + e_i,       R^2 adjusted for the k summaries,

says how far the sd would fall, 1 - sqrt(1 - R^2), and the mean move, a - mean(z), if the tolerance fell to 0.
Both count only where they are beyond chance: an F and a t test, together with a false-alarm rate of 1e-4.
Of draws that a regression has moved, the variance of the nearer half is compared with that of all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import f as f_distribution
from scipy.stats import norm

from sbi_flows.arrays import F
from sbi_flows.notes import Note
from sbi_flows.verdict import Verdict

_FALSE_ALARM = 1e-4
_MUCH_SD, _TOO_MUCH_SD, _MUCH_MEAN, _TOO_MUCH_MEAN = 0.1, 0.3, 0.2, 0.6
_LEAST_SPARE = 10


class TooWide(NamedTuple):
    """How far the sd would fall, and the mean move, in present sd: the largest over coordinates; 0 where it
    is not beyond chance.
    """

    sd: float
    mean: float


def of_accepted(z: F, offsets: F) -> TooWide:
    """Of accepted z (n, u), with the offsets of their summaries (n, k) from the observed ones."""
    n, u = z.shape
    varies = offsets.std(axis=0) > 0
    design = np.column_stack([np.ones(n), offsets[:, varies]])
    rank = int(np.linalg.matrix_rank(design))
    spare = n - rank
    if spare < _LEAST_SPARE or rank < 2:
        return TooWide(0.0, 0.0)
    coefficients, *_ = np.linalg.lstsq(design, z, rcond=None)
    residual = np.square(z - design @ coefficients).sum(axis=0)
    total = np.square(z - z.mean(axis=0)).sum(axis=0)
    total = np.maximum(total, np.finfo(np.float64).tiny)
    ratio = (total - residual) / (rank - 1) / np.maximum(residual / spare, np.finfo(np.float64).tiny)
    beyond = f_distribution.sf(ratio, rank - 1, spare) < _FALSE_ALARM / (2 * u)
    left = np.clip((residual / spare) / (total / (n - 1)), 0.0, 1.0)
    fall = np.where(beyond, 1 - np.sqrt(left), 0.0)
    at = np.linalg.pinv(design.T @ design)[0, 0]
    moved, error = np.abs(coefficients[0] - z.mean(axis=0)), np.sqrt(residual / spare * at)
    far = np.where(moved > norm.isf(_FALSE_ALARM / (4 * u)) * error, moved / np.sqrt(total / (n - 1)), 0.0)
    return TooWide(float(fall.max()), float(far.max()))


def of_adjusted(z: F) -> TooWide:
    """Of adjusted z (n, u), nearest first."""
    n, u = z.shape
    half = n // 2
    if half < 2 * _LEAST_SPARE:
        return TooWide(0.0, 0.0)
    near, rest = z[:half], z[half:]
    log_ratio = np.log(np.maximum(near.var(axis=0, ddof=1), 1e-300)) - np.log(
        np.maximum(rest.var(axis=0, ddof=1), 1e-300)
    )
    centred = (z - z.mean(axis=0)) / np.maximum(z.std(axis=0), 1e-300)
    heavy = np.maximum((centred**4).mean(axis=0) - 1, 2.0)
    error = np.sqrt(heavy * (1 / half + 1 / (n - half)))
    beyond = log_ratio < -norm.isf(_FALSE_ALARM / u) * error
    share = near.var(axis=0, ddof=1) / np.maximum(z.var(axis=0, ddof=1), 1e-300)
    fall = np.where(beyond, 1 - np.sqrt(np.minimum(share, 1.0)), 0.0)
    return TooWide(float(fall.max()), 0.0)


def never_better(verdict: Verdict, found: TooWide) -> Verdict:
    """The verdict, made worse where the draws are too wide."""
    if found.sd <= _MUCH_SD and found.mean <= _MUCH_MEAN:
        return verdict
    grave = found.sd > _TOO_MUCH_SD or found.mean > _TOO_MUCH_MEAN
    note = str(Note("tolerance too large", sd=found.sd, mean=found.mean))
    why = f"{note[:1].upper()}{note[1:]}. Simulate more, or adjust."
    return verdict.at_most("do not trust" if grave else "caution", why)
