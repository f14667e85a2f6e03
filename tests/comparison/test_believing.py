"""One verdict: never better than the worst of its parts, and every reason is said."""

from __future__ import annotations

import math

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.comparison.believing import believe, disagreement
from sbi_flows.diagnostics.predictive import PredictiveCheck
from simulators.gaussian import make_gaussian

from ..conftest import QUICK

INSIDE = sf.Verdict("trust", "the observation lies within the training cloud.", 0.4)
GOOD = sf.Verdict("trust", "exact.")
POOR = sf.Verdict("caution", "few.")


def predictive(p: float) -> PredictiveCheck:
    one = np.zeros(1)
    return PredictiveCheck(("trend",), one, one, one, one + p, p)


@pytest.mark.parametrize(
    ("p", "apart", "c2st", "reference", "level", "words"),
    [
        (0.5, math.nan, None, None, "trust", "within the training cloud."),
        (0.5, 0.1, 0.6, GOOD, "trust", "within the training cloud."),
        (0.005, math.nan, None, None, "caution", "But it predicts data unlike those observed (p = 0.005; worst predicted: trend)"),
        (0.001, math.nan, None, None, "do not trust", "Check the simulator."),
        (0.5, 0.7, None, None, "caution", "its networks disagree: their means lie 0.70 sd apart"),
        (0.5, 1.2, None, None, "do not trust", "Simulate more."),
        (0.5, math.nan, 0.66, GOOD, "caution", "tells the neural draws from exact ones with accuracy 0.66. Train longer"),
        (0.5, math.nan, 0.9, GOOD, "do not trust", "use the exact draws."),
        (0.5, math.nan, 0.9, POOR, "caution", "accuracy 0.90, though these are few."),
    ],
)
def test_each_reason_has_its_level(
    p: float, apart: float, c2st: float | None, reference: sf.Verdict | None, level: str, words: str
) -> None:
    found = believe(INSIDE, predictive(p), apart, c2st, reference)
    assert found.level == level
    assert words in found.text
    assert found.quantile == 0.4


def test_the_worst_level_wins_and_all_reasons_are_said() -> None:
    outside = sf.Verdict("caution", "the observation lies at the edge.", 0.995)
    found = believe(outside, predictive(0.001), 0.7, 0.7, GOOD)
    assert found.level == "do not trust"
    for words in ("at the edge", "It predicts data", "Its networks disagree", "A classifier"):
        assert words in found.text


def test_members_that_disagree_are_measured(gaussian_posterior: sf.Posterior) -> None:
    assert math.isnan(disagreement(gaussian_posterior, np.zeros(2), 1))
    settings = sf.FitSettings(hidden=16, steps=2, features=8, members=2, train=QUICK.train)
    ensemble = sf.fit(make_gaussian(2), n_simulations=1000, seed=3, settings=settings, say=None)
    assert 0 < disagreement(ensemble, np.zeros(2), 1) < 1
    assert disagreement(ensemble, np.array([40.0, -40.0]), 1) > disagreement(ensemble, np.zeros(2), 1)
