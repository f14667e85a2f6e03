"""Figures of a report, as SVG elements ready to stand inside an HTML page.

Functions take plain arrays, one per method, and return one `<svg>` element: the same bytes for the same
arrays, whatever the user's matplotlib settings. Intervals are central and hold 50% and 90% of the draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from sbi_flows.arrays import F
from sbi_flows.report.svg import DASHED, GREY, INK, PALETTE, RULE, drawing, short, tick, to_svg

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_PANELS = 24
_FEW_EPOCHS = 12
DOT: dict[str, Any] = {"ms": 5, "mec": "white", "mew": 0.8}


def intervals_figure(
    draws: Mapping[str, F], colours: Mapping[str, str], names: Sequence[str], truth: F | None = None
) -> str:
    """Median, 50% and 90% interval of every parameter, one line per method, (n, d) each."""
    text = f"Posterior intervals of {', '.join(names[:MOST_PANELS])} by: {', '.join(draws)}."
    marks = None if truth is None else Marks("true value", truth, DASHED)
    return forest(draws, colours, names, marks, text)


def history_figure(train_loss: Sequence[float], valid_loss: Sequence[float], best_epoch: int) -> str:
    """Mean loss in nats by epoch, on training and held-out rows; best_epoch counts from 0."""
    with drawing(6.6, 2.7) as figure:
        axes = figure.subplots()
        marker = "o" if len(valid_loss) < _FEW_EPOCHS else ""
        curves = (("training rows", train_loss, "#8a949d"), ("held-out rows", valid_loss, PALETTE[0]))
        for label, losses, colour in curves:
            epochs = np.arange(1, len(losses) + 1)
            axes.plot(epochs, losses, color=colour, lw=1.4, marker=marker, ms=3.5, label=label)
        after_start = max(len(valid_loss) // 20, min(len(valid_loss) - 1, 1))
        later = np.array([*train_loss[after_start:], *valid_loss[after_start:]])
        later = later[np.isfinite(later)]
        if len(later) and np.ptp(later) > 0:
            axes.set_ylim(later.min() - 0.08 * np.ptp(later), later.max() + 0.12 * np.ptp(later))
        if 0 <= best_epoch < len(valid_loss):
            axes.axvline(best_epoch + 1, color=RULE, lw=0.8, zorder=0)
            best = f"best: epoch {best_epoch + 1}, {valid_loss[best_epoch]:.3f}".replace("-", "\u2212")
            ring: dict[str, Any] = {"ms": 6, "mfc": "white", "mec": PALETTE[0], "mew": 1.6, "ls": ""}
            axes.plot(best_epoch + 1, valid_loss[best_epoch], "o", label=best, **ring)
        last = max(len(train_loss), len(valid_loss)) + 0.5
        axes.set(xlabel="epoch", ylabel="loss (nats)", xlim=(0.5, last))
        tick(axes.xaxis, 8, integer=True)
        tick(axes.yaxis, 5)
        figure.legend(loc="outside upper center", ncols=3)
        return to_svg(figure, f"Loss by epoch over {len(valid_loss)} epochs, best in epoch {best_epoch + 1}.")


class Marks(NamedTuple):
    """One value per panel, drawn as a line across it."""

    label: str
    values: F
    style: str | tuple[int, tuple[int, int]]


def forest(
    draws: Mapping[str, F], colours: Mapping[str, str], names: Sequence[str], marks: Marks | None, text: str
) -> str:
    """A panel for each name: the interval of each method, (n, names), and one value as a line across."""
    shown = min(len(names), MOST_PANELS)
    columns = min(shown, 3 if shown != 4 else 2)
    rows = -(-shown // columns)
    with drawing(1.3 + 2.9 * columns, rows * (0.72 + 0.27 * len(draws)) + 0.3) as figure:
        for j in range(shown):
            axes = figure.add_subplot(rows, columns, j + 1)
            for i, (name, values) in enumerate(draws.items()):
                ends = quantiles(values[:, j])
                bars(axes.hlines, i, ends, colours[name])
                axes.plot(ends[2], i, "o", color=colours[name], **DOT)
            if marks is not None and not np.isnan(marks.values[j]):
                axes.axvline(marks.values[j], color=INK, lw=1.0, ls=marks.style, zorder=0)
            axes.set_title(short(names[j], 32), loc="left", weight="bold")
            axes.set_yticks(range(len(draws)), list(draws) if j % columns == 0 else [""] * len(draws))
            for label, name in zip(axes.get_yticklabels(), draws, strict=True):
                label.set(color=colours[name], size=9)
            axes.set_ylim(len(draws) - 0.45, -0.55)
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
            tick(axes.xaxis, 5)
        if marks is not None:
            line = Line2D([], [], color=INK, lw=1.0, ls=marks.style, label=marks.label)
            figure.legend(handles=[line], loc="outside upper right")
        if len(names) > shown:
            figure.supxlabel(f"the first {shown} of {len(names)}", size=8, color=GREY)
        return to_svg(figure, text)


def bars(lines: Callable[..., object], at: ArrayLike, ends: F, colour: str) -> None:
    """Intervals between quantiles, 50% thick and 90% thin, drawn by `Axes.hlines` or `Axes.vlines`."""
    low, quarter, _, three_quarters, high = ends
    lines(at, low, high, color=colour, lw=1.3)
    lines(at, quarter, three_quarters, color=colour, lw=4.5, alpha=0.55)


def quantiles(rows: F) -> F:
    """Quantiles at 5, 25, 50, 75 and 95% of (n, *event), over the rows with a value; NaN where none has."""
    if len(rows) == 0:
        return np.full((len(LEVELS), *rows.shape[1:]), np.nan)
    missing = np.isnan(rows)
    if not missing.any():
        return np.asarray(np.quantile(rows, LEVELS, axis=0))
    nowhere = missing.all(axis=0)
    found = np.asarray(np.nanquantile(np.where(nowhere, 0.0, rows), LEVELS, axis=0))
    return np.where(nowhere, np.nan, found)
