"""The verdict on sequential ABC: a good posterior passes; one that is too wide does not, nor strange data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.baselines.convergence import p_of_data, remaining
from simulators.gaussian import make_gaussian

ESS = 500


def record(tolerance: float, mean: float, variance: float, rng: np.random.Generator) -> dict[str, Any]:
    """Of a generation whose moments have the errors of 500 draws."""
    return {
        "relative_tolerance": tolerance,
        "ess": ESS,
        "mean": [mean + np.sqrt(variance / ESS) * rng.standard_normal()],
        "variance": [variance * (1 + np.sqrt(2 / ESS) * rng.standard_normal())],
    }


def found(variance_at: float, slope: float, drift: float = 0.0, seed: int = 0) -> Any:
    """`remaining` where the variance falls by `slope` times the square of the tolerance, to `variance_at`."""
    rng = np.random.default_rng(seed)
    tolerances = (2.0, 1.4, 1.0, 0.7)
    rows = [record(eps, drift * eps**2, variance_at + slope * eps**2, rng) for eps in tolerances]
    return remaining(rows)


def test_a_tolerance_that_no_longer_matters_raises_no_alarm() -> None:
    """Stated rate 1e-4 each; 500 runs."""
    assert sum(found(1, 0, seed=seed) != (0.0, 0.0) for seed in range(500)) <= 2


def test_a_posterior_that_is_still_too_wide_is_seen() -> None:
    """At the last tolerance the variance is 1 + 0.49 slope: the sd is yet to fall by 18% or 58%."""
    assert np.mean([found(1, 1, seed=seed).sd > 0.1 for seed in range(100)]) > 0.9
    assert np.mean([found(0.1, 1, seed=seed).sd > 0.3 for seed in range(100)]) > 0.95
    assert np.mean([found(1, 0, drift=1, seed=seed).mean > 0.2 for seed in range(100)]) > 0.9


def test_an_over_narrow_last_generation_is_not_called_wide() -> None:
    """A variance that grows as the tolerance falls says nothing of a width that is yet to fall."""
    assert found(1.5, -0.2).sd == 0


def test_one_generation_says_nothing() -> None:
    assert remaining([record(1, 0, 1, np.random.default_rng(0))]) is None


def test_data_from_the_model_have_uniform_p_values_and_others_small_ones() -> None:
    rng = np.random.default_rng(1)
    simulated = rng.multivariate_normal(np.zeros(3), np.eye(3) + 0.5, 2_000)
    p = [p_of_data(simulated, rng.multivariate_normal(np.zeros(3), np.eye(3) + 0.5)) for _ in range(400)]
    assert abs(np.mean(p) - 0.5) < 4.5 / np.sqrt(12 * 400)
    assert sum(value <= 0.01 for value in p) <= 14  # binomial(400, 0.01): 1e-4
    assert p_of_data(simulated, np.array([6.0, -6.0, 0.0])) <= 0.001


def test_relations_that_all_simulations_obey_are_seen_when_broken() -> None:
    rng = np.random.default_rng(2)
    one = rng.standard_normal((500, 1))
    equal = np.concatenate([one, one, np.ones((500, 1))], axis=1)
    assert p_of_data(equal, np.array([0.3, 0.3, 1.0])) > 0.01
    assert p_of_data(equal, np.array([0.3, 0.5, 1.0])) == 0
    assert p_of_data(equal, np.array([0.3, 0.3, 5.0])) == 0


@pytest.mark.parametrize("method", ["smc", "pmc"])
def test_levels_on_the_toy(method: str) -> None:
    simulator = make_gaussian(2)

    def draws(y: Any, n: int, **settings: Any) -> sf.Draws:
        given = sf.ABCSettings(particles=400, **settings)
        return sf.abc(simulator, y, method=method, n_simulations=n, seed=3, settings=given)  # type: ignore[arg-type]

    good = draws([0.3, 0.5], 30_000)
    assert good.verdict.level == "trust", good.verdict
    wide = draws([0.3, 0.5], 30_000, distance="fixed", epsilon=2.0)
    assert wide.facts["stopped"].kind == "tolerance reached"
    assert wide.verdict.level != "trust", wide.verdict
    few = draws([0.3, 0.5], 1_400)
    assert few.verdict.level != "trust", few.verdict
    strange = draws([30.0, -30.0], 10_000)
    assert strange.verdict.level == "do not trust", strange.verdict
