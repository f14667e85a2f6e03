"""One verdict: never better than the worst of its parts, and every reason is said."""

from __future__ import annotations

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.comparison.agreement import Agreement, Reason, agreement, distance_apart
from sbi_flows.comparison.verdict import believe, reasons_against
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


def found(reasons: list[Reason]) -> list[tuple[str, str]]:
    return [(level, note.kind) for level, note in reasons]


@pytest.mark.parametrize(
    ("p", "level"),
    [(0.5, None), (0.011, None), (0.01, "caution"), (0.005, "caution"), (0.001, "do not trust")],
)
def test_unlikely_data_are_a_reason(p: float, level: str | None) -> None:
    reasons = reasons_against(predictive(p), None, None, None)
    assert found(reasons) == ([] if level is None else [(level, "unlikely data")])
    assert all(note.values == {"p": p, "worst": "trend"} for _, note in reasons)


@pytest.mark.parametrize(
    ("members", "level", "kind"),
    [
        (Agreement(0.1, CHANCE), None, None),
        (Agreement(0.09, CHANCE / 3), None, None),
        (Agreement(0.3, CHANCE), "caution", "networks disagree"),
        (Agreement(1.2, CHANCE), "do not trust", "networks disagree"),
        (Agreement(0.7, APART), "caution", "networks disagree everywhere"),
        (Agreement(0.4, NO_NULL), None, None),
        (Agreement(0.7, NO_NULL), "caution", "networks disagree"),
        (Agreement(1.2, NO_NULL), "do not trust", "networks disagree"),
    ],
)
def test_networks_that_disagree_are_a_reason(members: Agreement, level: str | None, kind: str | None) -> None:
    reasons = reasons_against(predictive(0.5), members, None, None)
    assert found(reasons) == ([] if level is None else [(level, kind)])
    for _, note in reasons:
        assert note.values["apart"] == members.apart
        assert note.values.get("p", members.p) == pytest.approx(members.p, nan_ok=True)
        assert note.values.get("usual", 0) == (np.median(members.null) if "usual" in note.values else 0)


@pytest.mark.parametrize(
    ("c2st", "reference", "level"),
    [
        (0.6, GOOD, None),
        (0.66, GOOD, "caution"),
        (0.9, GOOD, "do not trust"),
        (0.9, POOR, "caution"),
        (None, GOOD, None),
    ],
)
def test_a_distance_from_the_exact_posterior_is_a_reason(
    c2st: float | None, reference: sf.Verdict, level: str | None
) -> None:
    reasons = reasons_against(predictive(0.5), None, c2st, reference)
    assert found(reasons) == ([] if level is None else [(level, "unlike exact")])
    assert all(note.values == {"c2st": c2st, "few": not reference.ok, "neural": True} for _, note in reasons)


def test_the_worst_level_wins_and_all_reasons_are_said() -> None:
    outside = sf.Verdict("caution", "the observation lies at the edge.", 0.995)
    reasons = reasons_against(predictive(0.001), Agreement(0.7, CHANCE), 0.7, GOOD)
    assert len(reasons) == 3
    verdict = believe(outside, reasons)
    assert verdict.level == "do not trust"
    assert verdict.quantile == 0.995
    assert all(str(note)[1:] in verdict.text for _, note in reasons)
    assert "at the edge" in verdict.text


def test_without_reasons_the_verdict_is_that_on_the_observation() -> None:
    assert believe(INSIDE, []) == INSIDE
    untested = believe(INSIDE, [], predictions_tested=False)
    assert untested.ok
    assert "predictions" in untested.text
    doubted = believe(INSIDE, reasons_against(predictive(0.005), None, None, None))
    assert doubted.level == "caution"
    assert doubted.text.startswith(INSIDE.text.rstrip("."))


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
