"""One verdict on a choice of models: each reason, and none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sbi_flows.comparison.models.choice import ModelChoice
from sbi_flows.comparison.models.verdict import ABC, CLASSIFIER, EVIDENCE, verdict_on
from sbi_flows.diagnostics.classification import ClassCalibration
from sbi_flows.verdict import Level, Verdict

NAMES = ("a", "b")
GOOD = ClassCalibration(1000, 0.4, 0.0, 0.001, 1.0, ())
BAD = ClassCalibration(1000, 1e-9, -0.1, 0.2, 1.8, ())


def by(factor: float, error: float = 0.05, **facts: Any) -> ModelChoice:
    covariance = np.diag([0.0, error**2])
    return ModelChoice(np.array([0.0, factor]), covariance, np.full(2, 0.5), facts)


def looks(a: Level = "trust", b: Level = "trust") -> dict[str, Verdict]:
    return {"a": Verdict(a, "of a.", 0.5), "b": Verdict(b, "of b.", 0.6)}


def verdict(**given: Any) -> Verdict:
    parts = {
        "methods": {CLASSIFIER: by(2.0)},
        "likeness": looks(),
        "calibration": GOOD,
        "failed": {"a": 0.0, "b": 0.0},
        **given,
    }
    return verdict_on(NAMES, **parts)


def test_nothing_against_it_is_trust() -> None:
    found = verdict(methods={CLASSIFIER: by(2.0), EVIDENCE: by(2.05, k_hat=[0.1, 0.3]), ABC: by(2.1, 0.2)})
    assert found.ok
    assert "'b' the probability 0.881" in found.text


@pytest.mark.parametrize(
    ("given", "level", "words"),
    [
        ({"likeness": looks("do not trust", "do not trust")}, "do not trust", "No model looks like the data"),
        ({"likeness": looks("caution", "do not trust")}, "caution", "No model looks like the data"),
        ({"likeness": looks("trust", "do not trust")}, "caution", "favoured model 'b'"),
        ({"likeness": looks("do not trust", "trust")}, "trust", "look like simulations of 'b'"),
        ({"calibration": BAD}, "do not trust", "not calibrated"),
        ({"failed": {"a": 0.3, "b": 0.0}}, "caution", "30.0% of the simulations of 'a' failed"),
        ({"failed": {"a": 0.3, "b": 0.3}}, "trust", "calibration"),
        ({"methods": {CLASSIFIER: by(9.0)}}, "trust", "beyond the 6.9 that 1,000 held-out"),
        ({"methods": {CLASSIFIER: by(0.5, 1.5)}}, "caution", "standard error"),
    ],
)
def test_each_reason(given: dict[str, Any], level: Level, words: str) -> None:
    found = verdict(**given)
    assert found.level == level
    assert words in found.text


@pytest.mark.parametrize(
    ("method", "other", "level"),
    [
        (EVIDENCE, by(0.5, k_hat=[0.1, 0.2]), "caution"),
        (EVIDENCE, by(-3.0, k_hat=[0.1, 0.2]), "do not trust"),
        (EVIDENCE, by(-3.0, k_hat=[0.1, 0.9]), "trust"),
        (ABC, by(-3.0), "trust"),
    ],
)
def test_a_method_that_differs_is_said(method: str, other: ModelChoice, level: Level) -> None:
    """A reason where it is the evidence, and known well."""
    found = verdict(methods={CLASSIFIER: by(2.0), method: other})
    assert found.level == level
    assert f"{method} differs" in found.text or f"{method.capitalize()} differs" in found.text


def test_a_difference_within_errors_is_not_said() -> None:
    found = verdict(methods={CLASSIFIER: by(2.0), EVIDENCE: by(0.5, 2.0, k_hat=[0.1, 0.2])})
    assert "differs" not in found.text
