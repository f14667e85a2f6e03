"""All judges on one set of draws, and one verdict.

A judge has a statistic, its law if the posterior is right, and a size: how large the fault is in the field's
own units. It calls the
posterior where the statistic lies beyond its limit and the size is not slight:

    significant   p <= alpha / (judges x statistics of the judge)         any false alarm on a right
    posterior: at most alpha in all slight        passes;   moderate: "caution";   large: "do not trust"

so that a million simulations do not condemn a posterior for a fault that nobody would notice, and a hundred
do not for bad luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.stats import f as f_law
from scipy.stats import norm
from scipy.stats import t as student

from sbi_flows.diagnostics.calibration import LOG_LIKELIHOOD, LOG_Q, RANDOM_POINT, RankTest, rank_tests
from sbi_flows.diagnostics.dependence import Dependence, data_features, dependence
from sbi_flows.diagnostics.local import LocalTest
from sbi_flows.diagnostics.normalisation import Normalisation, normalisation
from sbi_flows.diagnostics.pairs import LogProb, Pairs
from sbi_flows.diagnostics.predictive import PredictiveCheck
from sbi_flows.diagnostics.recovery import Gain, gain
from sbi_flows.verdict import LEVELS, Level, Verdict

FALSE_ALARM = 1e-4
LOCAL = (0.01, 0.001)
_SHIFTS, _WIDTHS, _GAPS = (0.1, 0.3), (1.1, 1.25), (0.05, 0.15)
_EXPLAINED, _NATS = (0.01, 0.09), (0.05, 0.3)


@dataclass(frozen=True)
class Judgement:
    """What one judge found, at its worst quantity.

    statistic: value of what `null` is the law of; limit: beyond it (below, for a p-value) the fault is
    significant; size: of the fault, in the unit that `sentence` names.
    """

    judge: str
    quantity: str
    statistic: float
    limit: float
    null: str
    significant: bool
    size: float
    level: Level
    sentence: str
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """All that was measured, before it is judged."""

    tests: Sequence[RankTest]
    dependence: Sequence[Dependence]
    normalisation: Normalisation | None = None
    gain: Gain | None = None


def examine(
    pairs: Pairs,
    rng: np.random.Generator,
    *,
    log_prob: LogProb | None = None,
    log_prior: Float[np.ndarray, " m"] | None = None,
    features: Float[np.ndarray, "m k"] | None = None,
) -> Findings:
    """Measure all that can be measured on one set of draws.

    log_prob: the density, for whether it is that of the draws (leave out where these do not fill R^d);
    log_prior (m,): of the truths, for the gain; features: of y, by default `data_features(y)`.
    """
    tests = rank_tests(pairs, rng)
    about_theta = [test for test in tests if test.quantity != RANDOM_POINT]
    found = dependence(about_theta, data_features(pairs.y) if features is None else features)
    normal = None if log_prob is None or pairs.log_q is None else normalisation(pairs, log_prob, rng)
    gained = None if log_prior is None or pairs.log_q is None else gain(pairs.log_q[:, 0], log_prior)
    return Findings(tests, found, normal, gained)


def judge(findings: Findings, false_alarm: float = FALSE_ALARM) -> list[Judgement]:
    """One judgement a judge. false_alarm: the chance that any of them is significant on a right posterior, at
    most.
    """
    parameters = [
        test for test in findings.tests if test.quantity not in (LOG_Q, RANDOM_POINT, LOG_LIKELIHOOD)
    ]
    others = [test for test in findings.tests if test.quantity in (LOG_Q, RANDOM_POINT, LOG_LIKELIHOOD)]
    judges = 3 + len(others) + 1 + (findings.normalisation is not None)
    alpha = false_alarm / judges
    found = [
        _place(parameters, alpha / len(parameters)),
        _width(parameters, alpha / len(parameters)),
        _distribution(parameters, alpha / len(parameters)),
        *((_likelihood if test.quantity == LOG_LIKELIHOOD else _coverage)(test, alpha) for test in others),
        _data(findings.dependence, alpha / max(len(findings.dependence), 1)),
    ]
    if findings.normalisation is not None:
        found.append(_density(findings.normalisation, alpha))
    found = [
        one if one.level != "trust" else replace(one, sentence=f"{one.sentence}, {_mild(one)}")
        for one in found
    ]
    if findings.gain is not None:
        found.append(_gain(findings.gain, false_alarm))
    return found


def _mild(found: Judgement) -> str:
    return "which is slight" if found.significant else "within what chance allows"


def overall(judgements: Sequence[Judgement], praise: str = "") -> Verdict:
    """The worst level with every reason and the next steps; `praise` ends the sentence where there is
    none.
    """
    level = max((judgement.level for judgement in judgements), key=LEVELS.index)
    called = sorted((j for j in judgements if j.level != "trust"), key=lambda j: -LEVELS.index(j.level))
    if not called:
        return Verdict(
            "trust",
            f"places, widths, coverage and dependence on the data are those of the right posterior{praise}.",
        )
    reasons = "; ".join(judgement.sentence for judgement in called)
    steps = dict.fromkeys(step for judgement in called for step in judgement.advice)
    return Verdict(level, f"{reasons}. Next: {'; or '.join(steps)}.")


def judge_here(found: LocalTest) -> Judgement:
    """The judgement of local C2ST at one observation: "caution" at p <= 1%, "do not trust" at p <= 0.1%."""
    level: Level = "trust" if found.p > LOCAL[0] else "caution" if found.p > LOCAL[1] else "do not trust"
    tells = "tells" if level != "trust" else "does not tell"
    sentence = f"at the observation a classifier {tells} draws from truths (p = {found.p:.2g})"
    null = "of swapped pairs, exact"
    return Judgement(
        "local C2ST",
        "all",
        found.statistic,
        found.limit,
        null,
        level != "trust",
        found.p,
        level,
        sentence,
        (*_MORE, "the exact posterior"),
    )


def judge_predictions(found: PredictiveCheck) -> Judgement:
    """The judgement of the posterior predictive check at one observation: "caution" at p <= 1%, "do not
    trust" at p <= 0.1%.
    """
    level: Level = "trust" if found.p > LOCAL[0] else "caution" if found.p > LOCAL[1] else "do not trust"
    like = "like" if level == "trust" else "unlike"
    sentence = f"it predicts data {like} those observed (p = {found.p:.2g}; worst predicted: {found.worst})"
    null, advice = "rank, conservative", ("a look at the simulator, which the data contradict",)
    return Judgement(
        "predictions", "y_obs", found.p, LOCAL[0], null, level != "trust", found.p, level, sentence, advice
    )


def judge_place(verdict: Verdict) -> Judgement:
    """The judgement of the training cloud on one observation, as a row of the table."""
    quantile = float("nan") if verdict.quantile is None else verdict.quantile
    null, advice = (
        "quantile ~ U(0, 1)",
        ("a look at the data and their units, then at the prior and the simulator",),
    )
    called = not verdict.ok
    text = verdict.text.split(". ")[0].rstrip(".")
    return Judgement(
        "place of the observation",
        "y_obs",
        quantile,
        0.99,
        null,
        called,
        quantile,
        verdict.level,
        text,
        advice,
    )


_MORE = ("more simulations", "longer training")
_DETAIL = (*_MORE, "another summary network")


def _level(significant: bool, size: float, limits: tuple[float, float]) -> tuple[bool, float, Level]:
    if not significant or size <= limits[0]:
        return significant, size, "trust"
    return significant, size, "caution" if size <= limits[1] else "do not trust"


def _place(tests: Sequence[RankTest], alpha: float) -> Judgement:
    test, limit = max(tests, key=lambda t: abs(t.mean_z)), float(norm.isf(alpha / 2))
    found = _level(abs(test.mean_z) > limit, abs(test.shift), _SHIFTS)
    where = "below" if test.shift > 0 else "above"
    sentence = f"{test.quantity}: the posterior lies {abs(test.shift):.2f} of its sd {where} the truth"
    return Judgement(
        "place of the truth", test.quantity, test.mean_z, limit, "mean-z ~ N(0, 1)", *found, sentence, _MORE
    )


def _width(tests: Sequence[RankTest], alpha: float) -> Judgement:
    test, limit = max(tests, key=lambda t: abs(t.spread_z)), float(norm.isf(alpha / 2))
    size = max(test.width, 1 / test.width)
    found = _level(abs(test.spread_z) > limit, size, _WIDTHS)
    sentence = f"{test.quantity}: {test.width:.2f} times the right width"
    advice = (*_MORE, "sf.recalibrate, if no better fit is to be had")
    return Judgement(
        "width", test.quantity, test.spread_z, limit, "spread-z ~ N(0, 1)", *found, sentence, advice
    )


def _distribution(tests: Sequence[RankTest], alpha: float) -> Judgement:
    test = min(tests, key=lambda t: t.ecdf_p)
    found = _level(test.ecdf_p <= alpha, test.gap, _GAPS)
    sentence = f"{test.quantity}: its intervals cover up to {test.gap:.1%} more or less than they say"
    null = "exact, simultaneous ECDF band"
    return Judgement(
        "distribution of ranks", test.quantity, test.ecdf_p, alpha, null, *found, sentence, _MORE
    )


_COVERAGES = {
    LOG_Q: ("coverage", "highest-density regions"),
    RANDOM_POINT: ("coverage, TARP", "balls around random points"),
}


def _coverage(test: RankTest, alpha: float) -> Judgement:
    name, regions = _COVERAGES[test.quantity]
    found = _level(test.p <= alpha, test.gap, _GAPS)
    sentence = (
        f"{regions} hold up to {test.gap:.1%} more or fewer truths than they say, the 90% ones "
        f"{test.coverage(0.9):.1%}"
    )
    null = "3 min p of mean-z, spread-z, ECDF"
    return Judgement(name, test.quantity, test.p, alpha, null, *found, sentence, _MORE)


def _likelihood(test: RankTest, alpha: float) -> Judgement:
    """A truth that is likelier than the draws is "caution" at most: what is calibrated but wider than the
    posterior is lossy, not false.
    """
    lossy = test.mean_z > 0
    significant, size, level = _level(test.p <= alpha, test.gap, _GAPS)
    level = "caution" if lossy and level == "do not trust" else level
    than = "likelier" if lossy else "less likely"
    sentence = (
        f"under the simulator's likelihood the truth is {than} than the draws (ranks up to "
        f"{test.gap:.1%} off)"
    )
    if level != "trust":
        sentence += (
            ", so q does not use all that the data say"
            if lossy
            else ", so q is narrower than the posterior or beside it"
        )
    null = "3 min p of mean-z, spread-z, ECDF"
    advice = (*_DETAIL, "the exact posterior, which the likelihood gives")
    return Judgement(
        "likelihood of the truth",
        test.quantity,
        test.p,
        alpha,
        null,
        significant,
        size,
        level,
        sentence,
        advice,
    )


def _data(regressions: Sequence[Dependence], alpha: float) -> Judgement:
    worst = min(regressions, key=lambda d: d.p)
    limit = float(f_law.isf(alpha, *worst.degrees)) if worst.degrees[0] > 0 else np.inf
    found = _level(worst.p <= alpha, worst.r2, _EXPLAINED)
    what = "by the data's place" if worst.score == "place" else "in width by the data"
    wrong = "" if found[2] == "trust" else ", so q does not use the data as it should"
    sentence = f"{worst.quantity}: {worst.r2:.1%} of the variance of its ranks is explained {what}{wrong}"
    null = f"F({worst.degrees[0]}, {worst.degrees[1]}), exact"
    return Judgement("ranks given the data", worst.quantity, worst.f, limit, null, *found, sentence, _DETAIL)


def _density(found: Normalisation, alpha: float) -> Judgement:
    limit = float(student.isf(alpha / 2, found.degrees))
    judged = _level(abs(found.t) > limit, abs(found.excess), _NATS)
    sentence = f"log q is {found.excess:+.2f} nats off a normalised density of its own draws"
    advice = (
        "do not use log_prob, from which a Jacobian or a constant is missing, unless the draws are of "
        "another density",
    )
    return Judgement(
        "density is that of the draws",
        LOG_Q,
        found.t,
        limit,
        f"t({found.degrees})",
        *judged,
        sentence,
        advice,
    )


def _gain(found: Gain, alpha: float) -> Judgement:
    limit = float(norm.isf(alpha))
    level: Level = "trust" if found.z > limit else "do not trust"
    learnt = "so something was learnt" if level == "trust" else "so nothing reliable was learnt"
    sentence = (
        f"log density at the truth is {found.mean:+.2f} ± {found.error:.2f} nats from the prior's, {learnt}"
    )
    advice = (
        "more simulations",
        "ABC on the same simulations, to see whether the data say anything about these parameters",
    )
    return Judgement(
        "gain over the prior",
        LOG_Q,
        found.z,
        limit,
        "at most N(0, 1) if nothing learnt",
        level != "trust",
        found.mean,
        level,
        sentence,
        advice,
    )
