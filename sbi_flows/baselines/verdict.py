"""The verdict on draws of ABC: do the data look like the simulations, and are those accepted near enough?"""

from __future__ import annotations

from sbi_flows.baselines.likeness import Likeness
from sbi_flows.nets.scaling import UNLIKE
from sbi_flows.notes import Note
from sbi_flows.verdict import Level, Verdict

_CAUTION_AT, _DISTRUST_AT, _FAR, _LARGE_SHARE = 0.01, 0.001, 2.0, 0.2
FEW, TOO_FEW = 100, 25  # effective draws, of any method
_MUCH_FILLED, _MUCH_FAILED = 0.05, 0.05
_GRAVE = 2  # the first two of `UNLIKE` are a reason for caution, the third is more


def data_verdict(found: Likeness) -> Verdict:
    """On the data alone. "caution" and "do not trust" are false alarms with probability 0.01 and 0.001 where
    there are 1,000 simulations or more; the fewer there are, the less is called.
    """
    reasons = [
        f"{count} of its {what}" for count, what in zip(found.unlike.tolist(), UNLIKE, strict=True) if count
    ]
    grave = bool(found.unlike[_GRAVE]) or found.broken
    if found.broken:
        reasons.append(str(Note("relations broken")))
    if found.p_value <= _CAUTION_AT or found.times > _FAR:
        grave |= found.p_value <= _DISTRUST_AT or found.times > _FAR
        reasons.append(str(Note("far from simulations", quantile=found.quantile, times=found.times)))
    if reasons:
        level: Level = "do not trust" if grave else "caution"
        return Verdict(level, f"{'; '.join(reasons)}. {Note('check data')}.", found.quantile)
    return Verdict("trust", f"{Note('near simulations', quantile=found.quantile)}.", found.quantile)


def rejection_verdict(found: Likeness, accepted: int, usable: int) -> Verdict:
    """On the data, and on how many of the simulations were accepted."""
    on_data = data_verdict(found)
    if on_data.level == "do not trust":
        return on_data
    if accepted <= _LARGE_SHARE * usable:
        return _on_number(on_data, accepted)
    share = Note("large share", accepted=accepted, usable=usable)
    return on_data.at_most("do not trust" if accepted == usable else "caution", f"{share}. Simulate more.")


def _on_number(verdict: Verdict, accepted: int) -> Verdict:
    if accepted >= FEW:
        return verdict
    why = Note("few accepted", accepted=accepted)
    return verdict.at_most("do not trust" if accepted < TOO_FEW else "caution", f"{why}. Simulate more.")


def with_failures(verdict: Verdict, failed: int, made: int) -> Verdict:
    """The verdict, with caution where more than 5% of the simulations failed: the draws are then those of the
    prior given that a simulation does not fail.
    """
    if failed <= _MUCH_FAILED * made:
        return verdict
    return verdict.at_most("caution", f"{Note('many failed', share=failed / made)}.")


def with_filled(verdict: Verdict, share: float) -> Verdict:
    """The verdict, with caution where the median stands for more than 5% of the values that are compared."""
    if share <= _MUCH_FILLED:
        return verdict
    return verdict.at_most("caution", str(Note("values filled", share=share)))
