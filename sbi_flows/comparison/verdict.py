"""One verdict on one observation, from all that was measured there: never better than the worst of its
parts.
"""

from __future__ import annotations

from sbi_flows.comparison.agreement import Agreement
from sbi_flows.diagnostics.predictive import PredictiveCheck
from sbi_flows.verdict import LEVELS, Level, Verdict

NEAR, FAR, VERY_FAR = 0.55, 0.65, 0.85
UNLIKELY, VERY_UNLIKELY = 0.01, 0.001


def believe(
    at_observation: Verdict,
    predictive: PredictiveCheck | None,
    members: Agreement | None,
    c2st: float | None,
    reference: Verdict | None,
) -> Verdict:
    """The verdict on the neural posterior at one observation.

    at_observation: of training cloud and critic; members: of an ensemble; c2st: of neural draws against the
    reference, exact ones, and the reference's own verdict.
    """
    found: list[tuple[Level, str]] = [(at_observation.level, at_observation.text.rstrip("."))]
    if predictive is not None and predictive.p <= UNLIKELY:
        level: Level = "do not trust" if predictive.p <= VERY_UNLIKELY else "caution"
        words = (
            f"it predicts data unlike those observed (p = {predictive.p:.2g}; worst predicted: "
            f"{predictive.worst}). Check the simulator"
        )
        found.append((level, words))
    if members is not None:
        found.append(members.judge())
    if c2st is not None and reference is not None and c2st >= FAR:
        level = "do not trust" if c2st >= VERY_FAR and reference.ok else "caution"
        doubt = "" if reference.ok else ", though these are few"
        words = (
            f"a classifier tells the neural draws from exact ones with accuracy {c2st:.2f}{doubt}. "
            f"Train longer, or use the exact draws"
        )
        found.append((level, words))
    level = max((one for one, _ in found), key=LEVELS.index)
    said = [words for one, words in found if one != "trust"] or [found[0][1]]
    if at_observation.ok and level != "trust":
        said = [found[0][1], f"But {said[0]}", *said[1:]]
    text = ". ".join([said[0], *(words[0].upper() + words[1:] for words in said[1:])])
    return Verdict(level, f"{text}.", at_observation.quantile)
