"""Figures are well-formed, independent and always the same; densities are right at a bound."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import cache

import matplotlib
import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy.integrate import trapezoid

from sbi_flows.arrays import F
from sbi_flows.report import joint
from sbi_flows.report.check_figures import LEVELS as COVERAGE_LEVELS
from sbi_flows.report.check_figures import (
    BandedCurve,
    coverage_figure,
    ecdf_figure,
    recovery_figure,
    statistics_figure,
)
from sbi_flows.report.data_figures import observed_figure
from sbi_flows.report.figures import history_figure, intervals_figure
from sbi_flows.report.joint import pair_figure
from sbi_flows.report.svg import PALETTE, REFERENCE, colours_of

METHODS = ("neural posterior", "rejection ABC", "exact")
COLOURS = colours_of(METHODS, reference="exact")


def draws(d: int, n: int = 300) -> dict[str, F]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((n, d)) * (1 + i) for i, name in enumerate(METHODS)}


def predictive(*event: int, n: int = 50) -> dict[str, F]:
    rng = np.random.default_rng(1)
    return {name: rng.poisson(5.0, (n, *event)).astype(np.float64) for name in METHODS}


def pairs(values: dict[str, F], truth: bool = False) -> str:
    d = next(iter(values.values())).shape[1]
    unbounded = np.full(d, np.inf)
    names, known = [f"p{j}" for j in range(d)], np.zeros(d) if truth else None
    return pair_figure(
        values, {name: COLOURS[name] for name in values}, names, (-unbounded, unbounded), known
    )


def observed(y: ArrayLike, simulated: dict[str, F]) -> str:
    return observed_figure(y, simulated, COLOURS)


def with_nothing_finite(length: int) -> str:
    simulated = predictive(length)
    simulated["rejection ABC"][:] = np.nan
    return observed(np.arange(length), simulated)


def curve(name: str, points: int, height: float = 0.01, apart: bool = False) -> BandedCurve:
    x = np.arange(1, points) / points
    return BandedCurve(name, x, height * np.sin(7 * x), np.full(len(x), -0.05), np.full(len(x), 0.05), apart)


def statistics(k: int) -> str:
    low, p_values = np.zeros(k), np.linspace(0.001, 1, k)
    return statistics_figure([f"s{j}" for j in range(k)], np.linspace(-9, 9, k), low, low + 1.0, p_values)


FIGURES: dict[str, Callable[[], str]] = {
    "series": lambda: observed(np.arange(30), predictive(30)),
    "four channels": lambda: observed(np.zeros((20, 4)), predictive(20, 4)),
    "vector": lambda: observed([4.0, 6.0], predictive(2)),
    "scalar": lambda: observed(5.0, predictive()),
    "unlike scales": lambda: observed(
        [5.0, 5e6], {name: values * [1, 1e6] for name, values in predictive(2).items()}
    ),
    "nothing finite": lambda: with_nothing_finite(20),
    "no finite vector": lambda: with_nothing_finite(2),
    "one parameter": lambda: pairs(draws(1), truth=True),
    "three parameters": lambda: pairs(draws(3), truth=True),
    "eight parameters": lambda: pairs(draws(8)),
    "draws all equal": lambda: pairs({"neural posterior": np.full((20, 2), 0.1)}),
    "one draw": lambda: pairs({"neural posterior": np.array([[1.0, -2.0]])}),
    "intervals": lambda: intervals_figure(draws(5), COLOURS, list("abcde"), np.zeros(5)),
    "intervals without truth": lambda: intervals_figure({"exact": draws(1)["exact"]}, COLOURS, ["a"]),
    "history": lambda: history_figure([3.0, 2.0, 1.5], [3.1, 2.2, 2.3], 1),
    "history of one epoch": lambda: history_figure([3.0], [3.1], 0),
    "ranks": lambda: ecdf_figure([curve("a", 100), curve("b", 100, 0.2), curve("few", 20, apart=True)]),
    "ranks of 30 quantities": lambda: ecdf_figure([curve(f"q{j}", 50) for j in range(30)]),
    "coverage": lambda: coverage_figure(
        curve("band", 100),
        {"a": 0 * COVERAGE_LEVELS},
        {"regions": 0.01 * COVERAGE_LEVELS, "balls": -0.01 * COVERAGE_LEVELS},
    ),
    "recovery": lambda: recovery_figure({f"p{j}": (np.arange(9.0), np.ones(9)) for j in range(5)}),
    "statistics": lambda: statistics(12),
    "one statistic that is always the same": lambda: statistics_figure(
        ["zeros"], np.ones(1), np.zeros(1), np.zeros(1), np.full(1, 0.01)
    ),
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
    svg = intervals_figure({method: draws(1)["exact"]}, colours_of([method]), [name])
    root = ElementTree.fromstring(svg)
    assert {name, method} <= {text.text for text in root.iter() if text.tag.endswith("text")}
    assert name in (root.get("aria-label") or "")


def test_a_method_keeps_its_colour() -> None:
    assert list(colours_of("abcdefg").values()) == [*PALETTE, PALETTE[0]]
    assert colours_of("ab", reference="b") == {"a": PALETTE[0], "b": REFERENCE}
    for svg in (svg_of("series"), svg_of("three parameters"), svg_of("intervals")):
        assert all(colour in svg for colour in COLOURS.values())


def test_a_curve_that_leaves_its_band_has_another_colour() -> None:
    assert PALETTE[1] not in ecdf_figure([curve("inside", 50)])
    assert PALETTE[1] in ecdf_figure([curve("outside", 50, 0.2)])


def test_density_is_reflected_at_a_bound() -> None:
    x = np.random.default_rng(2).exponential(size=(20_000, 1))
    (grid,), density = joint._density(x, np.zeros(1), np.full(1, np.inf))
    assert grid[0] == 0
    assert trapezoid(density, grid) == pytest.approx(1, abs=0.01)
    assert density[0] == pytest.approx(1, abs=0.15)


def test_density_follows_a_thin_ring() -> None:
    rng = np.random.default_rng(3)
    angle = rng.uniform(0, 2 * np.pi, 4000)
    ring = (1 + 0.03 * rng.standard_normal(4000))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    (x, y), density = joint._density(ring, np.full(2, -np.inf), np.full(2, np.inf))
    radius = np.hypot(*np.meshgrid(x, y, indexing="ij"))
    assert density[np.abs(radius - 1) < 0.25].sum() > 0.95 * density.sum()
