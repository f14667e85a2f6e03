"""One verdict on a choice of models: never better than the worst of its reasons."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sbi_flows.comparison.models.choice import ModelChoice
from sbi_flows.comparison.models.likeness import best_verdict
from sbi_flows.diagnostics.classification import ClassCalibration
from sbi_flows.notes import Note
from sbi_flows.verdict import Level, Verdict, worse

CLASSIFIER, ABC, ADJUSTED, EVIDENCE = "classifier", "ABC", "ABC, logistic", "evidence"
Reason = tuple[Level, Note]
_APART, _ERRORS, _GOOD_K = 0.1, 3.0, 0.7
_UNCERTAIN = 0.2
_OFTEN = 0.05
_FAR_IN_LOGITS = 2.0


def verdict_on(
    names: tuple[str, ...],
    methods: Mapping[str, ModelChoice],
    likeness: Mapping[str, Verdict],
    calibration: ClassCalibration,
    failed: Mapping[str, float],
) -> Verdict:
    """Whether to believe the classifier's probabilities. failed: the share of failed simulations by model."""
    best = best_verdict(likeness)
    closest = likeness[best]
    unlike = _of_likeness(names, methods[CLASSIFIER], likeness)
    reasons = [
        *unlike,
        *_of_calibration(calibration),
        *_of_methods(names, methods),
        *_of_errors(names, methods[CLASSIFIER]),
        *_of_resolution(methods[CLASSIFIER], calibration.n),
        *_of_failures(failed),
    ]
    level = worse("trust", *(level for level, _ in reasons))
    favoured = names[int(np.argmax(methods[CLASSIFIER].probabilities))]
    p, error = (float(column.max()) for column in _favoured(methods[CLASSIFIER]))
    said = [Note("model favoured", model=favoured, p=p, error=error)]
    if closest.ok:
        like = [name for name in names if likeness[name].ok]
        said.append(Note("models look like the data", models=like))
    if calibration.level == "trust":
        said.append(Note("classifier calibrated", n=calibration.n, p=calibration.p))
    said += [note for _, note in reasons[len(unlike) :]]
    said = [*(note for _, note in unlike), *said]
    text = ". ".join(note[0].upper() + note[1:] for note in said)
    return Verdict(level, f"{text}.", closest.quantile)


def _favoured(choice: ModelChoice) -> tuple[np.ndarray, np.ndarray]:
    k = int(np.argmax(choice.probabilities))
    return choice.probabilities[k : k + 1], choice.errors[k : k + 1]


def _of_likeness(
    names: tuple[str, ...], choice: ModelChoice, likeness: Mapping[str, Verdict]
) -> list[Reason]:
    best = best_verdict(likeness)
    level = likeness[best].level
    if level != "trust":
        return [(level, Note("no model like the data", model=best, text=likeness[best].text.rstrip(".")))]
    favoured = names[int(np.argmax(choice.probabilities))]
    if likeness[favoured].ok:
        return []
    text = likeness[favoured].text.rstrip(".")
    return [("caution", Note("favoured model unlike the data", model=favoured, text=text))]


def _of_calibration(found: ClassCalibration) -> list[Reason]:
    if found.level == "trust":
        return []
    note = Note(
        "classifier not calibrated", n=found.n, p=found.p, temperature=found.temperature, gain=found.gain
    )
    return [(found.level, note)]


def _of_methods(names: tuple[str, ...], methods: Mapping[str, ModelChoice]) -> list[Reason]:
    """Evidence that differs is a reason for caution, or not to trust; ABC that differs, for caution where it
    is far from the classifier.
    """
    classifier, reasons = methods[CLASSIFIER], list[Reason]()
    for method, choice in methods.items():
        if method == CLASSIFIER:
            continue
        apart = np.abs(choice.probabilities - classifier.probabilities)
        k = int(np.argmax(apart))
        error = float(np.hypot(choice.errors[k], classifier.errors[k]))
        if apart[k] <= max(_APART, _ERRORS * error):
            continue
        p, other = float(classifier.probabilities[k]), float(choice.probabilities[k])
        note = Note("methods differ", method=method, model=names[k], p=p, other=other)
        exact = method == EVIDENCE and max(choice.facts["k_hat"]) <= _GOOD_K
        opposite = exact and (p - 0.5) * (other - 0.5) < 0 and apart[k] > 0.5
        doubtful = exact or (method == ADJUSTED and abs(_logit(p) - _logit(other)) > _FAR_IN_LOGITS)
        reasons.append(("do not trust" if opposite else "caution" if doubtful else "trust", note))
    return reasons


def _logit(p: float) -> float:
    return float(np.log(max(p, 1e-300) / max(1 - p, 1e-300)))


def _of_errors(names: tuple[str, ...], choice: ModelChoice) -> list[Reason]:
    k = int(np.argmax(choice.errors))
    error = float(choice.errors[k])
    if error <= _UNCERTAIN:
        return []
    return [("caution", Note("model probability uncertain", model=names[k], error=error))]


def _of_resolution(choice: ModelChoice, n: int) -> list[Reason]:
    """Odds beyond n to 1 are not tested by n held-out simulations: this is said, and is no reason."""
    factor, limit = float(np.ptp(choice.log_evidence)), float(np.log(n))
    return [("trust", Note("factor extrapolated", factor=factor, limit=limit, n=n))] if factor > limit else []


def _of_failures(failed: Mapping[str, float]) -> list[Reason]:
    """Failures that differ between models favour those that fail."""
    worst = max(failed, key=lambda name: failed[name])
    if failed[worst] - min(failed.values()) <= _OFTEN:
        return []
    return [("caution", Note("failures favour a model", model=worst, share=failed[worst]))]
