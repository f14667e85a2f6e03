"""Events as they travel: one array of floats, and the user's form again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.errors import SettingsError, SimulatorContractError
from sbi_flows.problem.events import Declaration, Events, packed

DATA = {"counts": sf.Series(), "map": sf.Grid(), "effort": sf.Vector()}
SHAPES = {"counts": (5,), "map": (2, 3), "effort": ()}


def tables() -> Events:
    return Declaration.of(DATA, False).events(SHAPES, "model")


def test_a_mapping_travels_as_its_arrays_one_behind_the_other() -> None:
    events = tables()
    y = {name: np.random.default_rng(0).random((4, *shape)) for name, shape in SHAPES.items()}
    flat = packed(y)
    assert events.shape == (12,)
    assert flat.shape == (4, 12)
    rows, one = events.unpack(flat), events.unpack(flat[1])
    assert isinstance(rows, dict)
    assert isinstance(one, dict)
    for name, values in y.items():
        np.testing.assert_array_equal(rows[name], values)
        np.testing.assert_array_equal(one[name], values[1])
    stacked = events.unpack(np.stack([flat, flat]))
    assert isinstance(stacked, dict)
    assert stacked["map"].shape == (2, 4, 2, 3)


def test_the_order_is_that_of_the_declaration_whatever_order_is_returned() -> None:
    one = Declaration.of(DATA, False).events(dict(reversed(SHAPES.items())), "model")
    assert one == tables()
    assert list(one.slices.items()) == [
        ("counts", slice(0, 5)),
        ("map", slice(5, 11)),
        ("effort", slice(11, 12)),
    ]


def test_events_come_back_from_their_record() -> None:
    for events in (
        tables(),
        Events.plain((3, 2), missing=True),
        Declaration.of(sf.Set(of=sf.Series()), True).events({"": (4, 9)}, "model"),
    ):
        assert Events.from_json(events.to_json()) == events


def test_an_array_of_which_nothing_is_declared_is_plain() -> None:
    assert Events.plain((3,)).is_plain
    assert not Events.plain((3,), missing=True).is_plain
    assert not Declaration.of(sf.Vector(), False).events({"": (3,)}, "model").is_plain
    assert Events.plain((3,)).with_missing() == Events.plain((3,), missing=True)
    y = np.ones((2, 3))
    assert Events.plain((3,)).unpack(y) is y


def test_arrays_are_the_same_by_name_order_and_shape() -> None:
    other = Declaration.of(None, True).events(SHAPES, "model")
    assert other.same_arrays(tables())
    assert not other.same_arrays(Events.plain((12,)))
    assert not Declaration.of(None, False).events({**SHAPES, "map": (3, 2)}, "model").same_arrays(tables())


@pytest.mark.parametrize(
    ("data", "missing", "words"),
    [
        ("series", False, "data must be"),
        ({}, False, "data must map names"),
        ({"": sf.Series()}, False, "data must map names"),
        ({1: sf.Series()}, False, "data must map names"),
        ({"a": "series"}, False, r"data\['a'\] must be"),
        (None, 1, "missing must be True or False, got 1"),
    ],
)
def test_declarations_are_checked(data: Any, missing: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Declaration.of(data, missing)


@pytest.mark.parametrize(
    ("data", "shapes", "words"),
    [
        (
            DATA,
            {"counts": (5,)},
            "model: y is a mapping of 'counts'; data= declares a mapping of 'counts', 'map'",
        ),
        (DATA, {"": (5,)}, "y is one array; data= declares a mapping"),
        (sf.Series(), {"y": (5,)}, "y is a mapping of 'y'; data= declares one array"),
        (DATA, {**SHAPES, "counts": (5, 2, 2)}, r"'counts' is declared as Series.*has shape \(5, 2, 2\)"),
        (sf.Series(channels=("a", "b")), {"": (5, 3)}, "2 names .* for 3"),
    ],
)
def test_what_is_made_must_be_what_is_declared(
    data: Any, shapes: dict[str, tuple[int, ...]], words: str
) -> None:
    with pytest.raises(SimulatorContractError, match=words):
        Declaration.of(data, False).events(shapes, "model")


def test_words_for_what_one_event_is() -> None:
    assert tables().describe() == "counts (5,), series; map (2, 3), grid; effort (), vector"
    assert Events.plain((3,)).describe() == "shape (3,)"
