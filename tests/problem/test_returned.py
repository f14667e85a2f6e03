"""What simulators return: masked arrays, arrays that end early, mappings, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.errors import SimulatorContractError, TooManyFailuresError, UnknownParameterError
from sbi_flows.problem.returned import NamedValues, alone, as_floats

PRIOR = sf.Prior(a=uniform(0, 1), b=norm(0, 1))
MASK = np.array([[False, True, False], [False, False, True]])
VALUES = np.arange(6.0).reshape(2, 3)
HIDDEN = np.where(MASK, np.nan, VALUES)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int16])
def test_masked_entries_are_nan_and_not_their_fill_values(dtype: type) -> None:
    y = np.ma.masked_array(VALUES.astype(dtype), mask=MASK, fill_value=7)
    np.testing.assert_array_equal(as_floats(y, 2, "who", None), HIDDEN)


@pytest.mark.parametrize("vectorized", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_a_simulator_may_return_masked_arrays(vectorized: bool, named: bool) -> None:
    def make(masked: bool) -> sf.Simulations:
        def model(theta: Any, rng: np.random.Generator) -> Any:
            shape = (len(theta["a"]), 5) if vectorized else (5,)
            y, hidden = rng.standard_normal(shape), rng.random(shape) < 0.3
            y = np.ma.masked_array(y, mask=hidden) if masked else np.where(hidden, np.nan, y)
            return {"y": y} if named else y

        simulator = sf.Simulator(model, PRIOR, vectorized=vectorized, missing=True)
        return sf.simulate(simulator, 40, seed=1, settings=sf.SimulateSettings(block_size=20))

    found, wanted = make(True), make(False)
    np.testing.assert_array_equal(found.flat_y, wanted.flat_y)
    assert np.isnan(found.flat_y).any()
    assert found.ok.all()


def test_masked_arrays_that_are_not_declared_fail_and_the_message_says_how_to_declare_them() -> None:
    @sf.simulator(PRIOR)
    def model(theta: Any, rng: np.random.Generator) -> Any:
        y = rng.standard_normal((len(theta["a"]), 5))
        return np.ma.masked_array(y, mask=rng.random(y.shape) < 0.4)

    with pytest.raises(TooManyFailuresError, match='"not observed", declare that: missing=True'):
        sf.simulate(model, 300, seed=1)


def test_rows_without_a_value_or_with_infinite_ones_have_failed_also_where_values_may_be_missing() -> None:
    @sf.simulator(PRIOR, missing=True)
    def model(theta: Any, rng: np.random.Generator) -> np.ndarray:
        y = rng.standard_normal((len(theta["a"]), 3))
        y[theta["a"] < 0.1] = np.nan
        y[theta["a"] > 0.9, 0] = np.inf
        y[:, 1] = np.nan
        return y

    with pytest.warns(sf.errors.SimulationWarning):
        made = sf.simulate(model, 200, seed=1)
    a = made.theta[:, 0]
    np.testing.assert_array_equal(made.ok, (a >= 0.1) & (a <= 0.9))


def test_events_that_end_early_are_filled_up_where_the_longest_is_declared() -> None:
    @sf.simulator(PRIOR, vectorized=False, missing=True, event_shape=(6,), data=sf.Series())
    def model(theta: Any, rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal(int(rng.integers(2, 7)))

    made = sf.simulate(model, 40, seed=1)
    length = (~np.isnan(made.y)).sum(axis=1)
    assert set(length) == {2, 3, 4, 5, 6}
    assert (~np.isnan(made.y) == (np.arange(6) < length[:, None])).all()


@pytest.mark.parametrize(
    ("y", "event", "words"),
    [
        (np.zeros((2, 4)), (3,), r"events of shape \(4,\); declared, or returned before, was \(3,\)"),
        (np.zeros((3, 3)), (3,), r"shape \(3, 3\) for 2 rows.*wanted \(2, 3\).*vectorized=False"),
        (np.zeros((2, 0)), None, "holds no numbers"),
        (np.array([["a"], ["b"]]), None, "dtype <U1"),
        ([[None, 1.0], [1.0, 2.0]], None, "dtype object"),
        (np.zeros(2, dtype=complex), None, "dtype complex128"),
        (5.0, None, r"shape \(\) for 2 rows"),
    ],
)
def test_what_is_not_n_events_is_refused(y: Any, event: Any, words: str) -> None:
    with pytest.raises(SimulatorContractError, match=words):
        as_floats(y, 2, "model: returned ", event)


def test_events_longer_than_declared_are_not_cut() -> None:
    with pytest.raises(SimulatorContractError, match=r"\(4,\)"):
        as_floats(np.zeros((1, 4)), 1, "model: returned ", (3,), may_end=True)
    np.testing.assert_array_equal(
        as_floats(np.ones((1, 2)), 1, "model: returned ", (3,), may_end=True), [[1, 1, np.nan]]
    )


def test_single_precision_stays_and_all_else_is_double() -> None:
    kinds = [np.float16, np.float32, np.float64, np.int32, np.bool_]
    found = [as_floats(np.zeros((2, 3), dtype=kind), 2, "", None).dtype for kind in kinds]
    assert found == [np.float32, np.float32, np.float64, np.float64, np.float64]


def test_one_draw_gets_an_axis_in_front_also_in_a_mapping() -> None:
    found = alone({"a": 1.0, "b": [1, 2], "c": np.ma.masked_array([1.0, 2.0], mask=[0, 1])})
    assert {name: part.shape for name, part in found.items()} == {"a": (1,), "b": (1, 2), "c": (1, 2)}
    assert found["c"].mask.tolist() == [[False, True]]


def test_a_name_that_does_not_exist_is_answered_with_those_that_do() -> None:
    with pytest.raises(UnknownParameterError, match="no parameter 'A'; there are a, b"):
        NamedValues({"a": 1, "b": 2})["A"]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda theta, rng: {"one": np.zeros(3)}, "returned 'one' with shape"),
        (lambda theta, rng: {"one": np.zeros((len(theta["a"]), 2)), "two": "x"}, "returned 'two' with"),
        (
            lambda theta, rng: {("x" if len(theta["a"]) == 1 else "z"): theta["a"]},
            r"returned z \(\); before, x \(\)",
        ),
    ],
)
def test_mappings_that_do_not_hold_n_events_of_one_kind_are_refused(
    function: Callable[..., Any], words: str
) -> None:
    with pytest.raises(SimulatorContractError, match=words):
        sf.simulate(sf.Simulator(function, PRIOR), 50)


def test_data_frames_are_taken() -> None:
    @sf.simulator(PRIOR)
    def model(theta: Any, rng: np.random.Generator) -> Any:
        return pd.DataFrame({"u": theta["a"], "v": theta["b"]})

    made = sf.simulate(model, 20, seed=1)
    np.testing.assert_array_equal(made.y, made.theta)


@pytest.mark.parametrize("named", [True, False])
def test_columns_of_data_frames_are_in_the_order_of_the_declared_names(named: bool) -> None:
    def model(theta: Any, rng: np.random.Generator) -> Any:
        frame = pd.DataFrame({"v": theta["b"], "u": theta["a"]})
        return {"y": frame} if named else frame

    kind = sf.Vector(columns=("u", "v"))
    made = sf.simulate(sf.Simulator(model, PRIOR, data={"y": kind} if named else kind), 20, seed=1)
    np.testing.assert_array_equal(made.flat_y, made.theta)

    @sf.simulator(PRIOR, vectorized=False, data=sf.Series(channels=("u", "v")))
    def series(theta: Any, rng: np.random.Generator) -> Any:
        return pd.DataFrame({"v": np.full(3, theta["b"]), "u": np.full(3, theta["a"])})

    made = sf.simulate(series, 5, seed=1)
    np.testing.assert_array_equal(made.y, np.repeat(made.theta[:, None], 3, axis=1))


def test_data_frames_with_other_columns_are_refused() -> None:
    @sf.simulator(PRIOR, data=sf.Vector(columns=("u", "v")))
    def model(theta: Any, rng: np.random.Generator) -> Any:
        return pd.DataFrame({"u": theta["a"], "w": theta["b"]})

    with pytest.raises(SimulatorContractError, match="columns u, w; declared are u, v"):
        sf.simulate(model, 20)
