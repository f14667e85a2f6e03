"""What y is declared to be: which shapes suit, which axes are alike, what is refused in which words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import sbi_flows as sf
from sbi_flows.errors import SettingsError
from sbi_flows.problem.data import Kind, as_kind, kind_from_json

KINDS: list[Kind] = [
    sf.Vector(),
    sf.Vector(columns=("u", "v")),
    sf.Series(),
    sf.Series(channels="young"),
    sf.Grid(),
    sf.Grid(axes=2, channels=("here", "cover")),
    sf.Set(),
    sf.Set(of=sf.Series(channels=("young", "adults"))),
    sf.Set(of=sf.Grid(axes=3)),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_kind_comes_back_from_its_record(kind: Kind) -> None:
    assert kind_from_json(kind.to_json()) == kind
    assert as_kind(kind) is kind


@pytest.mark.parametrize("kind", [sf.Vector, sf.Series, sf.Set, sf.Grid])
def test_the_class_alone_stands_for_one_without_names(kind: type) -> None:
    assert as_kind(kind) == kind()
    if kind is not sf.Set:
        assert sf.Set(of=kind) == sf.Set(of=kind())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "shape", "axes"),
    [
        (sf.Vector(), (3, 4), ()),
        (sf.Series(), (9,), (9,)),
        (sf.Series(), (9, 2), (9,)),
        (sf.Grid(), (9,), (9,)),
        (sf.Grid(), (9, 8), (9, 8)),
        (sf.Grid(), (9, 8, 3), (9, 8)),
        (sf.Grid(), (9, 8, 7), (9, 8, 7)),
        (sf.Grid(), (9, 8, 7, 6), (9, 8, 7)),
        (sf.Grid(axes=1), (9, 8), (9,)),
        (sf.Grid(axes=3), (9, 8, 3), (9, 8, 3)),
        (sf.Grid(channels=("a", "b")), (9, 2), (9,)),
        (sf.Set(), (5,), (5,)),
        (sf.Set(), (5, 3), (5,)),
        (sf.Set(of=sf.Series()), (5, 9, 2), (5, 9)),
        (sf.Set(of=sf.Grid()), (5, 9, 8), (5, 9, 8)),
    ],
    ids=str,
)
def test_the_axes_along_which_places_are_alike(
    kind: Kind, shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    assert kind.unlike(shape) == ""
    assert kind.axes(shape) == axes


@pytest.mark.parametrize(
    ("kind", "shape", "words"),
    [
        (sf.Vector(columns=("u", "v")), (3,), r"2 names \(u, v\) for 3"),
        (sf.Series(), (), r"\(T,\) or \(T, channels\)"),
        (sf.Series(), (3, 4, 5), r"\(T,\) or \(T, channels\)"),
        (sf.Series(channels=("a", "b")), (9,), "2 names .* for 1"),
        (sf.Series(channels=("a", "b")), (9, 3), "2 names .* for 3"),
        (sf.Grid(), (), "one to three axes"),
        (sf.Grid(), (2, 3, 4, 5, 6), "one to three axes"),
        (sf.Grid(axes=2), (9,), "one to three axes"),
        (sf.Grid(axes=2, channels="a"), (9, 8, 2), "1 names .* for 2"),
        (sf.Set(), (), "first axis"),
        (sf.Set(of=sf.Series()), (5,), "at least two axes"),
        (sf.Set(of=sf.Vector(columns=("u", "v"))), (5, 3), "2 names .* for 3"),
    ],
    ids=str,
)
def test_shapes_that_do_not_suit_are_said(kind: Kind, shape: tuple[int, ...], words: str) -> None:
    assert kind.unlike(shape)
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(kind.unlike(shape))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sf.Series(channels=("a", "a")), "channels must be names that differ.*'a', 'a'"),
        (lambda: sf.Series(channels=()), "names that differ"),
        (lambda: sf.Series(channels=3), "names that differ.*got 3"),
        (lambda: sf.Vector(columns=("a", "")), "columns must be names"),
        (lambda: sf.Grid(axes=4), "axes must be 1, 2 or 3.*got 4"),
        (lambda: sf.Grid(axes=True), "axes must be 1, 2 or 3"),
        (lambda: sf.Grid(channels=("a", 1)), "names that differ"),
        (lambda: sf.Set(of=sf.Set()), r"sf.Set\(of=sf.Series\(\)\)"),
        (lambda: sf.Set(of="series"), "got 'series'"),
        (lambda: as_kind("series"), r"data must be sf.Vector\(\).*got 'series'"),
        (lambda: as_kind(dict, "data['a']"), r"data\['a'\] must be"),
    ],
)
def test_declarations_that_mean_nothing_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        make()


def test_which_axes_an_observation_may_cut_short() -> None:
    kinds = sf.Vector(), sf.Grid(), sf.Series(), sf.Set(), sf.Set(of=sf.Series())
    assert [kind.may_be_shorter for kind in kinds] == [0, 0, 1, 1, 2]
