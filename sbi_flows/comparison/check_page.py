"""The page of a `Check`: the verdict, a table, and the ranks of each quantity."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from scipy.stats import binom

from sbi_flows.comparison.drawing import GREY, INK, RULE, drawing, to_svg
from sbi_flows.comparison.figures import METHOD_COLOURS
from sbi_flows.comparison.page import VERDICT_WORDS, environment, format_number
from sbi_flows.diagnostics.calibration import RankTest
from sbi_flows.files import write_bytes

if TYPE_CHECKING:
    from sbi_flows.comparison.check import Check

_BINS, _COLUMNS, _BAND = 20, 4, 0.99


def write_check(check: Check, path: str | os.PathLike[str]) -> None:
    """Write the page. Raises `StorageError`."""
    facts = check.posterior.facts
    table = check.table.to_dict("records")
    rows = [[str(row["quantity"]), *(format_number(row[key]) for key in _NUMBERS), str(row["verdict"])] for row in table]
    style, sign, word = VERDICT_WORDS[check.level]
    page = environment().get_template("check.html.j2")
    html = page.render(
        heading=f"Calibration check: {facts['simulator']}",
        lead=f"{check.n:,} data sets were simulated from the prior and the posterior of each was asked where the truth lies. "
        f"Knowing the data gained {check.gain:.2f} ± {check.gain_error:.2f} nats of log density at the truth over the prior.",
        style=style,
        sign=sign,
        word=word,
        text=check.text,
        rows=rows,
        limit=f"{check.tests[0].z_limit:.2f}",
        svg=Markup(rank_figure(check.tests)),
        facts={
            "posterior": str(check.posterior),
            "seed": str(facts["seed"]),
            "versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
        },
    )
    write_bytes(path, html.encode())


def rank_figure(tests: Sequence[RankTest]) -> str:
    """Histograms of the ranks, which are flat for the right posterior, with the 99% range of each bar if it is."""
    columns = min(_COLUMNS, len(tests))
    rows = -(-len(tests) // columns)
    with drawing(2.5 * columns, 1.9 * rows + 0.2) as figure:
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for panel, test in zip(panels, tests, strict=False):
            m = len(test.ranks)
            heights, edges = np.histogram(test.ranks, bins=_BINS, range=(0, 1))
            low, high = binom.interval(_BAND, m, 1 / _BINS)
            panel.axhspan(low, high, color=RULE, alpha=0.5, lw=0)
            panel.axhline(m / _BINS, color=GREY, lw=0.8)
            panel.stairs(heights, edges, color=METHOD_COLOURS[1] if test.significant else METHOD_COLOURS[0], lw=1.6)
            panel.set_title(test.quantity, color=INK)
            panel.set_xlim(0, 1)
            panel.set_ylim(bottom=0)
        for panel in panels[len(tests) :]:
            panel.set_axis_off()
        figure.supxlabel("rank of the truth among the draws", fontsize=9)
        return to_svg(figure, f"Rank histograms of {', '.join(test.quantity for test in tests)}.")


_NUMBERS = ("mean_z", "spread_z", "shift_sd", "width", "coverage_50", "coverage_90")
