"""One verdict on the neural posterior at one observation: never better than the worst of its reasons."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from sbi_flows.comparison.agreement import Agreement, Reason
from sbi_flows.diagnostics.predictive import PredictiveCheck
from sbi_flows.diagnostics.tests import FALSE_ALARM
from sbi_flows.notes import Note
from sbi_flows.verdict import Verdict, worse

NEAR, FAR, VERY_FAR = 0.55, 0.65, 0.85
UNLIKELY, VERY_UNLIKELY = 0.01, 0.001


def believe(at_observation: Verdict, reasons: list[Reason], *, predictions_tested: bool = True) -> Verdict:
    """The verdict on the observation, made worse by the reasons not to believe the posterior."""
    level = worse(at_observation.level, *(level for level, _ in reasons))
    said = [at_observation.text.rstrip("."), *(note[0].upper() + note[1:] for _, note in reasons)]
    if at_observation.ok and reasons:
        said[1] = f"But {reasons[0][1]}"
    if not predictions_tested:
        said.append("Its predictions were not tested: they could not be made")
    return Verdict(level, f"{'. '.join(said)}.", at_observation.quantile)


def reasons_against(
    predictive: PredictiveCheck | None,
    members: Agreement | None,
    c2st: float | None,
    reference: Verdict | None,
) -> list[Reason]:
    """Why not to believe the posterior here, if there is any reason.

    members: how well the networks of an ensemble agree.
    c2st: of neural draws against exact ones, if beyond chance; reference: the verdict on the exact ones.
    """
    found: list[Reason] = []
    if predictive is not None and predictive.p <= UNLIKELY:
        note = Note("unlikely data", p=predictive.p, worst=predictive.worst)
        found.append(("do not trust" if predictive.p <= VERY_UNLIKELY else "caution", note))
    if members is not None and (reason := members.reason()) is not None:
        found.append(reason)
    found += unlike_exact(c2st, reference)
    return found


def unlike_exact(c2st: float | None, reference: Verdict | None, *, neural: bool = True) -> list[Reason]:
    """Whether draws are far from exact ones. neural: whether they are those of the neural posterior."""
    if c2st is None or reference is None or c2st < FAR:
        return []
    note = Note("unlike exact", c2st=c2st, few=not reference.ok, neural=neural)
    return [("do not trust" if c2st >= VERY_FAR and reference.ok else "caution", note)]


def beyond_chance(c2st: float, n: int) -> float | None:
    """The C2ST of n draws each, if it is beyond chance.

    For equal distributions it is about N(1/2, 1 / (8 n)), and beyond chance once in 10,000 cases.
    """
    return c2st if c2st > 0.5 + norm.isf(FALSE_ALARM) / np.sqrt(8 * n) else None
