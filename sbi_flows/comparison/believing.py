"""One verdict on one observation, from all that was measured there: never better than the worst of its parts."""

from __future__ import annotations

import numpy as np

from sbi_flows.diagnostics.predictive import PredictiveCheck
from sbi_flows.draws import LEVELS, Level, Verdict
from sbi_flows.posterior.posterior import Posterior

NEAR, FAR, VERY_FAR = 0.55, 0.65, 0.85
UNLIKELY, VERY_UNLIKELY = 0.01, 0.001
_APART, _FAR_APART = 0.5, 1.0
_DRAWS = 500


def disagreement(posterior: Posterior, y: np.ndarray, seed: int) -> float:
    """max_j sd_k(E_k theta_j) / sd(theta_j): how far apart the means of an ensemble's members lie, in sd of all draws; NaN without one.

    Members count by their shares w in the mixture: the variance is sum_k w_k (E_k - E)^2 / (1 - sum_k w_k^2).
    Of K members in equal shares that agree, 500 (K - 1) times its square is about chi-squared with K - 1 degrees for each parameter, so
    that the limits of `believe`, 0.5 and 1, are sizes of a fault that chance never reaches.
    """
    draws, shares = posterior.sample_members(y, _DRAWS, seed=seed), posterior.estimator.shares.numpy().astype(np.float64)
    if len(draws) < 2:
        return float("nan")
    shares = (shares / shares.sum())[:, None]
    means = draws.mean(axis=1)
    between = (shares * np.square(means - (shares * means).sum(axis=0))).sum(axis=0) / (1 - np.square(shares).sum())
    within = (shares * draws.var(axis=1)).sum(axis=0) + between
    return float(np.sqrt(np.where(within > 0, between / np.where(within > 0, within, 1), 0)).max())


def believe(
    at_observation: Verdict, predictive: PredictiveCheck | None, apart: float, c2st: float | None, reference: Verdict | None
) -> Verdict:
    """The verdict on the neural posterior at one observation.

    at_observation: of the training cloud; apart: of `disagreement`; c2st: of neural draws against the reference, exact ones, and the
    reference's own verdict.
    """
    found: list[tuple[Level, str]] = [(at_observation.level, at_observation.text.rstrip("."))]
    if predictive is not None and predictive.p <= UNLIKELY:
        level: Level = "do not trust" if predictive.p <= VERY_UNLIKELY else "caution"
        words = f"it predicts data unlike those observed (p = {predictive.p:.2g}; worst predicted: {predictive.worst}). Check the simulator"
        found.append((level, words))
    if apart > _APART:
        level = "do not trust" if apart > _FAR_APART else "caution"
        found.append((level, f"its networks disagree: their means lie {apart:.2f} sd apart. Simulate more"))
    if c2st is not None and reference is not None and c2st >= FAR:
        level = "do not trust" if c2st >= VERY_FAR and reference.ok else "caution"
        doubt = "" if reference.ok else ", though these are few"
        words = f"a classifier tells the neural draws from exact ones with accuracy {c2st:.2f}{doubt}. Train longer, or use the exact draws"
        found.append((level, words))
    level = max((one for one, _ in found), key=LEVELS.index)
    said = [words for one, words in found if one != "trust"] or [found[0][1]]
    if at_observation.ok and level != "trust":
        said = [found[0][1], f"But {said[0]}", *said[1:]]
    text = ". ".join([said[0], *(words[0].upper() + words[1:] for words in said[1:])])
    return Verdict(level, f"{text}.", at_observation.quantile)
