"""Figures of a check, as SVG elements: rank distribution functions with their simultaneous band, coverage, recovery."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sbi_flows.comparison.drawing import GREY, INK, RULE, drawing, to_svg
from sbi_flows.comparison.figures import EXACT_COLOUR, METHOD_COLOURS
from sbi_flows.diagnostics.bands import ecdf_band, grid
from sbi_flows.diagnostics.calibration import LOG_Q, RANDOM_POINT, RankTest
from sbi_flows.diagnostics.recovery import Recovery

BAND = 0.99
_COLUMNS, _MOST_PANELS, _MOST_DOTS = 4, 24, 500
_LEVELS = np.linspace(0.02, 0.98, 49)


def ecdf_figure(tests: Sequence[RankTest]) -> str:
    """F(z) - z of the ranks of each quantity, (m,) each, with the band that holds all of it in 99% of cases if it is right."""
    tests = tests[:_MOST_PANELS]
    columns = min(_COLUMNS, len(tests))
    rows = -(-len(tests) // columns)
    with drawing(2.5 * columns, 1.9 * rows + 0.2) as figure:
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        bands = {m: ecdf_band(m, BAND) for m in {len(test.ranks) for test in tests}}
        for panel, test in zip(panels, tests, strict=False):
            m = len(test.ranks)
            z = grid(m)
            low, high = bands[m]
            share = np.searchsorted(np.sort(test.ranks), z, side="right") / m
            outside = bool(((share < low) | (share > high)).any())
            panel.fill_between(z, low - z, high - z, color=RULE, alpha=0.5, lw=0)
            panel.axhline(0, color=GREY, lw=0.8)
            panel.plot(z, share - z, color=METHOD_COLOURS[1] if outside else METHOD_COLOURS[0], lw=1.4)
            panel.set_title(test.quantity, color=INK)
            panel.set_xlim(0, 1)
        for panel in panels[len(tests) :]:
            panel.set_axis_off()
        figure.supxlabel("rank of the truth among the draws", fontsize=9)
        figure.supylabel("share of lower ranks - z" if rows == 1 else "share of lower ranks, less its right value", fontsize=9)
        return to_svg(figure, f"Difference of rank distribution functions of {', '.join(test.quantity for test in tests)}.")


def coverage_figure(tests: Sequence[RankTest]) -> str:
    """The share of truths in intervals and regions of every level, less the level."""
    tests = tests[:_MOST_PANELS]
    with drawing(6.6, 2.9) as figure:
        axes = figure.subplots()
        m = len(tests[0].ranks)
        low, high = ecdf_band(m, BAND)
        z = grid(m)
        axes.fill_between(z, low - z, high - z, color=RULE, alpha=0.5, lw=0)
        axes.axhline(0, color=GREY, lw=0.8)
        for i, test in enumerate(tests):
            colour = EXACT_COLOUR if test.quantity == LOG_Q else METHOD_COLOURS[i % len(METHOD_COLOURS)]
            style = {LOG_Q: "-", RANDOM_POINT: ":"}.get(test.quantity, "--")
            covered = [test.coverage(level) - level for level in _LEVELS]
            axes.plot(_LEVELS, covered, color=colour, ls=style, lw=1.4, label=_REGIONS.get(test.quantity, test.quantity))
        axes.set(xlabel="level", ylabel="share of truths inside, less the level", xlim=(0, 1))
        figure.legend(loc="outside right upper")
        return to_svg(figure, "Coverage of intervals and regions by level.")


def recovery_figure(found: Sequence[Recovery]) -> str:
    """Posterior means against the truth of each parameter."""
    found = found[:_MOST_PANELS]
    columns = min(_COLUMNS, len(found))
    rows = -(-len(found) // columns)
    with drawing(2.5 * columns, 2.2 * rows + 0.2) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, one in zip(panels, found, strict=False):
            ends = [float(one.truth.min()), float(one.truth.max())]
            panel.plot(ends, ends, color=GREY, lw=0.8)
            panel.plot(one.truth[:_MOST_DOTS], one.means[:_MOST_DOTS], ls="", marker="o", ms=2.2, mew=0, alpha=0.5, color=METHOD_COLOURS[0])
            panel.set_title(f"{one.name}: R = {one.correlation:.2f}", color=INK)
        for panel in panels[len(found) :]:
            panel.set_axis_off()
        figure.supxlabel("truth", fontsize=9)
        figure.supylabel("posterior mean", fontsize=9)
        return to_svg(figure, f"Posterior means against the truth of {', '.join(one.name for one in found)}.")


_REGIONS = {LOG_Q: "highest-density regions", RANDOM_POINT: "balls (TARP)"}
