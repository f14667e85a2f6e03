"""All tests on one set of draws, and one verdict.

Each test has a statistic with a known distribution if q is the posterior, and an effect size in the field's
own units. q fails where the statistic lies beyond its limit and the effect is not slight:

    significant   p <= alpha / (tests x statistics of the test)
    effect        slight: "trust";   moderate: "caution";   large: "do not trust"

The posterior itself fails any test with probability at most alpha. A million simulations do not condemn q for
a fault that nobody would notice, nor do a hundred for bad luck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float
from scipy.stats import f as f_distribution
from scipy.stats import norm
from scipy.stats import t as student

from sbi_flows.diagnostics.calibration import LOG_LIKELIHOOD, LOG_Q, RANDOM_POINT, RankTest, rank_tests
from sbi_flows.diagnostics.dependence import Dependence, data_features, dependence
from sbi_flows.diagnostics.local import LocalTest
from sbi_flows.diagnostics.normalisation import Normalisation, normalisation
from sbi_flows.diagnostics.pairs import LogProb, Pairs
from sbi_flows.diagnostics.predictive import PredictiveCheck
from sbi_flows.diagnostics.recovery import Gain, gain
from sbi_flows.diagnostics.resolution import LARGE, Resolution
from sbi_flows.verdict import LEVELS, Level, Verdict

FALSE_ALARM = 1e-4
AT_OBSERVATION = (0.01, 0.001)
_SHIFTS, _DISPERSIONS, _GAPS = (0.1, 0.3), (1.1, 1.25), (0.05, 0.15)
_EXPLAINED, _NATS = (0.01, 0.09), (0.05, 0.3)
_TIMES = (LARGE, np.inf)

_MORE = ("more simulations", "longer training")
_BETTER_SUMMARIES = (*_MORE, "another summary network")
_NOT_PARAMETERS = (LOG_Q, RANDOM_POINT, LOG_LIKELIHOOD)
_THREE_P = "3 min p of mean-z, spread-z, ECDF"
_SHARPER = ("posterior.refine(y_obs, simulator)", "more simulations")
_BOUND = "P(S >= s) <= exp(-s), exact bound"
_COVERAGES = {
    LOG_Q: ("coverage", "highest-density regions"),
    RANDOM_POINT: ("coverage, TARP", "balls around random points"),
}


@dataclass(frozen=True)
class Outcome:
    """The outcome of one test, at its worst quantity.

    statistic: its value; `null` names its distribution if q is the posterior.
    limit: the fault is significant beyond it (for a p-value: below it).
    size: of the effect, in the unit that `sentence` names.
    advice: next steps if it fails.
    """

    test: str
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
class Measurements:
    """All that was measured on one set of draws."""

    tests: Sequence[RankTest]
    dependence: Sequence[Dependence]
    normalisation: Normalisation | None = None
    gain: Gain | None = None
    resolved: Sequence[Resolution] = ()


def measure(
    pairs: Pairs,
    rng: np.random.Generator,
    *,
    log_prob: LogProb | None = None,
    log_prior: Float[np.ndarray, " m"] | None = None,
    features: Float[np.ndarray, "m k"] | None = None,
) -> Measurements:
    """Measure everything that one set of draws allows.

    log_prob: the density, to test whether it is that of the draws; None where these do not fill R^d.
    log_prior: of the truths, (m,), for the gain.
    features: of y; default `data_features(y)`.
    """
    tests = rank_tests(pairs, rng)
    about_theta = [test for test in tests if test.quantity != RANDOM_POINT]
    found = dependence(about_theta, data_features(pairs.y) if features is None else features)
    normal = None if log_prob is None or pairs.log_q is None else normalisation(pairs, log_prob, rng)
    gained = None if log_prior is None or pairs.log_q is None else gain(pairs.log_q[:, 0], log_prior)
    return Measurements(tests, found, normal, gained)


def apply_tests(measured: Measurements, false_alarm: float = FALSE_ALARM) -> list[Outcome]:
    """One outcome per test. If q is the posterior, the probability that any is significant is at most
    false_alarm (without the gain, which tests whether anything was learnt).
    """
    parameters = [test for test in measured.tests if test.quantity not in _NOT_PARAMETERS]
    others = [test for test in measured.tests if test.quantity in _NOT_PARAMETERS]
    each = [partial(_likelihood if test.quantity == LOG_LIKELIHOOD else _coverage, test) for test in others]
    tests: list[Callable[[float], Outcome]] = [
        lambda alpha: _bias(parameters, alpha / len(parameters)),
        lambda alpha: _dispersion(parameters, alpha / len(parameters)),
        lambda alpha: _distribution(parameters, alpha / len(parameters)),
        *each,
        lambda alpha: _dependence(measured.dependence, alpha / max(len(measured.dependence), 1)),
    ]
    if measured.normalisation is not None:
        tests.append(partial(_density, measured.normalisation))
    if measured.resolved:
        tests.append(partial(_resolution, measured.resolved))
    found = [test(false_alarm / len(tests)) for test in tests]
    found = [_passed(outcome) if outcome.level == "trust" else outcome for outcome in found]
    if measured.gain is not None:
        found.append(_gain(measured.gain, false_alarm))
    return found


def overall(outcomes: Sequence[Outcome], praise: str = "") -> Verdict:
    """The worst level, with every reason and the next steps. praise: ends the sentence if there are none."""
    failed = [one for level in LEVELS[:0:-1] for one in outcomes if one.level == level]
    if not failed:
        parts = "bias, dispersion, coverage and dependence on the data"
        return Verdict("trust", f"{parts} are those of the correct posterior{praise}.")
    reasons = "; ".join(outcome.sentence for outcome in failed)
    steps = dict.fromkeys(step for outcome in failed for step in outcome.advice)
    return Verdict(failed[0].level, f"{reasons}. Next: {'; or '.join(steps)}.")


def local_outcome(found: LocalTest) -> Outcome:
    """Local C2ST at one observation: "caution" at p <= 1%, "do not trust" at p <= 0.1%."""
    level = _level_of_p(found.p)
    can = "cannot" if level == "trust" else "can"
    sentence = f"at the observation a classifier {can} tell draws from truths (p = {found.p:.2g})"
    return Outcome(
        *("local C2ST", "all", found.statistic, found.limit, "of swapped pairs, exact"),
        *(level != "trust", found.p, level, sentence, (*_MORE, "the exact posterior")),
    )


def predictive_outcome(found: PredictiveCheck) -> Outcome:
    """The posterior predictive check at one observation, with the same limits."""
    level = _level_of_p(found.p)
    like = "like" if level == "trust" else "unlike"
    sentence = f"it predicts data {like} those observed (p = {found.p:.2g}; worst predicted: {found.worst})"
    return Outcome(
        *("predictions", "y_obs", found.p, AT_OBSERVATION[0], "rank, conservative"),
        *(level != "trust", found.p, level, sentence, ("checking the simulator against the data",)),
    )


def misspecification_outcome(verdict: Verdict) -> Outcome:
    """The verdict on whether one observation looks like the simulations, as a row of the table."""
    sentence = verdict.text.split(". ")[0].rstrip(".")
    advice = ("a look at the data and their units, then at the prior and the simulator",)
    level = verdict.of_data or verdict.level
    return Outcome(
        *("misspecification", "y_obs", verdict.quantile, 0.99, "quantile ~ U(0, 1)"),
        *(level != "trust", verdict.quantile, level, sentence, advice),
    )


def local_resolution_outcome(names: Sequence[str], evidence: Float[np.ndarray, " d"]) -> Outcome:
    """The bets on the data sets nearest to one observation, one sum for each parameter: "caution" at 1%."""
    worst, limit = int(np.argmax(evidence)), float(np.log(len(names) / AT_OBSERVATION[0]))
    lost = bool(evidence[worst] >= limit)
    does = "predicts" if lost else "does not predict"
    sentence = (
        f"{names[worst]}: near the observation a linear regression {does} the truth better than the posterior"
    )
    return Outcome(
        *("resolution at y_obs", names[worst], float(evidence[worst]), limit, _BOUND),
        *(lost, float(evidence[worst]), "caution" if lost else "trust", sentence, _SHARPER),
    )


def _level_of_p(p: float) -> Level:
    caution, distrust = AT_OBSERVATION
    return "trust" if p > caution else "caution" if p > distrust else "do not trust"


def _graded(significant: bool, size: float, limits: tuple[float, float]) -> tuple[bool, float, Level]:
    """Whether it is significant, the size of the effect, and the level that follows."""
    if not significant or size <= limits[0]:
        return significant, size, "trust"
    return significant, size, "caution" if size <= limits[1] else "do not trust"


def _passed(outcome: Outcome) -> Outcome:
    why = "which is slight" if outcome.significant else "within what chance allows"
    return replace(outcome, sentence=f"{outcome.sentence}, {why}")


def _bias(tests: Sequence[RankTest], alpha: float) -> Outcome:
    test, limit = max(tests, key=lambda t: abs(t.mean_z)), float(norm.isf(alpha / 2))
    found = _graded(abs(test.mean_z) > limit, abs(test.shift), _SHIFTS)
    side = "below" if test.shift > 0 else "above"
    sentence = f"{test.quantity}: the posterior lies {abs(test.shift):.2f} of its sd {side} the truth"
    return Outcome("bias", test.quantity, test.mean_z, limit, "mean-z ~ N(0, 1)", *found, sentence, _MORE)


def _dispersion(tests: Sequence[RankTest], alpha: float) -> Outcome:
    test, limit = max(tests, key=lambda t: abs(t.spread_z)), float(norm.isf(alpha / 2))
    ratio = test.dispersion
    found = _graded(abs(test.spread_z) > limit, max(ratio, 1 / ratio), _DISPERSIONS)
    sentence = f"{test.quantity}: the posterior is {ratio:.2f} times as wide as it should be"
    advice = (*_MORE, "sf.recalibrate, if no better fit is possible")
    return Outcome(
        "dispersion", test.quantity, test.spread_z, limit, "spread-z ~ N(0, 1)", *found, sentence, advice
    )


def _distribution(tests: Sequence[RankTest], alpha: float) -> Outcome:
    test = min(tests, key=lambda t: t.ecdf_p)
    found = _graded(test.ecdf_p <= alpha, test.gap, _GAPS)
    sentence = f"{test.quantity}: the coverage of its intervals is off by up to {test.gap:.1%}"
    null = "exact, simultaneous ECDF band"
    return Outcome("distribution of ranks", test.quantity, test.ecdf_p, alpha, null, *found, sentence, _MORE)


def _coverage(test: RankTest, alpha: float) -> Outcome:
    name, regions = _COVERAGES[test.quantity]
    found = _graded(test.p <= alpha, test.gap, _GAPS)
    at_90 = f"{test.coverage(0.9):.1%} of the truths lie in those of 90%"
    sentence = f"the coverage of {regions} is off by up to {test.gap:.1%} ({at_90})"
    return Outcome(name, test.quantity, test.p, alpha, _THREE_P, *found, sentence, _MORE)


def _likelihood(test: RankTest, alpha: float) -> Outcome:
    """If the truth is likelier than the draws, "caution" at most: a calibrated posterior that is too wide
    loses information, but is not false.
    """
    wide = test.mean_z > 0
    significant, size, level = _graded(test.p <= alpha, test.gap, _GAPS)
    level = "caution" if wide and level == "do not trust" else level
    than = f"{'likelier' if wide else 'less likely'} than the draws (ranks up to {size:.1%} off)"
    why = "does not use all that the data say" if wide else "is too narrow or biased"
    so = "" if level == "trust" else f", so q {why}"
    sentence = f"under the simulator's likelihood the truth is {than}{so}"
    advice = (*_BETTER_SUMMARIES, "the exact posterior, which the likelihood gives")
    return Outcome(
        *("likelihood of the truth", test.quantity, test.p, alpha, _THREE_P),
        *(significant, size, level, sentence, advice),
    )


def _dependence(regressions: Sequence[Dependence], alpha: float) -> Outcome:
    worst = min(regressions, key=lambda d: d.p)
    limit = float(f_distribution.isf(alpha, *worst.degrees)) if worst.degrees[0] > 0 else np.inf
    found = _graded(worst.p <= alpha, worst.r2, _EXPLAINED)
    so = "" if found[2] == "trust" else ", so q does not use the data as it should"
    explained = f"{worst.r2:.1%} of the variance of its local {worst.score}"
    sentence = f"{worst.quantity}: the data explain {explained}{so}"
    null = f"F({worst.degrees[0]}, {worst.degrees[1]}), exact"
    return Outcome(
        "ranks given the data", worst.quantity, worst.f, limit, null, *found, sentence, _BETTER_SUMMARIES
    )


def _density(found: Normalisation, alpha: float) -> Outcome:
    limit = float(student.isf(alpha / 2, found.degrees))
    graded = _graded(abs(found.t) > limit, abs(found.excess), _NATS)
    sentence = f"log q is {found.excess:+.2f} nats off the normalised density of its own draws"
    advice = "avoiding log_prob, which lacks a Jacobian or a constant or is not that of the draws"
    null = f"t({found.degrees})"
    return Outcome("density is that of the draws", LOG_Q, found.t, limit, null, *graded, sentence, (advice,))


def _resolution(found: Sequence[Resolution], alpha: float) -> Outcome:
    """At most "caution": a posterior that its network limits loses information, but may be calibrated."""
    limit = float(np.log(len(found) / alpha))
    worst = max(found, key=lambda one: (one.evidence > limit and one.factor > LARGE, one.evidence))
    graded = _graded(worst.evidence > limit, worst.factor, _TIMES)
    sentence = f"{worst.quantity}: in {worst.bets:.0%} of the data sets a linear regression is narrower"
    if graded[2] != "trust":
        times = f"the posterior is {worst.factor:.3g} times as wide as its errors"
        sentence = f"{sentence}, and right: {times}, so the network limits it, not the data"
    return Outcome(
        *("resolution", worst.quantity, worst.evidence, limit, _BOUND, *graded, sentence, _SHARPER)
    )


def _gain(found: Gain, alpha: float) -> Outcome:
    limit = float(norm.isf(alpha))
    level: Level = "trust" if found.z > limit else "do not trust"
    learnt = "so something was learnt" if level == "trust" else "so nothing reliable was learnt"
    nats = f"{found.mean:+.2f} ± {found.error:.2f} nats"
    sentence = f"log density at the truth minus that of the prior: {nats}, {learnt}"
    advice = "ABC on the same simulations, to see whether the data say anything about these parameters"
    return Outcome(
        *("gain over the prior", LOG_Q, found.z, limit, "at most N(0, 1) if nothing was learnt"),
        *(level != "trust", found.mean, level, sentence, ("more simulations", advice)),
    )
