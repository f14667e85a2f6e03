"""Figures of a check, as SVG elements: rank distribution functions with their simultaneous band, coverage,
recovery.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sbi_flows.diagnostics.bands import ecdf_band, grid
from sbi_flows.diagnostics.calibration import LOG_LIKELIHOOD, LOG_Q, RANDOM_POINT, RankTest
from sbi_flows.diagnostics.predictive import PredictiveCheck
from sbi_flows.diagnostics.recovery import Recovery
from sbi_flows.report.figures import EXACT_COLOUR, METHOD_COLOURS
from sbi_flows.report.svg import GREY, INK, RULE, drawing, to_svg

BAND = 0.99
_COLUMNS, _MOST_PANELS, _MOST_DOTS = 4, 24, 500
_MOST_STATISTICS, _FURTHEST, _UNLIKELY = 30, 3.0, 0.01
_LEVELS = np.linspace(0.02, 0.98, 49)


def ecdf_figure(tests: Sequence[RankTest]) -> str:
    """F(z) - z of the ranks of each quantity, (m,) each, with the band that holds all of it in 99% of cases
    if it is right.

    All have one scale but the log-likelihood, whose ranks are fewer.
    """
    tests = tests[:_MOST_PANELS]
    columns = min(_COLUMNS, len(tests))
    rows = -(-len(tests) // columns)
    with drawing(2.5 * columns, 1.9 * rows + 0.2) as figure:
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
        furthest = dict.fromkeys((True, False), 0.0)
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
            own = test.quantity == LOG_LIKELIHOOD
            furthest[own] = max(furthest[own], float(np.abs([low - z, high - z, share - z]).max()))
        for panel, test in zip(panels, tests, strict=False):
            most = 1.1 * furthest[test.quantity == LOG_LIKELIHOOD]
            panel.set_ylim(-most, most)
        for panel in panels[len(tests) :]:
            panel.set_axis_off()
        figure.supxlabel("rank of the truth among the draws", fontsize=9)
        figure.supylabel(
            "share of lower ranks - z" if rows == 1 else "share of lower ranks, less its right value",
            fontsize=9,
        )
        return to_svg(
            figure,
            f"Difference of rank distribution functions of {', '.join(test.quantity for test in tests)}.",
        )


def coverage_figure(tests: Sequence[RankTest]) -> str:
    """The share of truths in intervals and regions of every level, less the level."""
    tests = [test for test in tests if test.quantity != LOG_LIKELIHOOD][:_MOST_PANELS]
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
            axes.plot(
                _LEVELS,
                covered,
                color=colour,
                ls=style,
                lw=1.4,
                label=_REGIONS.get(test.quantity, test.quantity),
            )
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
            panel.plot(
                one.truth[:_MOST_DOTS],
                one.means[:_MOST_DOTS],
                ls="",
                marker="o",
                ms=2.2,
                mew=0,
                alpha=0.5,
                color=METHOD_COLOURS[0],
            )
            panel.set_title(f"{one.name}: R = {one.correlation:.2f}", color=INK)
        for panel in panels[len(found) :]:
            panel.set_axis_off()
        figure.supxlabel("truth", fontsize=9)
        figure.supylabel("posterior mean", fontsize=9)
        return to_svg(figure, f"Posterior means against the truth of {', '.join(one.name for one in found)}.")


def statistics_figure(found: PredictiveCheck) -> str:
    """Each statistic of the observed data on the scale on which the middle 90% of those predicted are the
    band from -1 to 1.
    """
    shown = np.argsort(found.p_values, kind="stable")[:_MOST_STATISTICS]
    middle, half = (found.high + found.low) / 2, (found.high - found.low) / 2
    places = (found.observed - middle) / np.where(half > 0, half, 1.0)
    places = np.where(
        (half == 0) & (found.observed != middle), np.sign(found.observed - middle) * _FURTHEST, places
    )
    with drawing(6.6, 0.9 + 0.19 * len(shown)) as figure:
        axes = figure.subplots()
        axes.axvspan(-1, 1, color=METHOD_COLOURS[0], alpha=0.15, lw=0)
        axes.axvline(0, color=GREY, lw=0.8)
        for row, j in enumerate(shown):
            colour = METHOD_COLOURS[1] if found.p_values[j] <= _UNLIKELY else INK
            beyond = abs(places[j]) > _FURTHEST
            axes.plot(
                np.clip(places[j], -_FURTHEST, _FURTHEST),
                row,
                ls="",
                marker="D" if beyond else "o",
                ms=4.5,
                mew=0,
                color=colour,
            )
            axes.text(
                1.02,
                row,
                f"{found.p_values[j]:.3f}",
                transform=axes.get_yaxis_transform(),
                va="center",
                color=colour,
                fontsize=8,
            )
        axes.text(1.02, -1, "p", transform=axes.get_yaxis_transform(), va="center", color=GREY, fontsize=8)
        axes.set(
            xlim=(-_FURTHEST - 0.2, _FURTHEST + 0.2),
            ylim=(len(shown) - 0.4, -0.6),
            xlabel="place of the observed statistic",
        )
        axes.set_yticks(range(len(shown)), [found.names[j] for j in shown])
        axes.tick_params(axis="y", length=0)
        return to_svg(figure, f"{len(shown)} statistics of the observed data among those predicted.")


_REGIONS = {LOG_Q: "highest-density regions", RANDOM_POINT: "balls (TARP)"}
