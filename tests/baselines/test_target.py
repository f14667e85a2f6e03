"""What ABC aims at: gaps, mappings, and summaries by another name."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.baselines.target import Target
from sbi_flows.errors import ShapeError


@sf.simulator(sf.Prior(a=norm(0, 1)), event_shape=(3,), missing=True)
def gappy(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    y = theta["a"][:, None] + 0.5 * rng.standard_normal((len(theta["a"]), 3))
    y[rng.random(len(y)) < 0.3, 2] = np.nan
    return y


def test_what_is_not_observed_is_left_out_and_the_median_stands_for_what_is_not_simulated() -> None:
    y = sf.simulate(gappy, 1000, seed=1).y
    target = Target.of(gappy, [0.5, np.nan, 0.6], None, "a test").filled_from(y)
    assert target.summaries.tolist() == [0.5, 0.6]
    found = target.summarise(y)
    gaps = np.isnan(y[:, 2])
    assert found[gaps, 1] == pytest.approx(np.nanmedian(y[:, 2]))
    assert (found[~gaps] == y[~gaps][:, [0, 2]]).all()


def test_summaries_of_a_row_do_not_depend_on_the_rows_beside_it() -> None:
    y = sf.simulate(gappy, 1000, seed=1).y
    target = Target.of(gappy, [0.5, 0.1, 0.6], None, "a test").filled_from(y)
    alone = np.concatenate([target.summarise(y[i : i + 7]) for i in range(0, 1000, 7)])
    assert alone.tobytes() == target.summarise(y).tobytes()


def test_data_are_compared_instead_of_declared_summaries_where_that_is_asked() -> None:
    @sf.simulator(sf.Prior(a=norm(0, 1)), event_shape=(4,), summaries=lambda y: y.mean(axis=1, keepdims=True))
    def declared(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return theta["a"][:, None] + rng.standard_normal((len(theta["a"]), 4))

    def shapes(summaries: object) -> tuple[int, ...]:
        return Target.of(declared, [1.0, 2, 3, 4], None, "a test", summaries).summaries.shape

    assert shapes(None) == shapes("declared") == (1,)
    assert shapes("data") == (4,)
    assert shapes(lambda y: y[:, :2]) == (2,)


def test_a_function_of_a_mapping_gets_a_mapping() -> None:
    @sf.simulator(sf.Prior(a=norm(0, 1)), data={"x": sf.Vector(), "n": sf.Vector()})
    def several(theta: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
        rows = len(theta["a"])
        return {"x": theta["a"][:, None] + rng.standard_normal((rows, 2)), "n": rng.poisson(3, (rows, 1))}

    simulations = sf.simulate(several, 3000, seed=1)
    observed = {"x": [0.2, 0.3], "n": [2]}
    draws = sf.rejection_abc(
        several, observed, simulations=simulations, summaries=lambda y: y["x"].mean(axis=1, keepdims=True)
    )
    assert draws.facts["summaries"] == 1
    assert sf.rejection_abc(several, observed, simulations=simulations).facts["summaries"] == 3
    learned = sf.rejection_abc(several, observed, simulations=simulations, summaries="semi-automatic")
    assert learned.facts["summaries"] == 1


def test_a_shorter_observation_is_refused_unless_values_may_be_missing() -> None:
    prior = sf.Prior(a=norm(0, 1))

    def numbers(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return theta["a"][:, None] + rng.standard_normal((len(theta["a"]), 4))

    strict = sf.simulator(prior, event_shape=4)(numbers)
    simulations = sf.simulate(strict, 2000, seed=1)
    with pytest.raises(ShapeError, match="shape"):
        sf.rejection_abc(strict, [0.5, 0.2], simulations=simulations)
    gappy = sf.rejection_abc(strict, [0.5, 0.2, np.nan, 0.1], simulations=simulations, quantile=0.1)
    assert "1 values that were not observed" in gappy.facts["left_out"]
