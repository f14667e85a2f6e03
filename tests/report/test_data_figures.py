"""Observed data as what they are: gaps stay blank, sets are in order of size, maps stand side by side."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from sbi_flows.arrays import F
from sbi_flows.report import data_figures as figures
from sbi_flows.report.data_figures import data_figures, observed_figure
from sbi_flows.report.figures import quantiles
from sbi_flows.report.map_figures import _coarse
from sbi_flows.report.observed import DataArray, caption_of, mean_seen
from sbi_flows.report.svg import colours_of

METHODS = ("neural posterior", "exact")
COLOURS = colours_of(METHODS, reference="exact")


def normal(*shape: int, seed: int = 0) -> F:
    return np.random.default_rng(seed).standard_normal(shape)


def with_gaps(y: F, share: float = 0.3, seed: int = 1) -> F:
    return np.where(np.random.default_rng(seed).random(y.shape) < share, np.nan, y)


def array(kind: str, shape: tuple[int, ...], places: int, *, gaps: bool = True, **more: Any) -> DataArray:
    y, rows = normal(*shape), {name: normal(40, *shape, seed=i) for i, name in enumerate(METHODS)}
    if gaps:
        y, rows = with_gaps(y), {name: with_gaps(values, 0.1) for name, values in rows.items()}
    return DataArray(y, rows, kind=kind, places=places, missing=gaps, **more)


def nothing_predicted(one: DataArray) -> DataArray:
    rows = {name: np.empty((0, *one.observed.shape)) for name in METHODS}
    return DataArray(one.observed, rows, one.name, one.kind, one.places, one.channels, one.missing)


def one_member() -> DataArray:
    y = np.full((6, 2), np.nan)
    y[2] = 0.5, 0.1
    rows = {name: np.where(np.isnan(y), np.nan, normal(40, 6, 2)) for name in METHODS}
    return DataArray(y, rows, kind="set of vector", channels=("length", "weight"), missing=True)


def blank_channel() -> DataArray:
    one = array("series", (20, 2), 1)
    one.observed[:, 1] = np.nan
    return one


ARRAYS: dict[str, Callable[[], DataArray]] = {
    "series with names": lambda: array("series", (20, 2), 1, channels=("young", "adults")),
    "a channel without data": blank_channel,
    "undeclared with gaps": lambda: array("by size", (20,), 1),
    "undeclared short with gaps": lambda: array("by size", (4,), 1),
    "vector with names": lambda: array("vector", (3,), 0, channels=("mean", "sd", "largest")),
    "long vector": lambda: array("vector", (30,), 0),
    "set": lambda: array("set of vector", (12, 2), 1, name="birds"),
    "one member": one_member,
    "set of series": lambda: array("set of series", (5, 20), 2),
    "set of series of two channels": lambda: array("set of series", (5, 20, 2), 2, gaps=False),
    "set of maps": lambda: array("set of grid", (4, 6, 5), 3),
    "set of lines": lambda: array("set of grid", (4, 20), 2),
    "map": lambda: array("grid", (9, 7), 2),
    "map of two channels": lambda: array("grid", (9, 7, 2), 2, channels=("wet", "dry"), name="map"),
    "line": lambda: array("grid", (20,), 1),
    "block": lambda: array("grid", (5, 4, 3), 3),
}


@cache
def svg_of(name: str) -> str:
    return data_figures([ARRAYS[name]()], COLOURS)


def texts(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter() if text.tag.endswith("text")]


@pytest.mark.parametrize("name", ARRAYS)
def test_every_kind_is_one_labelled_svg_element_without_pixels(name: str) -> None:
    svg = svg_of(name)
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label")
    assert not re.search(r"<(style|script|metadata|image)\b", svg)
    assert "nan" not in re.sub(r"nanum", "", svg.lower())
    assert data_figures([ARRAYS[name]()], COLOURS) == svg


@pytest.mark.parametrize("name", ARRAYS)
def test_every_kind_is_drawn_where_nothing_was_predicted(name: str) -> None:
    assert data_figures([nothing_predicted(ARRAYS[name]())], COLOURS).startswith("<svg")


def test_several_arrays_are_a_figure_each_with_its_name() -> None:
    svgs = data_figures([ARRAYS["set"](), ARRAYS["map of two channels"]()], COLOURS)
    assert svgs.count("<svg") == 2
    assert "birds" in texts(svg_of("set"))
    assert {"map", "wet", "dry", "observed"} <= set(texts(svg_of("map of two channels")))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("series with names", {"young", "adults", "time step"}),
        ("undeclared with gaps", {"time step"}),
        ("vector with names", {"mean", "sd", "largest"}),
        ("set", {"channel 1", "channel 2", "member, in order of size"}),
        ("one member", {"length", "weight"}),
        ("line", {"place"}),
        ("block", {"mean over the third axis"}),
        ("set of maps", {"mean over the members"}),
        ("a channel without data", {"nothing observed"}),
    ],
)
def test_axes_and_panels_say_what_they_show(name: str, words: set[str]) -> None:
    assert words <= set(texts(svg_of(name)))


def test_complete_data_of_nothing_known_are_drawn_as_ever() -> None:
    y, rows = normal(20), {name: normal(40, 20, seed=2) for name in METHODS}
    allowed = DataArray(y, rows, missing=True)
    assert data_figures([allowed], COLOURS) == observed_figure(y, rows, COLOURS)
    assert caption_of([allowed]) == ""


def test_shares_count_what_was_observed() -> None:
    y = np.array([0.0, 9.0, np.nan, np.nan] + [0.0] * 16)
    rows = {"exact": np.linspace(-1, 1, 100)[:, None] * np.ones(20)}
    assert f"{17 / 18:.0%} in 90% band" in texts(data_figures([DataArray(y, rows)], COLOURS))
    grid = DataArray(y.reshape(4, 5), {"exact": rows["exact"].reshape(-1, 4, 5)}, kind="grid", places=2)
    assert f"{17 / 18:.0%} in 90% interval" in texts(data_figures([grid], COLOURS))


def test_failed_rows_are_left_out_and_gaps_are_not() -> None:
    rows = normal(5, 4)
    rows[0, 1], rows[1, 2], rows[2] = np.nan, np.inf, np.nan
    strict, lenient = (DataArray(np.zeros(4), {"exact": rows}, missing=m).usable for m in (False, True))
    np.testing.assert_array_equal(strict.predicted["exact"], rows[3:])
    np.testing.assert_array_equal(lenient.predicted["exact"], rows[[0, 3, 4]])


def test_members_with_gaps_are_ordered_as_quantiles() -> None:
    values = normal(3, 6)
    np.testing.assert_array_equal(figures._ordered(values, 6), np.sort(values, axis=1))
    values[0, :3] = np.nan
    values[1] = np.nan
    found = figures._ordered(values, 6)
    np.testing.assert_allclose(found[2], np.sort(values[2]))
    assert np.isnan(found[1]).all()
    left = np.sort(values[0, 3:])
    np.testing.assert_allclose(found[0, [0, 5]], left[[0, 2]])
    assert (np.diff(found[0]) >= 0).all()


def test_quantiles_and_means_are_over_what_is_there() -> None:
    rows = with_gaps(normal(200, 3, 2))
    rows[:, 1, 1] = np.nan
    found = quantiles(rows)
    assert np.isnan(found[:, 1, 1]).all()
    kept = rows[~np.isnan(rows[:, 0, 0]), 0, 0]
    np.testing.assert_allclose(found[:, 0, 0], np.quantile(kept, [0.05, 0.25, 0.5, 0.75, 0.95]))
    means = mean_seen(rows)
    assert means[0, 0] == pytest.approx(kept.mean())
    assert np.isnan(means[1, 1])


def test_large_maps_are_shown_in_blocks_and_stay_small() -> None:
    np.testing.assert_array_equal(_coarse(np.arange(12.0).reshape(3, 4)), np.arange(12.0).reshape(3, 4))
    found = _coarse(np.arange(130.0)[:, None] * np.ones((1, 200)))
    assert found.shape == (44, 50)
    assert found[0, 0] == 1.0
    large = array("grid", (200, 200), 2, gaps=False)
    assert len(data_figures([large], COLOURS)) < 2_000_000


def test_captions_say_what_is_unusual() -> None:
    assert "order of size" in caption_of([ARRAYS["set"]()])
    assert "thin lines" in caption_of([ARRAYS["set of series"]()])
    assert "on one scale" in caption_of([ARRAYS["map"]()])
    assert "left blank" in caption_of([ARRAYS["undeclared with gaps"]()])
