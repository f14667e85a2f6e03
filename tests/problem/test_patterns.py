"""Patterns of what is observed: what they hide, that they are redrawn, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, chisquare, kstest

import sbi_flows as sf
from sbi_flows.errors import ObservationError, SettingsError, ShapeError, SimulatorContractError
from sbi_flows.problem.events import Declaration, Events
from sbi_flows.problem.patterns import Observe, as_observe, like, observe_from_json

SERIES = Declaration.of(sf.Series(), True).events({"": (8,)}, "model")
TWO = Declaration.of(sf.Series(), True).events({"": (8, 3)}, "model")
SET = Declaration.of(sf.Set(of=sf.Series()), True).events({"": (4, 8)}, "model")
TABLES = Declaration.of({"counts": sf.Series(), "effort": sf.Vector(), "sites": sf.Series()}, True).events(
    {"counts": (8,), "effort": (3,), "sites": (6, 2)}, "model"
)
FALSE_ALARM = 1e-4


def seen(given: Any, events: Events, n: int = 4000, seed: int = 0) -> np.ndarray:
    observe = as_observe(given, events)
    assert observe is not None
    y = np.arange(n * int(np.prod(events.shape)), dtype=np.float64).reshape(n, *events.shape)
    kept = y.copy()
    found = observe(y, np.random.default_rng(seed))
    np.testing.assert_array_equal(y, kept)
    there = ~np.isnan(found)
    np.testing.assert_array_equal(found[there], y[there])
    return there


def test_gaps_hide_each_value_with_the_share_of_its_data_set() -> None:
    there = seen(sf.gaps(0.3), TWO)
    missing = int((~there).sum())
    low, high = binom.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], there.size, 0.3)
    assert low <= missing <= high
    shares = 1 - seen(sf.gaps((0.2, 0.6)), Declaration.of(None, True).events({"": (5000,)}, "m"), 300).mean(
        axis=1
    )
    assert kstest(shares, "uniform", (0.2, 0.4)).pvalue > FALSE_ALARM
    assert seen(sf.gaps(0.0), TWO).all()


def test_gaps_by_step_hide_all_channels_or_all_of_a_member() -> None:
    there = seen(sf.gaps((0.1, 0.5), by="step"), TWO)
    assert (there == there[..., :1]).all()
    assert 0.6 < there.mean() < 0.8
    members = seen(sf.gaps(0.5, by="step"), SET)
    assert (members == members[..., :1]).all()


def test_lengths_are_uniform_by_half_and_so_in_their_logarithm_and_the_first_are_observed() -> None:
    there = seen(sf.lengths(3, 6), TWO)
    length = there[..., 0].sum(axis=1)
    assert (there == (np.arange(8) < length[:, None])[..., None]).all()
    counts = np.bincount(length, minlength=9)
    assert counts[3:7].sum() == len(there)
    by_log = np.diff(np.log(np.arange(3, 8))) / np.log(7 / 3)
    assert chisquare(counts[3:7], len(there) * (by_log + 0.25) / 2).pvalue > FALSE_ALARM
    members = seen(sf.lengths(1, 4), SET)
    assert set(members[..., 0].sum(axis=1)) == {1, 2, 3, 4}
    assert (members == members[..., :1]).all()


def test_a_table_of_a_mapping_is_meant_alone_and_all_have_one_length() -> None:
    slices = TABLES.slices
    there = seen(sf.gaps(0.5, table="effort"), TABLES)
    assert there[:, slices["counts"]].all()
    assert there[:, slices["sites"]].all()
    assert not there[:, slices["effort"]].all()
    ends = seen([sf.lengths(2, 5, table="counts"), sf.lengths(1, 6, table="sites")], TABLES)
    assert ends[:, slices["effort"]].all()
    assert set(ends[:, slices["counts"]].sum(axis=1)) == {2, 3, 4, 5}
    series = Declaration.of({"a": sf.Series(), "b": sf.Series()}, True).events({"a": (8,), "b": (6, 2)}, "m")
    both = seen(sf.lengths(2, 6), series)
    assert (both[:, :8].sum(axis=1) == both[:, 8:].sum(axis=1) // 2).all()


def test_patterns_one_after_the_other_and_a_function() -> None:
    def first(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        y[rng.random(len(y)) < 0.5, 0] = np.nan
        return y

    there = seen([sf.lengths(3, 6), sf.gaps(0.2), first], SERIES)
    assert not there[:, 6:].any()
    assert 0.3 < there[:, 0].mean() < 0.5
    assert 0.7 < there[:, 1].mean() < 0.9


def test_a_function_of_a_mapping_gets_one_and_gives_one_back() -> None:
    def no_effort(y: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {name: np.where(name == "effort", np.nan, part) for name, part in reversed(y.items())}

    there = seen(no_effort, TABLES)
    assert not there[:, TABLES.slices["effort"]].any()
    assert there.sum() == len(there) * 20


def test_patterns_of_observations_are_each_as_likely() -> None:
    y = [np.array([1.0, np.nan, 3.0]), np.array([1.0, 2.0]), np.array([5.0, 6.0])]
    pattern = like(y, SERIES)
    assert pattern.there.shape == (2, 8)
    there = seen(pattern, SERIES)
    short = there[:, 1]
    assert (there[short] == (np.arange(8) < 2)).all()
    assert (there[~short] == np.isin(np.arange(8), [0, 2])).all()
    low, high = binom.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], len(there), 0.5)
    assert low <= short.sum() <= high


def test_it_is_redrawn_at_each_call_and_the_same_for_the_same_stream() -> None:
    assert (seen(sf.gaps(0.5), TWO, seed=1) == seen(sf.gaps(0.5), TWO, seed=1)).all()
    assert not (seen(sf.gaps(0.5), TWO, seed=1) == seen(sf.gaps(0.5), TWO, seed=2)).all()


def hide_the_first(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    y[:, 0] = np.nan
    return y


def test_patterns_come_back_from_their_record() -> None:
    given = [sf.gaps((0.1, 0.4), by="step"), sf.lengths(2, 7), like(np.arange(5.0), SERIES), hide_the_first]
    observe = as_observe(given, SERIES)
    assert observe is not None
    assert observe.own
    again = observe_from_json(observe.to_json(), SERIES, hide_the_first)
    assert again.to_json() == observe.to_json()
    assert (seen(again, SERIES) == seen(observe, SERIES)).all()


def test_without_its_function_a_record_keeps_the_name_and_says_what_to_pass() -> None:
    observe = as_observe(hide_the_first, SERIES)
    assert observe is not None
    absent = observe_from_json(observe.to_json(), SERIES, None)
    assert absent.to_json() == observe.to_json()
    with pytest.raises(SettingsError, match=r"sf.load\(path, observe=hide_the_first\)"):
        seen(absent, SERIES)


def test_nothing_asked_for_is_nothing() -> None:
    assert as_observe(None, SERIES) is None
    assert as_observe([], SERIES) is None
    ready = as_observe(sf.gaps(0.1), SERIES)
    assert isinstance(ready, Observe)
    assert as_observe(ready, SERIES) is ready


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sf.gaps(share=1.5), "share must be a number from 0 to below 1.*got 1.5"),
        (lambda: sf.gaps(1), "below 1"),
        (lambda: sf.gaps(-0.1), "got -0.1"),
        (lambda: sf.gaps((0.3, 0.1)), r"in order, got \(0.3, 0.1\)"),
        (lambda: sf.gaps(float("nan")), "got nan"),
        (lambda: sf.gaps("half"), "got 'half'"),  # type: ignore[arg-type]
        (lambda: sf.gaps(0.1, by="row"), "by must be 'value' or 'step', got 'row'"),
        (lambda: sf.lengths(5, 3), "most must be an integer of at least 5, got 3"),
        (lambda: sf.lengths(0, 3), "least must be a positive integer, got 0"),
        (lambda: sf.lengths(1.5, 3), "got 1.5"),  # type: ignore[arg-type]
        (lambda: as_observe("gaps", SERIES), r"observe must be sf.gaps\(...\)"),
        (lambda: as_observe([sf.gaps(0.1), 3], SERIES), r"observe must be sf.gaps\(...\).*got 3"),
        (lambda: as_observe(sf.gaps(0.1, table="map"), SERIES), "table='map'.*y is one array"),
        (lambda: as_observe(sf.gaps(0.1, table="map"), TABLES), "there are 'counts', 'effort', 'sites'"),
        (lambda: as_observe(sf.lengths(2, 9), SERIES), r"makes 8 steps. Let it make the longest, 9"),
        (lambda: as_observe(sf.lengths(2, 3), TABLES), "'effort' is Vector"),
        (lambda: as_observe(like(np.zeros(8), SERIES), SET), "patterns of shape"),
        *(
            (lambda kind=kind, shape=shape: as_observe(
                sf.lengths(2, 3), Declaration.of(kind, True).events({"": shape}, "model")
            ), r"lengths are of series and of sets.*data=sf.Series\(\)")
            for kind, shape in [(sf.Vector(), (8,)), (sf.Grid(), (8, 8)), (None, ())]
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        make()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda y, rng: y[:, :5], r"float64 of shape \(9, 5\) for events of shape \(9, 8\)"),
        (lambda y, rng: None, r"observe\(y, rng\) -> y"),
        (lambda y, rng: y.astype(str), "returned <U"),
        (lambda y, rng: np.where(y == 3, np.inf, y), "infinite values"),
        (lambda y: y, "raised TypeError"),
        (lambda y, rng: 1 / 0, "raised ZeroDivisionError"),
        (lambda y, rng: {"y": y}, r"observe\(y, rng\) -> y"),
    ],
)
def test_functions_that_do_not_give_events_are_refused(function: Callable[..., Any], words: str) -> None:
    with pytest.raises(SimulatorContractError, match=words):
        seen(function, SERIES, 9)


def test_observations_without_a_pattern_are_refused() -> None:
    with pytest.raises(ObservationError, match="no observed value"):
        like(np.full(8, np.nan), SERIES)
    with pytest.raises(ShapeError, match=r"\(9,\)"):
        like(np.zeros(9), SERIES)
