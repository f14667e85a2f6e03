"""What a user passes: taken as float64 or as Python's own numbers, or refused with the name and the value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest
import torch

from sbi_flows.arrays import integer, is_real, numbers, real, renamed, rows_of, spread
from sbi_flows.errors import ObservationError, SettingsError, ShapeError


@pytest.mark.parametrize("value", [1, 7, np.int64(7), np.uint8(7), 2**100])
def test_an_integer_of_python_or_numpy_becomes_an_int(value: Any) -> None:
    assert integer("n", value) == int(value)
    assert type(integer("n", value)) is int


@pytest.mark.parametrize("value", [0, -1, 1.0, np.float64(2), "2", None, True, np.True_, [1], float("nan")])
def test_anything_else_is_not_a_positive_integer(value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        integer("epochs", value)
    assert str(caught.value).startswith("epochs ")
    assert repr(value) in str(caught.value)


def test_an_integer_has_its_limits() -> None:
    assert [integer("n", value, 0, 3) for value in range(4)] == [0, 1, 2, 3]
    for value in (-1, 4):
        with pytest.raises(SettingsError, match="0 to 3"):
            integer("n", value, 0, 3)
    with pytest.raises(SettingsError, match="2"):
        integer("n", 1, 2)


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int64(3)])
def test_a_real_number_becomes_a_float(value: Any) -> None:
    assert is_real(value)
    assert real("rate", value) == float(value)
    assert type(real("rate", value)) is float


@pytest.mark.parametrize("value", [True, "1", None, 1j, np.zeros(1), torch.ones(())])
def test_what_is_not_one_real_number_is_refused(value: Any) -> None:
    assert not is_real(value)
    with pytest.raises(SettingsError, match="rate"):
        real("rate", value)


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        (-1, {}),
        (float("nan"), {}),
        (float("inf"), {}),
        (0, {"positive": True}),
        (2, {"most": 1.5}),
        (float("inf"), {"most": float("inf")}),
    ],
)
def test_a_real_number_has_its_limits(value: float, limits: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="rate"):
        real("rate", value, **limits)
    assert real("rate", 1.0, **limits) == 1.0


@renamed(steps="layers")
def function(*, layers: int = 1) -> int:
    return layers


@renamed(steps="layers")
class Settings:
    def __init__(self, layers: int = 1) -> None:
        self.layers = layers


@pytest.mark.parametrize("make", [function, Settings])
def test_an_old_keyword_is_refused_with_the_new_one(make: Any) -> None:
    with pytest.raises(SettingsError, match=r"layers=3"):
        make(steps=3)
    assert getattr(make(layers=3), "layers", 3) == 3
    assert function.__name__ == "function"
    assert isinstance(Settings(3), Settings)


@pytest.mark.parametrize(
    "given",
    [
        [[1, 2], [3, 4]],
        np.array([[1, 2], [3, 4]], dtype=np.int8),
        torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True),
        pandas.DataFrame({"a": [1, 3], "b": [2, 4]}),
        np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]]),
    ],
)
def test_numbers_of_any_library_become_float64(given: Any) -> None:
    found = numbers(given, "x", "two rows")
    assert (found.dtype, found.tolist()) == (np.float64, [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    "given", ["x", [1j], np.array(["2020-01-01"], dtype="M8[D]"), [10**400], [[1], [1, 2]], [None, object()]]
)
def test_what_is_not_numbers_is_refused_with_what_was_wanted(given: Any) -> None:
    with pytest.raises(ObservationError, match="x must be numbers, one event"):
        numbers(given, "x", "one event")


@pytest.mark.parametrize(
    "given",
    [
        np.ma.masked_array([1, 2, 3], [True, False, True]),
        [None, 2, None],
        pandas.Series([None, 2, None], dtype="Int64"),
        pandas.Series([None, 2.0, None]),
    ],
)
def test_masked_and_absent_entries_are_not_a_number(given: Any) -> None:
    np.testing.assert_array_equal(numbers(given, "x", "one event"), [np.nan, 2.0, np.nan])


def test_one_event_and_a_stack_become_rows() -> None:
    x = np.arange(12.0).reshape(2, 3, 2)
    np.testing.assert_array_equal(rows_of(x, (3, 2)), x.reshape(2, 6))
    np.testing.assert_array_equal(rows_of(x[0], (3, 2)), x[:1].reshape(1, 6))
    assert rows_of([1.0, 2.0], ()).shape == (2, 1)


def test_rows_of_another_shape_or_with_gaps_are_refused() -> None:
    for given in (np.zeros((2, 4)), np.zeros((0, 3))):
        with pytest.raises(ShapeError) as caught:
            rows_of(given, (3,))
        assert str(given.shape) in str(caught.value)
    with pytest.raises(ObservationError, match="inf in row 1, element 2"):
        rows_of([[1, 2, 3], [4, 5, np.inf]], (3,))


def test_the_spread_of_equal_numbers_is_zero_and_of_huge_ones_infinite() -> None:
    x = np.column_stack([np.full(7, 0.1), np.arange(7.0), 1.7e308 * np.array([-1, 1, -1, 1, -1, 1, 0])])
    assert spread(x).tolist() == [0.0, 2.0, np.inf]
