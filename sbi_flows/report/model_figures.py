"""Figures of a choice of models: probabilities by method, and reliability of a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.report.check_figures import BandedCurve
from sbi_flows.report.svg import GREY, INK, PALETTE, RULE, drawing, short, to_svg

_COLUMNS, _MOST_PANELS = 3, 12


def probabilities_figure(found: Mapping[str, tuple[F, F]], colours: Mapping[str, str], prior: F) -> str:
    """Probability of each model, with two standard errors, by each method: method -> (K,), (K,). prior (K,):
    a tick for each model.
    """
    names, methods = list(colours), list(found)
    with drawing(6.6, 0.7 + 0.24 * len(names) * len(methods) + 0.12 * len(methods)) as figure:
        axes = figure.subplots()
        y, places = 0.0, []
        for p, error in found.values():
            start = y
            for k, name in enumerate(names):
                low, high = np.clip([p[k] - 2 * error[k], p[k] + 2 * error[k]], 0, 1)
                axes.hlines(y, low, high, color=colours[name], lw=4.5, alpha=0.45)
                axes.plot(p[k], y, "o", color=colours[name], ms=5, mec="white", mew=0.8)
                axes.plot(prior[k], y, "|", color=GREY, ms=9, zorder=0)
                axes.text(1.04, y, short(name), color=colours[name], va="center", fontsize=8)
                y += 1
            places.append((start + y - 1) / 2)
            y += 0.5
        axes.set(xlim=(-0.02, 1.02), ylim=(y - 0.6, -0.7), xlabel="probability (tick: prior)")
        axes.set_yticks(places, methods)
        axes.tick_params(axis="y", length=0)
        return to_svg(figure, f"Probabilities of {', '.join(names)} by {', '.join(methods)}.")


def reliability_figure(curves: Sequence[BandedCurve]) -> str:
    """Share of rows of a class over their mean probability, with the band in which it should stay."""
    curves = curves[:_MOST_PANELS]
    columns = min(_COLUMNS, len(curves))
    rows = -(-len(curves) // columns)
    with drawing(max(3.2, 2.5 * columns), 2.6 * rows) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[len(curves) :]:
            panel.set_axis_off()
        for panel, curve in zip(panels, curves, strict=False):
            panel.plot([0, 1], [0, 1], color=GREY, lw=0.8)
            panel.vlines(curve.x, curve.low, curve.high, color=RULE, lw=5)
            out = (curve.y < curve.low) | (curve.y > curve.high)
            for where, colour in ((~out, PALETTE[0]), (out, PALETTE[1])):
                panel.plot(curve.x[where], curve.y[where], "o", color=colour, ms=4.5, mec="white", mew=0.6)
            panel.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
            panel.set_title(short(curve.name, 32), color=INK)
        figure.supxlabel("probability that the classifier gives", fontsize=9)
        figure.supylabel("share of simulations of the model", fontsize=9)
        return to_svg(figure, f"Reliability of the classifier for {', '.join(c.name for c in curves)}.")
