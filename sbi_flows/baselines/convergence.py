"""Whether weighted particles of a sequential method can be believed.

1. The tolerance. For small tolerances the mean and the variance of each coordinate are

    m(eps) = m(0) + a eps^2,   v(eps) = v(0) + b eps^2

(Barber, Voss & Webster 2015, Electronic Journal of Statistics 9:80). Lines through the last generations say
how far the mean and the sd are yet to go. Their errors are those of moments of n effective particles. Where
most proposals are still accepted the lines say nothing, and the tolerance can fall at little cost.

2. The effective number of particles.

3. The data: the Mahalanobis distance of the observed summaries from those simulated in the last generation,
ranked among the distances of these. The proposals are wider than the posterior, so that for data from the
model the p-value is small less often than it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm

from sbi_flows.arrays import F
from sbi_flows.baselines.generations import Generation
from sbi_flows.baselines.verdict import FEW, TOO_FEW
from sbi_flows.draws import ChainDiagnostics
from sbi_flows.verdict import Level, Verdict, worse

_USED = 4
_MUCH_SD, _TOO_MUCH_SD, _MUCH_MEAN, _TOO_MUCH_MEAN = 0.1, 0.3, 0.2, 0.6
_FALSE_ALARM = 1e-4
_MOST_FALL, _EASY = 0.5, 0.3
_CAUTION_AT, _DISTRUST_AT = 0.01, 0.001
_NO_SPREAD = 1e-10
_GOOD_RHAT, _POOR_RHAT, _GOOD_ESS, _POOR_ESS = 1.01, 1.05, 400, 100


class Remaining(NamedTuple):
    """How far mean and sd of a coordinate are yet to go when the tolerance falls to 0: the largest over
    coordinates (of sd also the mean over them), in present sd and as a share of it, where it exceeds its
    error; else 0.
    """

    mean: float
    sd: float


def remaining(records: Sequence[dict[str, Any]]) -> Remaining | None:
    """From the last four generations; None where there are not two."""
    used = [record for record in records[-_USED:] if record["relative_tolerance"] is not None]
    if len(used) < 2:
        return None
    x = np.square([record["relative_tolerance"] for record in used])
    means, variances = (np.array([record[name] for record in used]) for name in ("mean", "variance"))
    ess = np.array([record["ess"] for record in used])
    present = np.maximum(variances[-1], np.finfo(np.float64).tiny)
    bar = norm.isf(_FALSE_ALARM / (4 * len(present)))
    to_go, error = _to_zero(x, means / np.sqrt(present), 1 / np.sqrt(ess))
    mean = np.where(np.abs(to_go) > bar * error, np.abs(to_go), 0.0)
    to_go, error = _to_zero(x, variances / present, np.sqrt(2 / ess))
    together = to_go.mean(keepdims=True)
    bars = np.concatenate([np.full(len(to_go), bar), norm.isf([_FALSE_ALARM / 4]) / np.sqrt(len(to_go))])
    to_go = np.concatenate([to_go, together])
    fall = np.where(to_go < -bars * error, 1 - np.sqrt(np.maximum(1 + to_go, 0)), 0.0)
    return Remaining(float(mean.max()), float(fall.max()))


def _to_zero(x: F, y: F, errors: F) -> tuple[F, float]:
    """How far each column of y (g, u) is yet to go along a line from the last x to 0, and the error."""
    weights = 1 / np.square(errors)
    centred = x - np.average(x, weights=weights)
    spread = float((weights * np.square(centred)).sum())
    if spread <= 0:
        return np.zeros(y.shape[1]), np.inf
    slope = (weights * centred) @ y / spread
    return -slope * x[-1], float(x[-1] / np.sqrt(spread))


def p_of_data(simulated: F, observed: F) -> float:
    """The share of simulated summaries (n, k) at least as far from their mean as the observed ones (k,), in
    units of their covariance; 0 where a combination that never varies was observed otherwise.
    """
    if not len(simulated):
        return 0.0
    mean, sd = simulated.mean(axis=0), simulated.std(axis=0)
    scale = np.where(sd > _NO_SPREAD * np.maximum(np.abs(mean), 1e-300), sd, 0.0)
    off = (scale == 0) & ~np.isclose(observed, mean, rtol=1e-6, atol=1e-12)
    if off.any():
        return 0.0
    used = scale > 0
    rows, point = (simulated[:, used] - mean[used]) / scale[used], (observed[used] - mean[used]) / scale[used]
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    flat = values < _NO_SPREAD * max(values.max(initial=0), 1.0)
    if (np.abs(point @ vectors[:, flat]) > 1e-3).any():
        return 0.0
    whiten = vectors[:, ~flat] / np.sqrt(values[~flat])
    far = np.square(rows @ whiten).sum(axis=1) >= np.square(point @ whiten).sum()
    return float((1 + far.sum()) / (1 + len(far)))


def verdict_of(last: Generation, target: F) -> Verdict:
    """On a run of generations."""
    before = last.on_data
    p, to_go, ess = p_of_data(last.seen, target), remaining(last.records), last.ess
    found: list[tuple[Level, str]] = []
    if before.level != "trust":
        found.append((before.level, before.text))
    if p <= _CAUTION_AT:
        level: Level = "do not trust" if p <= _DISTRUST_AT else "caution"
        found.append((level, f"the data are unlike those simulated in the last generation (p = {p:.2g})."))
    if ess < FEW:
        level = "do not trust" if ess < TOO_FEW else "caution"
        found.append((level, f"there are only {ess:.0f} effective particles."))
    if to_go is None:
        found.append(("do not trust", "the budget ended before a generation after that from the prior."))
    elif last.records[-1]["acceptance"] > _EASY and last.region.tolerances[-1] > 0:
        share = last.records[-1]["acceptance"]
        found.append(("caution", f"{share:.0%} of the last proposals were accepted: the tolerance can fall."))
    if to_go is not None and (to_go.sd > _MUCH_SD or to_go.mean > _MUCH_MEAN):
        level = "do not trust" if to_go.sd > _TOO_MUCH_SD or to_go.mean > _TOO_MUCH_MEAN else "caution"
        fall = f"by {to_go.sd:.0%}" if to_go.sd < _MOST_FALL else "by more than half"
        by_mean = f"the mean would move by another {to_go.mean:.2f} sd"
        found.append((level, f"the tolerance is still too large: at 0 {by_mean} and the sd fall {fall}."))
    tolerance = last.region.tolerances[-1]
    told = f"tolerance {tolerance:.3g} in generation {last.number}, {ess:,.0f} effective particles"
    return _together(told, found, p, before)


def verdict_on_chains(found: ChainDiagnostics, before: Verdict, normality: float, p: float) -> Verdict:
    """On Markov chains of a synthetic likelihood.

    normality: the p-value of the summaries at the posterior mean. p: that of the observed summaries among
        them. Both NaN where they were not simulated.
    """
    reasons: list[tuple[Level, str]] = []
    if found.rhat > _GOOD_RHAT:
        level: Level = "do not trust" if found.rhat > _POOR_RHAT else "caution"
        reasons.append((level, f"the chains disagree: R-hat is {found.rhat:.3f}, and should be below 1.01."))
    if found.ess < _GOOD_ESS:
        reasons.append(
            (
                "do not trust" if found.ess < _POOR_ESS else "caution",
                f"{found.ess:.0f} effective draws are few.",
            )
        )
    if before.level != "trust":
        reasons.append((before.level, before.text))
    if np.isnan(normality):
        reasons.append(("caution", "whether the summaries are normal was not tested: the budget was spent."))
    elif normality <= _DISTRUST_AT:
        where = "at the posterior mean the summaries are not normal"
        reasons.append(("caution", f"{where} (p = {normality:.2g}), as the method takes them to be."))
    if p <= _CAUTION_AT:
        level = "do not trust" if p <= 2 * _DISTRUST_AT else "caution"
        reasons.append((level, f"the data are unlike those simulated at the posterior mean (p = {p:.2g})."))
    told = f"R-hat {found.rhat:.3f}, {found.ess:,.0f} effective draws"
    return _together(told, reasons, p, before)


def _together(told: str, found: list[tuple[Level, str]], p: float, before: Verdict) -> Verdict:
    """The worst of what was found; the quantile is that among simulations from the prior."""
    if not found:
        text = f"{told}; the observed summaries lie among the simulated (p = {p:.2g})."
        return Verdict("trust", text, before.quantile)
    level = worse(*(level for level, _ in found))
    reasons = " ".join(text[0].upper() + text[1:] for _, text in found)
    advice = "" if before.level != "trust" or p <= _CAUTION_AT else " Simulate more."
    return Verdict(level, f"{told}. {reasons}{advice}", before.quantile)
