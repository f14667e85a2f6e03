"""One verdict: never better than the worst of its parts, and every reason is said."""

from __future__ import annotations

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.comparison.agreement import Agreement, agreement, distance_apart
from sbi_flows.comparison.verdict import believe
from sbi_flows.diagnostics.predictive import PredictiveCheck
from simulators.gaussian import make_gaussian

from ..conftest import QUICK

INSIDE = sf.Verdict("trust", "the observation lies within the training distribution.", 0.4)
GOOD = sf.Verdict("trust", "exact.")
POOR = sf.Verdict("caution", "few.")


CHANCE = np.linspace(0.01, 0.2, 199)
APART = np.linspace(0.4, 0.9, 199)
NO_NULL = np.zeros(0)


def predictive(p: float) -> PredictiveCheck:
    one = np.zeros(1)
    return PredictiveCheck(("trend",), one, one, one, one + p, p)


@pytest.mark.parametrize(
    ("p", "members", "c2st", "reference", "level", "words"),
    [
        (0.5, None, None, None, "trust", "within the training distribution."),
        (0.5, Agreement(0.1, CHANCE), 0.6, GOOD, "trust", "within the training distribution."),
        (
            0.005,
            None,
            None,
            None,
            "caution",
            "But it predicts data unlike those observed (p = 0.005; worst predicted: trend)",
        ),
        (0.001, None, None, None, "do not trust", "Check the simulator."),
        (
            0.5,
            Agreement(0.3, CHANCE),
            None,
            None,
            "caution",
            "their means lie 0.30 sd apart (p = 0.005; 0.10 sd on simulated data)",
        ),
        (0.5, Agreement(1.2, CHANCE), None, None, "do not trust", "Simulate more."),
        (0.5, Agreement(0.09, CHANCE / 3), None, None, "trust", "within the training distribution."),
        (
            0.5,
            Agreement(0.7, APART),
            None,
            None,
            "caution",
            "on simulated data too: their means lie 0.65 sd apart there, 0.70 here",
        ),
        (
            0.5,
            Agreement(0.7, NO_NULL),
            None,
            None,
            "caution",
            "its networks disagree: their means lie 0.70 sd apart",
        ),
        (
            0.5,
            None,
            0.66,
            GOOD,
            "caution",
            "tells the neural draws from exact ones with accuracy 0.66. Train longer",
        ),
        (0.5, None, 0.9, GOOD, "do not trust", "use the exact draws."),
        (0.5, None, 0.9, POOR, "caution", "accuracy 0.90, though these are few."),
    ],
)
def test_each_reason_has_its_level(
    p: float,
    members: Agreement | None,
    c2st: float | None,
    reference: sf.Verdict | None,
    level: str,
    words: str,
) -> None:
    found = believe(INSIDE, predictive(p), members, c2st, reference)
    assert found.level == level
    assert words in found.text
    assert found.quantile == 0.4


def test_the_worst_level_wins_and_all_reasons_are_said() -> None:
    outside = sf.Verdict("caution", "the observation lies at the edge.", 0.995)
    found = believe(outside, predictive(0.001), Agreement(0.7, CHANCE), 0.7, GOOD)
    assert found.level == "do not trust"
    for words in ("at the edge", "It predicts data", "Its networks disagree", "A classifier"):
        assert words in found.text


def test_members_that_disagree_are_measured_and_ranked_among_simulated_data(
    gaussian_posterior: sf.Posterior,
) -> None:
    simulator = make_gaussian(2)
    assert agreement(gaussian_posterior, simulator, np.zeros(2), 1) is None
    settings = sf.FitSettings(width=16, layers=2, summary_features=8, members=2, train=QUICK.train)
    ensemble = sf.fit(simulator, n_simulations=1000, seed=3, settings=settings, say=None)
    near, far = (agreement(ensemble, simulator, y, 1) for y in (np.zeros(2), np.array([40.0, -40.0])))
    assert near is not None
    assert far is not None
    assert len(near.null) == 199
    assert near.p > 0.01 >= far.p
    assert far.apart > near.apart == distance_apart(ensemble, np.zeros(2), 1)
