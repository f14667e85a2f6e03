"""The page is self-contained, escapes its values, rounds sensibly, and leaves out empty parts."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from sbi_flows.report.figures import history_figure, intervals_figure
from sbi_flows.report.page import ReportPage, format_number, format_seconds, render_page
from sbi_flows.verdict import Verdict

ROW = {
    "method": "exact",
    "parameter": "rho",
    "mean": 10.1,
    "sd": 0.533,
    "q05": 9.1,
    "q95": 11.0,
    "truth": None,
}
DRAWS = {"exact": np.random.default_rng(0).standard_normal((100, 1))}
PAGE = ReportPage(
    title="Classic series",
    subtitle="100 counts",
    lead="rho is 10.",
    verdict=Verdict("do not trust", "unlike the simulations"),
    subject="neural posterior",
    table=[{**ROW, "ess": 660.4, "seconds": 512.0, "simulations": None}],
    methods=[("exact", "#2b2b2b", "the reference")],
    figures={"marginals": intervals_figure(DRAWS, {"exact": "#2b2b2b"}, ["rho"])},
)


class Outline(HTMLParser):
    """The ids and the nesting of a document."""

    VOID = ("meta", "br", "path", "use", "rect", "link")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_loads_nothing_and_is_well_nested() -> None:
    second = replace(PAGE, title="Great tits", figures={"history": history_figure([2.0, 1.0], [2.1, 1.2], 1)})
    html = render_page([PAGE, second], "Ricker")
    outline = Outline(html)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    assert "script" not in outline.tags
    assert not re.search(r'(?:src|href)="(?!#)|url\((?!#)|@import', html)
    assert "nav" in outline.tags
    assert 'href="#data-2"' in html
    assert "Figure 2. Training" in html


def test_one_data_set_has_no_table_of_contents_and_empty_parts_are_left_out() -> None:
    html = render_page([replace(PAGE, figures={}, table=[])], "Ricker")
    outline = Outline(html)
    assert not {"nav", "figure", "table", "pre", "h3"} & set(outline.tags)
    assert ">Do not trust<" in html


def test_everything_but_the_figures_is_escaped() -> None:
    evil = "<script>alert('1')</script>"
    row = {**PAGE.table[0], "method": evil, "parameter": evil}
    distance = {"a": evil, "b": evil, "c2st": 0.5, "sliced_wasserstein": 0.1, "sentence": evil}
    page = ReportPage(
        evil,
        evil,
        evil,
        Verdict("trust", evil),
        evil,
        [row],
        [(evil, "#000", evil)],
        PAGE.figures,
        [evil],
        {evil: evil},
        [evil],
        [distance],
    )
    html = render_page([page, page], evil)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert PAGE.figures["marginals"] in html


@pytest.mark.parametrize(("truth", "shown"), [(None, False), (float("nan"), False), (10.0, True)])
def test_true_values_are_shown_where_known(truth: float | None, shown: bool) -> None:
    html = render_page([replace(PAGE, table=[{**PAGE.table[0], "truth": truth}])], "Ricker")
    assert ("true value</th>" in html) is shown
    assert (">10.000<" in html) is shown


def test_numbers_are_rounded_by_the_narrowest_posterior() -> None:
    wide = {**PAGE.table[0], "method": "rejection ABC", "mean": 12.3456, "sd": 45.678}
    html = render_page([replace(PAGE, table=[*PAGE.table, wide])], "Ricker")
    assert all(cell in html for cell in (">10.100<", ">0.533<", ">12.346<", ">660<", ">8.5\u202fmin<"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\u2013"),
        (float("nan"), "\u2013"),
        (0.0, "0"),
        (3.81934, "3.819"),
        (-0.0123456, "\u22120.01235"),
        (123456.7, "123457"),
        (50_000, "50\u202f000"),
        (1.5e7, "1.500e7"),
        (2.5e-12, "2.500e\u221212"),
        (np.float64(12.0), "12.00"),
        (np.int64(7), "7"),
        ("many", "many"),
    ],
)
def test_format_number(value: object, text: str) -> None:
    assert format_number(value) == text


def test_no_minus_zero() -> None:
    assert format_number(-0.0001, 2) == "0.00"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "\u2013"),
        (0.0213, "21 ms"),
        (3.42, "3.4 s"),
        (99.7, "100 s"),
        (512.0, "8.5 min"),
        (9000.0, "2.5 h"),
    ],
)
def test_format_seconds(seconds: float | None, text: str) -> None:
    assert format_seconds(seconds) == text.replace(" ", "\u202f")
