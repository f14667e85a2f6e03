"""Figures of a report, as SVG elements ready to stand inside an HTML page.

Functions take plain arrays, one per method, and return one `<svg>` element: the same bytes for the same
arrays, whatever the user's matplotlib settings. Intervals are central and hold 50% and 90% of the draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from sbi_flows.arrays import F
from sbi_flows.report.svg import DASHED, GREY, INK, PALETTE, RULE, drawing, handles, short, tick, to_svg

_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_MARGINALS, _MOST_CHANNELS = 24, 3
_SHORTEST_SERIES, _MOST_DOTS, _FEW_EPOCHS = 16, 150, 12
_SAME_SCALE, _ROOM = 20.0, 1.5
_DOT: dict[str, Any] = {"ms": 5, "mec": "white", "mew": 0.8}


def observed_figure(y_obs: ArrayLike, predictive: Mapping[str, F], colours: Mapping[str, str]) -> str:
    """One event (*event,) and, for each method, the data (n, *event) that it predicts.

    16 entries or more are a series along the first axis: bands over time, a panel for each method (and each
    of the first 3 channels). Fewer are a vector: intervals at each entry, on one axis where the scales are
    alike and on one axis each where they are not. Rows of `predictive` that are not finite are left out.
    """
    y = np.asarray(y_obs, dtype=np.float64)
    simulated = {name: _finite_rows(values, y.shape) for name, values in predictive.items()}
    if y.size >= _SHORTEST_SERIES:
        shape = (len(y), y.size // len(y))
        series = {name: rows.reshape(-1, *shape) for name, rows in simulated.items()}
        return _series(y.reshape(shape), series, colours)
    flat = {name: rows.reshape(len(rows), y.size) for name, rows in simulated.items()}
    entries = [f"entry {i + 1}" for i in range(y.size)]
    many = "1 entry" if y.size == 1 else f"{y.size} entries"
    text = f"Observed data of {many}, and data predicted by: {', '.join(predictive)}."
    if y.size > 1 and _one_scale(y.ravel(), flat):
        return _vector(y.ravel(), flat, colours, entries, text)
    return _forest(flat, colours, entries, _Marks("observed", y.ravel(), "-"), text)


def intervals_figure(
    draws: Mapping[str, F], colours: Mapping[str, str], names: Sequence[str], truth: F | None = None
) -> str:
    """Median, 50% and 90% interval of every parameter, one line per method, (n, d) each."""
    text = f"Posterior intervals of {', '.join(names[:_MOST_MARGINALS])} by: {', '.join(draws)}."
    marks = None if truth is None else _Marks("true value", truth, DASHED)
    return _forest(draws, colours, names, marks, text)


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


class _Marks(NamedTuple):
    """One value per panel, drawn as a line across it."""

    label: str
    values: F
    style: str | tuple[int, tuple[int, int]]


def _series(y: F, simulated: Mapping[str, F], colours: Mapping[str, str]) -> str:
    channels = min(y.shape[1], _MOST_CHANNELS)
    bands = np.stack([_quantiles(rows) for rows in simulated.values()])
    views = [_view(y[:, c], bands[:, [0, -1], :, c]) for c in range(channels)]
    with drawing(10.0, 0.45 + 1.5 * len(simulated)) as figure:
        for (i, name), c in product(enumerate(simulated), range(channels)):
            axes = figure.add_subplot(len(simulated), channels, i * channels + c + 1)
            share = _bands(axes, y[:, c], bands[i, :, :, c], colours[name])
            inside = f"{share:.0%} in 90% band" if len(simulated[name]) else "none finite"
            axes.set_title(short(name, 60 // channels), loc="left", color=colours[name], weight="bold")
            axes.set_title(inside, loc="right", color=GREY, size=8)
            axes.set_ylabel(f"channel {c + 1}" if y.shape[1] > 1 else "")
            last = i == len(simulated) - 1
            axes.set(xlim=(0.5, len(y) + 0.5), ylim=views[c], xlabel="time step" if last else "")
            axes.tick_params(labelbottom=last)
            tick(axes.xaxis, 10 // channels, integer=True)
            tick(axes.yaxis, 4)
        if y.shape[1] > channels:
            figure.supxlabel(f"the first {channels} of {y.shape[1]} channels", size=8, color=GREY)
        methods = ", ".join(simulated)
        return to_svg(figure, f"Observed series of {len(y)} steps, and series predicted by: {methods}.")


def _bands(axes: Axes, seen: F, quantiles: F, colour: str) -> float:
    """Draw a series over its predicted bands; return the fraction of it inside the outer one."""
    time = np.arange(1, len(seen) + 1)
    low, quarter, median, three_quarters, high = quantiles
    axes.fill_between(time, low, high, color=colour, alpha=0.18, lw=0)
    axes.fill_between(time, quarter, three_quarters, color=colour, alpha=0.32, lw=0)
    axes.plot(time, median, color=colour, lw=1.1, alpha=0.85)
    axes.plot(time, seen, color=INK, lw=0.6, marker="o" if len(seen) <= _MOST_DOTS else "", ms=2.2, mew=0)
    return float(np.mean((low <= seen) & (seen <= high)))


def _vector(
    y: F, simulated: Mapping[str, F], colours: Mapping[str, str], entries: Sequence[str], text: str
) -> str:
    with drawing(min(10.0, 2.4 + 0.9 * len(y)), 3.2) as figure:
        axes = figure.subplots()
        offsets = (np.arange(len(simulated)) - (len(simulated) - 1) / 2) * min(0.22, 0.66 / len(simulated))
        at = np.arange(len(y))
        axes.hlines(y, at - 0.4, at + 0.4, color=INK, lw=1.4)
        for offset, (name, rows) in zip(offsets, simulated.items(), strict=True):
            quantiles = _quantiles(rows)
            _intervals(axes.vlines, at + offset, quantiles, colours[name])
            axes.plot(at + offset, quantiles[2], "o", color=colours[name], **_DOT)
        axes.set(xlim=(-0.6, len(y) - 0.4), xticks=at, xticklabels=[short(entry, 12) for entry in entries])
        tick(axes.yaxis, 6)
        seen = Line2D([], [], color=INK, lw=1.4, label="observed")
        figure.legend(handles=[seen, *handles(colours)], loc="outside upper left", ncols=3)
        return to_svg(figure, text)


def _forest(
    draws: Mapping[str, F], colours: Mapping[str, str], names: Sequence[str], marks: _Marks | None, text: str
) -> str:
    shown = min(len(names), _MOST_MARGINALS)
    columns = min(shown, 3 if shown != 4 else 2)
    rows = -(-shown // columns)
    with drawing(1.3 + 2.9 * columns, rows * (0.72 + 0.27 * len(draws)) + 0.3) as figure:
        for j in range(shown):
            axes = figure.add_subplot(rows, columns, j + 1)
            for i, (name, values) in enumerate(draws.items()):
                quantiles = _quantiles(values[:, j])
                _intervals(axes.hlines, i, quantiles, colours[name])
                axes.plot(quantiles[2], i, "o", color=colours[name], **_DOT)
            if marks is not None:
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


def _intervals(lines: Callable[..., object], at: ArrayLike, quantiles: F, colour: str) -> None:
    low, quarter, _, three_quarters, high = quantiles
    lines(at, low, high, color=colour, lw=1.3)
    lines(at, quarter, three_quarters, color=colour, lw=4.5, alpha=0.55)


def _view(seen: F, ends: F) -> tuple[float, float]:
    """Limits that show the observed values, and bands up to 1.5 times the observed range beyond them."""
    low, high = float(seen.min()), float(seen.max())
    room = _ROOM * (high - low) or np.inf
    finite = ends[np.isfinite(ends)]
    if len(finite):
        lowest, highest = max(float(finite.min()), low - room), min(float(finite.max()), high + room)
        low, high = min(low, lowest), max(high, highest)
    air = 0.05 * (high - low) or 1.0
    return low - air, high + air


def _finite_rows(values: F, shape: tuple[int, ...]) -> F:
    rows = np.asarray(values, dtype=np.float64).reshape(-1, *shape)
    return rows[np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))]


def _quantiles(rows: F) -> F:
    if len(rows) == 0:
        return np.full((len(_LEVELS), *rows.shape[1:]), np.nan)
    return np.asarray(np.quantile(rows, _LEVELS, axis=0))


def _one_scale(y: F, simulated: Mapping[str, F]) -> bool:
    """Whether every entry's intervals are long enough to see on one axis that holds them all."""
    ends = np.concatenate([y[None], *(_quantiles(rows) for rows in simulated.values())])
    lengths = np.nanmax(ends, axis=0) - np.nanmin(ends, axis=0)
    return bool(np.nanmax(ends) - np.nanmin(ends) <= _SAME_SCALE * lengths.min())
