"""Figures of a check, as SVG elements: ranks, coverage, recovery, and observed among predicted statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sbi_flows.arrays import F
from sbi_flows.report.svg import GREY, INK, PALETTE, REFERENCE, RULE, drawing, to_svg

LEVELS = np.linspace(0.02, 0.98, 49)
_COLUMNS, _MOST_PANELS, _MOST_DOTS = 4, 24, 500
_MOST_STATISTICS, _FURTHEST, _UNLIKELY = 30, 3.0, 0.01


@dataclass(frozen=True)
class BandedCurve:
    """y (k,) over x (k,), and the band from low (k,) to high (k,) in which it should stay.

    apart: whether it is drawn on a scale of its own, because its band is wider than those of the others.
    """

    name: str
    x: F
    y: F
    low: F
    high: F
    apart: bool = False

    @property
    def outside(self) -> bool:
        """Whether it leaves the band anywhere."""
        return bool(((self.y < self.low) | (self.y > self.high)).any())

    @property
    def reach(self) -> float:
        """The largest distance of curve and band from zero."""
        return float(np.abs([self.low, self.high, self.y]).max())


def ecdf_figure(curves: Sequence[BandedCurve]) -> str:
    """F(z) - z of the ranks of each quantity in its band. All but those that are `apart` share a scale."""
    curves = curves[:_MOST_PANELS]
    with drawing(*_size(len(curves), 1.9)) as figure:
        panels = _panels(figure, len(curves), sharex=True)
        for panel, curve in zip(panels, curves, strict=True):
            _band(panel, curve)
            panel.plot(curve.x, curve.y, color=PALETTE[1 if curve.outside else 0], lw=1.4)
            panel.set_title(curve.name, color=INK)
            most = 1.1 * max(other.reach for other in curves if other.apart == curve.apart)
            panel.set(xlim=(0, 1), ylim=(-most, most))
        figure.supxlabel("rank of the truth among the draws", fontsize=9)
        figure.supylabel("ECDF of the ranks minus uniform", fontsize=9)
        names = ", ".join(curve.name for curve in curves)
        return to_svg(figure, f"Difference of rank distribution functions of {names}.")


def coverage_figure(band: BandedCurve, intervals: Mapping[str, F], regions: Mapping[str, F]) -> str:
    """Coverage less its level at `LEVELS`, for each parameter's central intervals and for joint regions.

    band: of coverage less level; its y is not drawn.
    """
    intervals = dict(list(intervals.items())[:_MOST_PANELS])
    with drawing(6.6, 2.9) as figure:
        axes = figure.subplots()
        _band(axes, band)
        for i, (name, covered) in enumerate(intervals.items()):
            axes.plot(LEVELS, covered, color=PALETTE[i % len(PALETTE)], ls="--", lw=1.4, label=name)
        styles = ((REFERENCE, "-"), (PALETTE[len(intervals) % len(PALETTE)], ":"))
        for (name, covered), (colour, style) in zip(regions.items(), styles, strict=False):
            axes.plot(LEVELS, covered, color=colour, ls=style, lw=1.4, label=name)
        axes.set(xlabel="level", ylabel="coverage minus level", xlim=(0, 1))
        figure.legend(loc="outside right upper")
        return to_svg(figure, "Coverage of intervals and regions by level.")


def recovery_figure(found: Mapping[str, tuple[F, F]]) -> str:
    """Posterior means (m,) against the truth (m,). found: title -> (truth, means)."""
    titles = list(found)[:_MOST_PANELS]
    dots: dict[str, Any] = {"ls": "", "marker": "o", "ms": 2.2, "mew": 0, "alpha": 0.5, "color": PALETTE[0]}
    with drawing(*_size(len(titles), 2.2)) as figure:
        for panel, title in zip(_panels(figure, len(titles)), titles, strict=True):
            truth, means = found[title]
            ends = [float(truth.min()), float(truth.max())]
            panel.plot(ends, ends, color=GREY, lw=0.8)
            panel.plot(truth[:_MOST_DOTS], means[:_MOST_DOTS], **dots)
            panel.set_title(title, color=INK)
        figure.supxlabel("truth", fontsize=9)
        figure.supylabel("posterior mean", fontsize=9)
        return to_svg(figure, f"Posterior means against the truth: {', '.join(titles)}.")


def statistics_figure(names: Sequence[str], observed: F, low: F, high: F, p_values: F) -> str:
    """Each observed statistic, on the scale that takes low to -1 and high to 1."""
    shown = np.argsort(p_values, kind="stable")[:_MOST_STATISTICS]
    offset, half = observed - (high + low) / 2, (high - low) / 2
    beyond_a_point = np.sign(offset) * _FURTHEST
    scaled = np.where(half > 0, offset / np.where(half > 0, half, 1.0), beyond_a_point)
    with drawing(6.6, 0.9 + 0.19 * len(shown)) as figure:
        axes = figure.subplots()
        axes.axvspan(-1, 1, color=PALETTE[0], alpha=0.15, lw=0)
        axes.axvline(0, color=GREY, lw=0.8)
        at_the_right: dict[str, Any] = {
            "transform": axes.get_yaxis_transform(),
            "va": "center",
            "fontsize": 8,
        }
        for row, j in enumerate(shown):
            colour = PALETTE[1] if p_values[j] <= _UNLIKELY else INK
            marker = "D" if abs(scaled[j]) >= _FURTHEST else "o"
            x = np.clip(scaled[j], -_FURTHEST, _FURTHEST)
            axes.plot(x, row, ls="", marker=marker, ms=4.5, mew=0, color=colour)
            axes.text(1.02, row, f"{p_values[j]:.3f}", color=colour, **at_the_right)
        axes.text(1.02, -1, "p", color=GREY, **at_the_right)
        axes.set(xlim=(-_FURTHEST - 0.2, _FURTHEST + 0.2), ylim=(len(shown) - 0.4, -0.6))
        axes.set_xlabel("observed statistic (-1 to 1: the middle 90% of predicted ones)")
        axes.set_yticks(range(len(shown)), [names[j] for j in shown])
        axes.tick_params(axis="y", length=0)
        return to_svg(figure, f"{len(shown)} statistics of the observed data among those predicted.")


def _grid(n: int) -> tuple[int, int]:
    columns = min(_COLUMNS, n)
    return -(-n // columns), columns


def _size(n: int, height: float) -> tuple[float, float]:
    rows, columns = _grid(n)
    return 2.5 * columns, height * rows + 0.2


def _panels(figure: Figure, n: int, sharex: bool = False) -> list[Axes]:
    """n panels in rows of at most 4; the rest of the last row stays empty."""
    panels = figure.subplots(*_grid(n), squeeze=False, sharex=sharex).ravel()
    for panel in panels[n:]:
        panel.set_axis_off()
    return list(panels[:n])


def _band(axes: Axes, curve: BandedCurve) -> None:
    axes.fill_between(curve.x, curve.low, curve.high, color=RULE, alpha=0.5, lw=0)
    axes.axhline(0, color=GREY, lw=0.8)
