"""The curve finds what it was made of, and what it says of a real fit holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.calibration import learning_curve as learning
from sbi_flows.calibration.learning_curve import LearningCurve, curve_through
from sbi_flows.errors import SettingsError
from simulators.gaussian import make_gaussian

from ..conftest import QUICK


def test_a_planted_curve_is_found() -> None:
    """a - b n^-c with noise that the pairs share, which cancels, and a little that they do not."""
    rng = np.random.default_rng(0)
    sizes = np.array([500.0, 1000, 2000, 4000, 8000])
    shared, own = rng.standard_normal(4000), 0.05 * rng.standard_normal((5, 4000))
    found = curve_through(sizes, (1.5 - 20 * sizes**-0.6)[:, None] + shared - shared.mean() + own, rng)
    assert found.a == pytest.approx(1.5, abs=0.03)
    assert abs(found.a - 1.5) < 5 * found.a_error
    assert found.c == pytest.approx(0.6, abs=0.15)
    assert found.predict(16_000) == pytest.approx(1.5 - 20 * 16_000**-0.6, abs=0.02)


def test_more_simulations_help_and_the_table_says_how_much() -> None:
    simulator = make_gaussian(2)
    found = sf.learning_curve(
        simulator, sf.simulate(simulator, 1600, seed=1), sizes=[100, 400, 1600], settings=QUICK, seed=1
    )
    assert found.table["simulations"].tolist() == [100, 400, 1600]
    assert found.table["log_density"].iloc[2] > found.table["log_density"].iloc[0]
    assert found.a >= found.predict(1600)


def test_sizes_that_cannot_be_had_are_refused() -> None:
    simulator = make_gaussian(2)
    simulations = sf.simulate(simulator, 200, seed=1)
    for sizes in ([100, 200], [0, 100, 200], [50, 100, 400]):
        with pytest.raises(SettingsError, match="200"):
            sf.learning_curve(simulator, simulations, sizes=sizes)
    wrong: Any
    for wrong in (
        150,
        "abc",
        [float("nan")],
        [50, 100, 150.5],
        ["50", "100", "200"],
        [True, 100, 200],
        None.__class__,
    ):
        with pytest.raises(SettingsError, match="200"):
            sf.learning_curve(simulator, simulations, sizes=wrong)


@pytest.mark.parametrize("n", [0, -5, "a", float("nan"), True, np.array([1.0, 2.0])])
def test_a_prediction_is_for_a_positive_number(n: Any) -> None:
    with pytest.raises(SettingsError, match="positive number"):
        LearningCurve(np.array([1.0, 2, 3]), np.zeros((3, 2)), 1.0, 1.0, 0.5, 0.1).predict(n)


def test_a_limit_that_the_sizes_do_not_determine_is_not_given() -> None:
    """A logarithm has no limit: the best power is the smallest of the grid. A falling curve gains nothing."""
    rng, sizes = np.random.default_rng(0), np.array([500.0, 1000, 2000, 4000])
    noise = 0.001 * rng.standard_normal((4, 1000))
    endless = curve_through(sizes, np.log(sizes)[:, None] + noise, rng)
    assert not endless.determined
    assert "±" not in endless.text
    for means in (1.5 - 20 * sizes**-0.6, 1 - sizes / 1e4):
        found = curve_through(sizes, means[:, None] + noise, rng)
        assert found.determined
        assert "±" in found.text


@pytest.mark.parametrize(("asked", "used"), [(None, 2), (3, 3)])
def test_the_number_of_networks_is_that_of_the_largest_size(
    asked: int | None, used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int | None] = []

    class Flat:
        def log_prob(self, theta: np.ndarray, y: np.ndarray) -> np.ndarray:
            return np.zeros(len(theta))

    def fit(*_: object, settings: sf.FitSettings, **__: object) -> Flat:
        seen.append(settings.members)
        return Flat()

    simulator = make_gaussian(2)
    simulations = sf.simulate(simulator, 20_000, seed=1)
    monkeypatch.setattr(learning, "fit", fit)
    sf.learning_curve(
        simulator, simulations, sizes=[100, 1000, 20_000], settings=sf.FitSettings(members=asked)
    )
    assert seen == [used] * 3
