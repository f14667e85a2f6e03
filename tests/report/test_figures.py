"""Figures: well-formed, apart from one another, the same every time; and the smoothing behind them does not
lie at a bound.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import cache

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from sbi_flows.report import figures
from sbi_flows.report.figures import colour_of, history_figure, intervals_figure, observed_figure, pair_figure

F = NDArray[np.float64]
METHODS = ("neural posterior", "rejection ABC", "exact")


def draws(d: int, n: int = 300) -> dict[str, F]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((n, d)) * (1 + i) for i, name in enumerate(METHODS)}


def predictive(*event: int, n: int = 50) -> dict[str, F]:
    rng = np.random.default_rng(1)
    return {name: rng.poisson(5.0, (n, *event)).astype(np.float64) for name in METHODS}


def pairs(values: dict[str, F], truth: bool = False) -> str:
    d = next(iter(values.values())).shape[1]
    unbounded = np.full(d, np.inf)
    return pair_figure(
        values, [f"p{j}" for j in range(d)], -unbounded, unbounded, np.zeros(d) if truth else None
    )


def with_nothing_finite(length: int) -> str:
    simulated = predictive(length)
    simulated["rejection ABC"][:] = np.nan
    return observed_figure(np.arange(length), simulated)


FIGURES: dict[str, Callable[[], str]] = {
    "series": lambda: observed_figure(np.arange(30), predictive(30)),
    "four channels": lambda: observed_figure(np.zeros((20, 4)), predictive(20, 4), ["a", "b", "c", "d"]),
    "vector": lambda: observed_figure([4.0, 6.0], predictive(2)),
    "scalar": lambda: observed_figure(5.0, predictive()),
    "unlike scales": lambda: observed_figure(
        [5.0, 5e6], {name: values * [1, 1e6] for name, values in predictive(2).items()}
    ),
    "nothing finite": lambda: with_nothing_finite(20),
    "no finite vector": lambda: with_nothing_finite(2),
    "one parameter": lambda: pairs(draws(1), truth=True),
    "three parameters": lambda: pairs(draws(3), truth=True),
    "eight parameters": lambda: pairs(draws(8)),
    "draws all equal": lambda: pairs({"neural posterior": np.full((20, 2), 0.1)}),
    "one draw": lambda: pairs({"neural posterior": np.array([[1.0, -2.0]])}),
    "intervals": lambda: intervals_figure(draws(5), list("abcde"), np.zeros(5)),
    "intervals without truth": lambda: intervals_figure({"exact": draws(1)["exact"]}, ["a"]),
    "history": lambda: history_figure([3.0, 2.0, 1.5], [3.1, 2.2, 2.3], 1),
    "history of one epoch": lambda: history_figure([3.0], [3.1], 0),
    "history with a bad loss": lambda: history_figure([3.0, 2.0, np.nan], [3.1, 2.0, np.inf], 1),
}


@cache
def svg_of(name: str) -> str:
    return FIGURES[name]()


@pytest.mark.parametrize("name", FIGURES)
def test_is_one_labelled_svg_element_that_leaves_the_page_alone(name: str) -> None:
    svg = svg_of(name)
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert not re.search(r"<(style|script|metadata|image)\b", svg)
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg)) == set(re.findall(r'\bid="([^"]+)"', svg))


def test_ids_differ_between_figures() -> None:
    ids = [identifier for name in FIGURES for identifier in set(re.findall(r'\bid="([^"]+)"', svg_of(name)))]
    assert len(ids) == len(set(ids))


def test_same_bytes_whatever_the_settings_and_the_settings_stay() -> None:
    plain = svg_of("three parameters")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        assert FIGURES["three parameters"]() == plain
        assert dict(matplotlib.rcParams) == before


def test_names_are_text_not_markup() -> None:
    name, method = 'a<b> & "$x$" id="y"', "<script>"
    svg = intervals_figure({method: draws(1)["exact"]}, [name])
    root = ElementTree.fromstring(svg)
    assert {name, method} <= {text.text for text in root.iter() if text.tag.endswith("text")}
    assert name in (root.get("aria-label") or "")


def test_a_method_keeps_its_colour() -> None:
    assert colour_of(3, "Exact (particle filter)") == figures.EXACT_COLOUR
    assert [colour_of(i, "x") for i in range(6)] == list(figures.METHOD_COLOURS)
    assert colour_of(6, "x") == colour_of(0, "x")
    for svg in (svg_of("series"), svg_of("three parameters"), svg_of("intervals")):
        assert all(colour_of(i, name) in svg for i, name in enumerate(METHODS))


def test_density_is_reflected_at_a_bound() -> None:
    x = np.random.default_rng(2).exponential(size=(20_000, 1))
    (grid,), density = figures._density(x, np.zeros(1), np.full(1, np.inf))
    assert grid[0] == 0
    assert trapezoid(density, grid) == pytest.approx(1, abs=0.01)
    assert density[0] == pytest.approx(1, abs=0.15)


def test_density_follows_a_thin_ring() -> None:
    rng = np.random.default_rng(3)
    angle = rng.uniform(0, 2 * np.pi, 4000)
    ring = (1 + 0.03 * rng.standard_normal(4000))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    (x, y), density = figures._density(ring, np.full(2, -np.inf), np.full(2, np.inf))
    radius = np.hypot(*np.meshgrid(x, y, indexing="ij"))
    assert density[np.abs(radius - 1) < 0.25].sum() > 0.95 * density.sum()
