"""Simulations of all models: what is made, what failed, and how they are split."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import uniform

import sbi_flows as sf
from sbi_flows.comparison.models.pool import Pool, simulations_of
from sbi_flows.comparison.models.request import Models, checked_models
from sbi_flows.errors import SimulationWarning, TooFewSimulationsError
from sbi_flows.notes import Notes

from .gaussians import MODELS, POINTS, constant, line

Y = np.zeros(POINTS)


@sf.simulator(sf.Prior(share=uniform(0, 1)), event_shape=(POINTS,))
def failing(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Fails where share is below 0.2."""
    y = rng.standard_normal((len(theta["share"]), POINTS))
    y[theta["share"] < 0.2] = np.nan
    return y


def models(**named: sf.Simulator) -> Models:
    return checked_models(named or MODELS, Y, None, None, None)


def test_simulations_depend_on_the_name_and_the_seed_alone() -> None:
    one = simulations_of(models(a=constant, b=line), 200, 0, 3, Notes(), None)
    other = simulations_of(models(b=line, c=line, a=constant), 200, 0, 3, Notes(), None, workers=1)
    np.testing.assert_array_equal(one["a"].y, other["a"].y)
    np.testing.assert_array_equal(one["b"].y, other["b"].y)
    assert not np.array_equal(other["b"].y, other["c"].y)


def test_failures_are_counted_by_model_with_what_they_would_cost() -> None:
    notes = Notes()
    with pytest.warns(SimulationWarning, match="failed"):
        banks = simulations_of(models(a=constant, b=failing), 1000, 0, 3, notes, None)
    (note,) = (note for note in notes if note.kind == "model failed")
    failed = 1000 - int(banks["b"].ok.sum())
    assert note.values["model"] == "b"
    assert note.values["failed"] == failed
    assert note.values["lower"] == pytest.approx(-np.log(1 - failed / 1000))
    pool = Pool.of(banks, models(a=constant, b=failing), 3)
    assert pool.counts.tolist() == [1000, 1000 - failed]
    assert np.isfinite(pool.y).all()


def test_a_fifth_of_each_model_is_held_out_and_no_row_is_lost() -> None:
    pool = Pool.of(simulations_of(models(), 500, 0, 1, Notes(), None), models(), 1)
    assert np.bincount(pool.labels[pool.held_out]).tolist() == [100, 100]
    rows = np.concatenate([pool.training, pool.held_out])
    np.testing.assert_array_equal(np.sort(rows), np.arange(1000))
    assert len(pool.of_model(1, pool.training, 30)) == 30


def test_too_few_usable_simulations_are_refused_by_name() -> None:
    banks = simulations_of(models(), 100, 0, 1, Notes(), None)
    few = sf.simulate(line, 20, seed=1)
    with pytest.raises(TooFewSimulationsError, match="'line'"):
        Pool.of({**banks, "line": few}, models(), 1)


def test_by_the_clock_rows_are_those_of_a_run_without_one() -> None:
    banks = simulations_of(models(), None, 0.2, 5, Notes(), None)
    again = simulations_of(models(), len(banks["line"]), 0, 5, Notes(), None)
    np.testing.assert_array_equal(banks["line"].y, again["line"].y)
