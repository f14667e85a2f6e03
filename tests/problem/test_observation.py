"""Observations as users pass them: what is understood, and what is refused, with the line to write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import sbi_flows as sf
from sbi_flows.errors import ObservationError, ShapeError
from sbi_flows.problem.events import Declaration, Events
from sbi_flows.problem.observation import as_observation, as_observed

Y = np.random.default_rng(0).standard_normal(6)
GAPPY = np.where(np.arange(6) == 2, np.nan, Y)
TWO = np.random.default_rng(1).standard_normal((6, 2))
FRAME = pd.DataFrame(TWO, columns=["young", "adults"])
SWAPPED = FRAME[["adults", "young"]]


def events(data: Any = None, shape: Any = (6,), *, missing: bool = False) -> Events:
    return Declaration.of(data, missing).events(shape if isinstance(shape, dict) else {"": shape}, "model")


PLAIN, MISSING = events(), events(sf.Series(), missing=True)
CHANNELS = events(sf.Series(channels=("young", "adults")), (6, 2), missing=True)
COLUMNS = events(sf.Vector(columns=("u", "v", "w")), (3,))
SETS = events(sf.Set(of=sf.Series(channels=("young", "adults"))), (4, 6, 2), missing=True)
TABLES = events({"counts": sf.Series(), "effort": sf.Vector()}, {"counts": (6,), "effort": (2,)})


def filled(*values: float, length: int = 6) -> np.ndarray:
    return np.concatenate([values, np.full(length - len(values), np.nan)])


@pytest.mark.parametrize(
    "given",
    [
        GAPPY,
        GAPPY.tolist(),
        [None if np.isnan(v) else v for v in GAPPY],
        np.ma.masked_array(Y, mask=np.arange(6) == 2),
        np.ma.masked_invalid(GAPPY),
        GAPPY[:, None],
        pd.Series(GAPPY),
        pd.DataFrame({"x": GAPPY}),
        pd.DataFrame({"x": pd.array(GAPPY, dtype="Float64")}),
        torch.from_numpy(GAPPY),
    ],
    ids=["array", "list", "None", "masked", "masked nan", "column", "Series", "frame", "Float64", "torch"],
)
def test_missing_values_are_known_in_every_form(given: Any) -> None:
    np.testing.assert_array_equal(as_observation(given, MISSING, stack=True), GAPPY)
    with pytest.raises(ObservationError) as refused:
        as_observation(given, PLAIN, stack=True)
    for words in ("like=y_obs", "sf.gaps(share=(0, 0.3))", "missing=True", "1 NaN", "(2,)"):
        assert words in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [[Y[:2], Y[:4], Y], (Y[:2], Y[:4], Y), [list(Y[:2]), list(Y[:4]), list(Y)],
     [pd.Series(Y[:2]), pd.Series(Y[:4]), pd.Series(Y)],
     [pd.DataFrame({"x": Y[:2]}), pd.DataFrame({"x": Y[:4]}), pd.DataFrame({"x": Y})]],
    ids=["arrays", "tuple", "lists", "Series", "frames"],
)  # fmt: skip
def test_a_list_of_unequal_lengths_is_a_stack_filled_up_with_nan(given: Any) -> None:
    found = as_observation(given, MISSING, stack=True)
    np.testing.assert_array_equal(found, np.stack([filled(*Y[:2]), filled(*Y[:4]), Y]))
    with pytest.raises(ShapeError) as refused:
        as_observation(given, PLAIN, stack=True)
    for words in ("lengths 2, 4, 6", "like=y_obs", "sf.lengths(2, 6)", "sf.replicates(simulator, 1, 3)"):
        assert words in str(refused.value)


def test_shorter_data_end_in_nan_alone_and_as_a_stack_of_equal_lengths() -> None:
    for given in (Y[:4], Y[:4, None], pd.DataFrame({"x": Y[:4]})):
        np.testing.assert_array_equal(as_observation(given, MISSING, stack=True), filled(*Y[:4]))
    for stack in ([Y[:4], Y[:4]], np.stack([Y[:4], Y[:4]])):
        assert as_observation(stack, MISSING, stack=True).shape == (2, 6)
    assert as_observation([Y, Y], PLAIN, stack=True).shape == (2, 6)


@pytest.mark.parametrize("given", [FRAME, SWAPPED, [FRAME], [SWAPPED, FRAME], (FRAME, SWAPPED)])
def test_named_channels_are_matched_also_in_lists(given: Any) -> None:
    found = as_observation(given, CHANNELS, stack=True)
    np.testing.assert_array_equal(found.reshape(-1, 6, 2), np.stack([TWO] * (found.size // 12)))


def test_named_channels_are_matched_in_sets_and_in_shorter_ones() -> None:
    found = as_observation([SWAPPED, FRAME[:3]], SETS, stack=True)
    assert found.shape == (4, 6, 2)
    np.testing.assert_array_equal(found[0], TWO)
    np.testing.assert_array_equal(found[1, :3], TWO[:3])
    assert np.isnan(found[1, 3:]).all()
    assert np.isnan(found[2:]).all()
    assert as_observation([[SWAPPED], [FRAME, FRAME]], SETS, stack=True).shape == (2, 4, 6, 2)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (FRAME.rename(columns={"young": "old"}), "the columns old, adults; declared are young, adults"),
        (FRAME.assign(year=1), "the columns young, adults, year"),
        (FRAME[["young"]], "the columns young; declared"),
        (pd.concat([FRAME, FRAME[["young"]]], axis=1), "the columns young, adults, young"),
    ],
)
def test_other_columns_are_refused(frame: Any, words: str) -> None:
    for given in (frame, [frame, frame]):
        with pytest.raises(ShapeError, match=words):
            as_observation(given, CHANNELS, stack=True)


def test_a_row_of_a_data_frame_is_a_vector_and_several_are_a_stack() -> None:
    frame = pd.DataFrame({"w": [3.0, 30.0], "u": [1.0, 10.0], "v": [2.0, 20.0]})
    rows = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    np.testing.assert_array_equal(as_observation(frame[:1], COLUMNS, stack=True), rows[0])
    np.testing.assert_array_equal(as_observation(frame, COLUMNS, stack=True), rows)
    np.testing.assert_array_equal(as_observation(frame.iloc[0], COLUMNS, stack=True), rows[0])
    np.testing.assert_array_equal(as_observation([frame[:1], frame[1:]], COLUMNS, stack=True), rows)
    np.testing.assert_array_equal(as_observation(pd.Series([1.0, 2.0, 3.0]), COLUMNS), rows[0])
    with pytest.raises(ShapeError, match="the columns u, v, x"):
        as_observation(pd.Series([1.0, 2.0, 3.0], index=["u", "v", "x"]), COLUMNS)


@pytest.mark.parametrize(
    ("given", "events_", "error", "words"),
    [
        (Y[:4], PLAIN, ShapeError, r"shape \(4,\).*like=y_obs.*sf.lengths\(4, 6\)"),
        (np.arange(9.0), MISSING, ShapeError, r"make 9 steps.*observe=sf.lengths\(6, 9\)"),
        (np.zeros((5, 6, 2)), SETS, ShapeError, r"make 5 members.*sf.lengths\(4, 5\)"),
        (np.zeros((32, 32)), PLAIN, ShapeError, r"shape \(32, 32\).*events of shape \(6,\)"),
        (np.zeros((0, 6)), PLAIN, ShapeError, r"shape \(0, 6\)"),
        ([], PLAIN, ShapeError, r"shape \(0,\)"),
        ({"y": Y}, PLAIN, ShapeError, "got a mapping of 'y'. Pass the array"),
        ("abc", PLAIN, ObservationError, "must be numbers"),
        (np.full(6, np.nan), MISSING, ObservationError, "no observed value.*simulator.prior"),
        (np.stack([Y, np.full(6, np.nan)]), MISSING, ObservationError, "no observed value"),
        (np.where(np.arange(6) == 1, np.inf, Y), MISSING, ObservationError, r"infinite.*\(1,\)"),
        (np.where(np.arange(6) == 1, -np.inf, Y), PLAIN, ObservationError, "infinite.*Check the data"),
        (np.zeros(8), TABLES, ShapeError, r"a mapping of 'counts', 'effort'.*got ndarray.*'counts': \.\."),
        ({"counts": Y}, TABLES, ShapeError, r"missing \['effort'\]"),
        ({"counts": Y, "effort": [1, 2], "x": 1}, TABLES, ShapeError, r"unknown \['x'\]"),
        ({"counts": Y, "effort": [1, 2, 3]}, TABLES, ShapeError, r"'effort' has shape \(3,\)"),
        ({"counts": Y, "effort": {"a": 1}}, TABLES, ShapeError, "'effort' must be an array.*mapping of 'a'"),
        ({"counts": Y[:3], "effort": [1, 2]}, TABLES, ShapeError, r"'counts' has shape \(3,\).*like=y_obs"),
        ({"counts": [Y, Y], "effort": [1, 2]}, TABLES, ShapeError, "'counts': 2, 'effort': None"),
        ({"counts": Y, "effort": [np.nan, 2]}, TABLES, ObservationError, "1 NaN.*like=y_obs"),
    ],
)  # fmt: skip
def test_refusals(given: Any, events_: Events, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        as_observation(given, events_, stack=True)


def test_mappings_alone_as_a_stack_and_as_a_list() -> None:
    one = {"effort": [1.0, 2.0], "counts": Y}
    flat = np.concatenate([Y, [1.0, 2.0]])
    np.testing.assert_array_equal(as_observation(one, TABLES, stack=True), flat)
    np.testing.assert_array_equal(as_observation([one, one], TABLES, stack=True), np.stack([flat, flat]))
    stack = {"effort": np.ones((3, 2)), "counts": np.stack([Y] * 3)}
    assert as_observation(stack, TABLES, stack=True).shape == (3, 8)


def test_a_mapping_may_have_a_series_that_ends_early_or_an_array_that_is_missing() -> None:
    tables = TABLES.with_missing()
    found = as_observation({"counts": Y[:2], "effort": [np.nan, np.nan]}, tables)
    np.testing.assert_array_equal(found, filled(*Y[:2], length=8))


def test_simulations_are_compared_where_the_observation_has_values() -> None:
    y = np.ones((3, 6))
    assert as_observed(y, Y) is y
    np.testing.assert_array_equal(np.isnan(as_observed(y, GAPPY)), np.isnan([GAPPY] * 3))
