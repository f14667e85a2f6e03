"""Figures of a study: what each method's answers are worth and cost, and whether its intervals hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.stats import binom

from sbi_flows.arrays import F
from sbi_flows.report.svg import GREY, RULE, Drawing, drawing, handles, tick, to_svg

_LEVELS = np.linspace(0.02, 0.98, 49)


class Scores(NamedTuple):
    """Of one method: the energy score and the seconds of each observation."""

    energy: F
    seconds: F


def scores_figure(scores: Mapping[str, Scores], colours: Mapping[str, str]) -> Drawing:
    """Mean energy score, with two standard errors, against the median seconds for one observation."""
    with drawing(6.6, 3.1) as figure:
        axes = figure.subplots()
        for name, found in scores.items():
            n, seconds = len(found.energy), max(float(np.median(found.seconds)), 1e-4)
            error = 2 * found.energy.std(ddof=1) / np.sqrt(n) if n > 1 else 0.0
            axes.errorbar(
                seconds, found.energy.mean(), error, color=colours[name], fmt="o", ms=6, lw=1.4, capsize=0
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.set(xlabel="seconds for one data set", ylabel="energy score (prior sd)")
        axes.grid(color=RULE, lw=0.5, alpha=0.6)
        tick(axes.yaxis, 5)
        figure.legend(handles=handles(colours), loc="outside right upper")
        return to_svg(figure, f"Energy score against time of: {', '.join(scores)}.")


def study_coverage_figure(ranks: Mapping[str, F], colours: Mapping[str, str], m: int) -> Drawing:
    """Coverage of central intervals less their level. ranks: of the truth in [0, 1], all parameters together;
    the band is that of m independent observations at each level, 99%.
    """
    with drawing(6.6, 3.1) as figure:
        axes = figure.subplots()
        low, high = (binom.ppf(p, m, _LEVELS) / m - _LEVELS for p in (0.005, 0.995))
        axes.fill_between(_LEVELS, low, high, color=GREY, alpha=0.15, lw=0)
        axes.axhline(0, color=GREY, lw=0.8)
        for name, found in ranks.items():
            inside = np.abs(2 * found - 1)
            covered = np.array([(inside <= level).mean() for level in _LEVELS]) - _LEVELS
            axes.plot(_LEVELS, covered, color=colours[name], lw=1.4)
        axes.set(xlabel="level", ylabel="coverage minus level", xlim=(0, 1))
        figure.legend(handles=handles(colours), loc="outside right upper")
        return to_svg(figure, f"Coverage of central intervals of: {', '.join(ranks)}.")
