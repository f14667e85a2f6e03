"""Figures of a report, as SVG elements ready to stand inside an HTML page.

Functions take plain arrays, methods in order, and return one `<svg>` element: the same bytes for the same
arrays, whatever the user's matplotlib settings. Intervals are central and hold 50% and 90% of the draws;
regions in the plane are those of highest density,

    R_p = {x : f(x) >= c_p},   integral over R_p of f = p,   p = 50%, 90%

(Hyndman 1996), with f a histogram smoothed by a Gaussian kernel that is reflected at the bounds of the prior.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations_with_replacement, product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter

from sbi_flows.arrays import F
from sbi_flows.report.svg import GREY, INK, RULE, drawing, to_svg

METHOD_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#e69f00", "#56b4e9")
EXACT_COLOUR = "#2b2b2b"

_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_PAIRED, _MOST_MARGINALS, _MOST_CHANNELS = 6, 24, 3
_SHORTEST_SERIES, _MOST_DOTS, _FEW_EPOCHS = 16, 150, 12
_SAME_SCALE, _ROOM, _TOLERANCE = 20.0, 1.5, 0.05
_DASHED = (0, (4, 3))


def colour_of(i: int, name: str) -> str:
    """The colour of the i-th method: from a palette that colour-blind readers can tell apart, near-black for
    an exact one.
    """
    return EXACT_COLOUR if name.lower().startswith("exact") else METHOD_COLOURS[i % len(METHOD_COLOURS)]


def observed_figure(y_obs: ArrayLike, predictive: Mapping[str, F], labels: Sequence[str] = ()) -> str:
    """One event (*event,) beside data (n, *event) that each posterior predicts.

    16 entries or more are a series along the first axis: bands over time, a panel for each method (and each
    of the first 3 channels).
    Fewer are a vector: intervals at each entry, on one axis where the scales are alike and on one axis each
    where they are not.
    labels: names of the channels, or of the entries of a vector. Rows of `predictive` that are not finite are
    left out.
    """
    y = np.asarray(y_obs, dtype=np.float64)
    simulated = {name: _finite_rows(values, y.shape) for name, values in predictive.items()}
    if y.size >= _SHORTEST_SERIES:
        shape = (len(y), y.size // len(y))
        return _series(
            y.reshape(shape), {name: rows.reshape(-1, *shape) for name, rows in simulated.items()}, labels
        )
    flat = {name: rows.reshape(len(rows), y.size) for name, rows in simulated.items()}
    entries = [str(label) for label in labels] or [f"entry {i + 1}" for i in range(y.size)]
    text = (
        f"Observed data of {y.size} {'entry' if y.size == 1 else 'entries'} beside what is predicted by: "
        f"{', '.join(predictive)}."
    )
    if y.size > 1 and _one_scale(y.ravel(), flat):
        return _vector(y.ravel(), flat, entries, text)
    return _forest(flat, entries, y.ravel(), "observed", text)


def intervals_figure(draws: Mapping[str, F], names: Sequence[str], truth: F | None = None) -> str:
    """Median, 50% and 90% interval of every parameter, one line a method, (n, d) each; every parameter has
    its own axis.
    """
    shown = ", ".join(names[:_MOST_MARGINALS])
    return _forest(
        draws, names, truth, "true value", f"Posterior intervals of {shown} by: {', '.join(draws)}."
    )


def pair_figure(
    draws: Mapping[str, F], names: Sequence[str], lower: F, upper: F, truth: F | None = None
) -> str:
    """Marginal densities on the diagonal, 50% and 90% highest-density regions below it, for the first 6
    parameters.

    draws: method -> (n, d); lower, upper: bounds of the prior (d,), may be infinite. The axes span the draws
    (from the 0.1% to the 99.9% quantile) and the true value, and end at a bound.
    """
    d = min(len(names), _MOST_PAIRED)
    shown = [*draws.values(), *([] if truth is None else [truth[None]])]
    limits = [_limits([values[:, j] for values in shown], float(lower[j]), float(upper[j])) for j in range(d)]
    cell = (4.8, 3.1, 2.8, 2.4, 2.0, 1.7)[d - 1]
    with drawing(cell * d, cell * d * 0.9 if d > 1 else 3.0) as figure:
        for column, row in combinations_with_replacement(range(d), 2):
            axes = figure.add_subplot(d, d, row * d + column + 1)
            pair = [row] if row == column else [column, row]
            for i, (name, values) in enumerate(draws.items()):
                _draw_density(axes, values[:, pair], lower[pair], upper[pair], colour_of(i, name))
            _frame(axes, limits, truth, row, column)
            axes.set(
                xlabel=_short(names[column]) if row == d - 1 else "",
                ylabel=_short(names[row]) if 0 == column < row else "",
            )
            axes.tick_params(labelbottom=row == d - 1, labelleft=0 == column < row)
        figure.align_ylabels()
        handles = _handles(draws)
        handles += (
            [] if truth is None else [Line2D([], [], color=INK, lw=0.9, ls=_DASHED, label="true value")]
        )
        handles += (
            [Line2D([], [], ls="", label=f"first {d} of {len(names)} parameters")] if len(names) > d else []
        )
        figure.legend(
            handles=handles, loc="upper right" if d > 1 else "outside upper center", ncols=1 if d > 1 else 2
        )
        return to_svg(figure, f"Joint posterior of {', '.join(names[:d])} by: {', '.join(draws)}.")


def history_figure(train_loss: Sequence[float], valid_loss: Sequence[float], best_epoch: int) -> str:
    """Mean loss in nats by epoch, on the training rows and on rows kept apart; best_epoch counts from 0, the
    axis from 1.
    """
    with drawing(6.6, 2.7) as figure:
        axes = figure.subplots()
        marker = "o" if len(valid_loss) < _FEW_EPOCHS else ""
        for losses, colour, label in (
            (train_loss, "#8a949d", "training rows"),
            (valid_loss, METHOD_COLOURS[0], "rows kept apart"),
        ):
            axes.plot(
                np.arange(1, len(losses) + 1),
                losses,
                color=colour,
                lw=1.4,
                marker=marker,
                ms=3.5,
                label=label,
            )
        settled = max(len(valid_loss) // 20, min(len(valid_loss) - 1, 1))
        later = np.array([*train_loss[settled:], *valid_loss[settled:]])
        later = later[np.isfinite(later)]
        if len(later) and np.ptp(later) > 0:
            axes.set_ylim(later.min() - 0.08 * np.ptp(later), later.max() + 0.12 * np.ptp(later))
        if 0 <= best_epoch < len(valid_loss):
            axes.axvline(best_epoch + 1, color=RULE, lw=0.8, zorder=0)
            best = f"best: epoch {best_epoch + 1}, {valid_loss[best_epoch]:.3f}".replace("-", "\u2212")
            axes.plot(
                best_epoch + 1,
                valid_loss[best_epoch],
                "o",
                ms=6,
                mfc="white",
                mec=METHOD_COLOURS[0],
                mew=1.6,
                ls="",
                label=best,
            )
        axes.set(
            xlabel="epoch", ylabel="loss (nats)", xlim=(0.5, max(len(train_loss), len(valid_loss)) + 0.5)
        )
        _tick(axes.xaxis, 8, integer=True)
        _tick(axes.yaxis, 5)
        figure.legend(loc="outside upper center", ncols=3)
        return to_svg(figure, f"Loss by epoch over {len(valid_loss)} epochs, best in epoch {best_epoch + 1}.")


def _series(y: F, simulated: Mapping[str, F], labels: Sequence[str]) -> str:
    channels = min(y.shape[1], _MOST_CHANNELS)
    titles = list(labels) or [f"channel {c + 1}" for c in range(y.shape[1])]
    time = np.arange(1, len(y) + 1)
    bands = np.stack([_quantiles(rows) for rows in simulated.values()])
    views = [_view(y[:, c], bands[:, [0, -1], :, c]) for c in range(channels)]
    with drawing(10.0, 0.45 + 1.5 * len(simulated)) as figure:
        for (i, name), c in product(enumerate(simulated), range(channels)):
            axes = figure.add_subplot(len(simulated), channels, i * channels + c + 1)
            seen, colour = y[:, c], colour_of(i, name)
            low, quarter, median, three_quarters, high = bands[i, :, :, c]
            axes.fill_between(time, low, high, color=colour, alpha=0.18, lw=0)
            axes.fill_between(time, quarter, three_quarters, color=colour, alpha=0.32, lw=0)
            axes.plot(time, median, color=colour, lw=1.1, alpha=0.85)
            axes.plot(
                time, seen, color=INK, lw=0.6, marker="o" if len(y) <= _MOST_DOTS else "", ms=2.2, mew=0
            )
            inside = (
                f"{np.mean((low <= seen) & (seen <= high)):.0%} in 90% band"
                if len(simulated[name])
                else "none finite"
            )
            axes.set_title(_short(name, 60 // channels), loc="left", color=colour, weight="bold")
            axes.set_title(inside, loc="right", color=GREY, size=8)
            axes.set_ylabel(_short(titles[c], 16) if y.shape[1] > 1 or labels else "")
            last = i == len(simulated) - 1
            axes.set(xlim=(0.5, len(y) + 0.5), ylim=views[c], xlabel="time step" if last else "")
            axes.tick_params(labelbottom=last)
            _tick(axes.xaxis, 10 // channels, integer=True)
            _tick(axes.yaxis, 4)
        if y.shape[1] > channels:
            figure.supxlabel(f"the first {channels} of {y.shape[1]} channels", size=8, color=GREY)
        return to_svg(
            figure, f"Observed series of {len(y)} steps over what is predicted by: {', '.join(simulated)}."
        )


def _vector(y: F, simulated: Mapping[str, F], entries: Sequence[str], text: str) -> str:
    with drawing(min(10.0, 2.4 + 0.9 * len(y)), 3.2) as figure:
        axes = figure.subplots()
        offsets = (np.arange(len(simulated)) - (len(simulated) - 1) / 2) * min(0.22, 0.66 / len(simulated))
        for j in range(len(y)):
            axes.hlines(y[j], j - 0.4, j + 0.4, color=INK, lw=1.4)
        for i, (name, rows) in enumerate(simulated.items()):
            low, quarter, median, three_quarters, high = _quantiles(rows)
            x, colour = np.arange(len(y)) + offsets[i], colour_of(i, name)
            axes.vlines(x, low, high, color=colour, lw=1.2)
            axes.vlines(x, quarter, three_quarters, color=colour, lw=4, alpha=0.55)
            axes.plot(x, median, "o", color=colour, ms=4.5, mec="white", mew=0.8)
        axes.set(
            xlim=(-0.6, len(y) - 0.4),
            xticks=range(len(y)),
            xticklabels=[_short(entry, 12) for entry in entries],
        )
        _tick(axes.yaxis, 6)
        figure.legend(
            handles=[Line2D([], [], color=INK, lw=1.4, label="observed"), *_handles(simulated)],
            loc="outside upper left",
            ncols=3,
        )
        return to_svg(figure, text)


def _forest(draws: Mapping[str, F], names: Sequence[str], marks: F | None, mark: str, text: str) -> str:
    shown = min(len(names), _MOST_MARGINALS)
    columns = min(shown, 3 if shown != 4 else 2)
    rows = -(-shown // columns)
    line = "-" if mark == "observed" else _DASHED
    with drawing(1.3 + 2.9 * columns, rows * (0.72 + 0.27 * len(draws)) + 0.3) as figure:
        for place in range(shown):
            axes = figure.add_subplot(rows, columns, place + 1)
            for i, (name, values) in enumerate(draws.items()):
                low, quarter, median, three_quarters, high = _quantiles(values[:, place])
                axes.hlines(i, low, high, color=colour_of(i, name), lw=1.3)
                axes.hlines(i, quarter, three_quarters, color=colour_of(i, name), lw=4.5, alpha=0.55)
                axes.plot(median, i, "o", color=colour_of(i, name), ms=5, mec="white", mew=0.8)
            if marks is not None:
                axes.axvline(marks[place], color=INK, lw=1.0, ls=line, zorder=0)
            axes.set_title(_short(names[place], 32), loc="left", weight="bold")
            axes.set_yticks(range(len(draws)), list(draws) if place % columns == 0 else [""] * len(draws))
            for label, handle in zip(axes.get_yticklabels(), _handles(draws), strict=True):
                label.set(color=handle.get_color(), size=9)
            axes.set_ylim(len(draws) - 0.45, -0.55)
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
            _tick(axes.xaxis, 5)
        if marks is not None:
            figure.legend(
                handles=[Line2D([], [], color=INK, lw=1.0, ls=line, label=mark)], loc="outside upper right"
            )
        if len(names) > shown:
            figure.supxlabel(f"the first {shown} of {len(names)}", size=8, color=GREY)
        return to_svg(figure, text)


def _draw_density(axes: Axes, x: F, lower: F, upper: F, colour: str) -> None:
    """The density of draws (n, 1) as a curve, of draws (n, 2) as its 50% and 90% regions."""
    grids, density = _density(x, lower, upper)
    if len(grids) == 1:
        axes.fill_between(grids[0], density, color=colour, alpha=0.08, lw=0)
        axes.plot(grids[0], density, color=colour, lw=1.5)
        return
    mass = np.sort(density[1:-1, 1:-1], axis=None)[::-1]
    outer, inner = mass[np.searchsorted(np.cumsum(mass), np.array([0.9, 0.5]) * mass.sum())]
    if 0 < outer < inner < mass[0]:
        axes.contourf(
            *grids,
            density.T,
            levels=[outer, inner, 1.01 * mass[0]],
            colors=[to_rgba(colour, 0.07), to_rgba(colour, 0.2)],
        )
        axes.contour(*grids, density.T, levels=[outer, inner], colors=[colour], linewidths=[0.9, 1.3])


def _density(x: F, lower: F, upper: F) -> tuple[list[F], F]:
    """The density of draws (n, k), k = 1 or 2, on grids that end at the bounds where the draws do.

    The kernel's width is n^(-1/(4 + k)) standard deviations (Scott 1992), or 1/2 or 1/4 of that where it
    gives each draw a likelihood under the others that is higher by 0.05 nats on average (after Habbema 1974):
    thin, bent or split posteriors stay so.
    """
    k, bins = x.shape[1], 256 if x.shape[1] == 1 else 112
    points, repeats = np.unique(x, axis=0, return_counts=True)
    widths = len(points) ** (-1 / (4 + k)) * np.maximum(x.std(axis=0), 1e-6 * np.abs(x).max(axis=0) + 1e-12)
    low, high = np.quantile(x, (0.001, 0.999), axis=0)
    low, high = np.maximum(low - 4 * widths, lower), np.minimum(high + 4 * widths, upper)
    cells = np.floor((points - low) / (high - low) * bins).astype(np.int64)
    inside = np.all((cells >= 0) & (cells <= bins), axis=1)
    places, repeats = tuple(np.minimum(cells[inside], bins - 1).T), repeats[inside]
    counts = np.zeros((bins,) * k)
    np.add.at(counts, places, repeats)
    fits = []
    for shrink in (1.0, 0.5, 0.25):
        sigma = np.maximum(shrink * widths / (high - low) * bins, 0.7)
        smooth = gaussian_filter(counts, sigma, mode="reflect")
        others = smooth[places] - repeats / np.prod(np.sqrt(2 * np.pi) * sigma)
        fits.append((float(repeats @ np.log(np.maximum(others, 1e-9))), smooth))
    enough = max(score for score, _ in fits) - _TOLERANCE * len(x)
    density = next(smooth for score, smooth in fits if score >= enough) / (
        len(x) * np.prod((high - low) / bins)
    )
    ends = [np.linspace(a, b, bins + 1) for a, b in zip(low, high, strict=True)]
    return [np.concatenate([edge[:1], (edge[1:] + edge[:-1]) / 2, edge[-1:]]) for edge in ends], np.pad(
        density, 1, mode="edge"
    )


def _limits(columns: Sequence[F], lower: float, upper: float) -> tuple[float, float]:
    ends = [np.quantile(x, (0.001, 0.999)) for x in columns]
    low, high = float(np.min(ends)), float(np.max(ends))
    air = 0.06 * (high - low) or 1e-2 * max(abs(low), 1e-2)
    return max(low - air, lower), min(high + air, upper)


def _frame(axes: Axes, limits: Sequence[tuple[float, float]], truth: F | None, row: int, column: int) -> None:
    axes.set_xlim(*limits[column])
    _tick(axes.xaxis, 4)
    if truth is not None:
        axes.axvline(truth[column], color=INK, lw=0.8, ls=_DASHED)
    if row == column:
        axes.set(ylim=(0, None), yticks=[])
        axes.spines["left"].set_visible(False)
        return
    axes.set_ylim(*limits[row])
    _tick(axes.yaxis, 4)
    if truth is not None:
        axes.axhline(truth[row], color=INK, lw=0.8, ls=_DASHED)


def _tick(axis: Axis, most: int, integer: bool = False) -> None:
    axis.set_major_locator(
        MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10], integer=integer, min_n_ticks=1 if integer else 2)
    )


def _handles(methods: Iterable[str]) -> list[Line2D]:
    return [Line2D([], [], color=colour_of(i, name), lw=2.2, label=name) for i, name in enumerate(methods)]


def _view(seen: F, ends: F) -> tuple[float, float]:
    """Limits that show the observed values, and bands as far as 1.5 times the observed range beyond them."""
    low, high = float(seen.min()), float(seen.max())
    room = _ROOM * (high - low) or np.inf
    finite = ends[np.isfinite(ends)]
    if len(finite):
        low, high = (
            min(low, max(float(finite.min()), low - room)),
            max(high, min(float(finite.max()), high + room)),
        )
    air = 0.05 * (high - low) or 1.0
    return low - air, high + air


def _finite_rows(values: F, shape: tuple[int, ...]) -> F:
    rows = np.asarray(values, dtype=np.float64).reshape(-1, *shape)
    return rows[np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))]


def _quantiles(rows: F) -> F:
    return (
        np.asarray(np.quantile(rows, _LEVELS, axis=0))
        if len(rows)
        else np.full((len(_LEVELS), *rows.shape[1:]), np.nan)
    )


def _one_scale(y: F, simulated: Mapping[str, F]) -> bool:
    """Whether no entry's intervals would be too short to see on an axis that holds them all."""
    ends = np.concatenate([y[None], *(_quantiles(rows) for rows in simulated.values())])
    lengths = np.nanmax(ends, axis=0) - np.nanmin(ends, axis=0)
    return bool(np.nanmax(ends) - np.nanmin(ends) <= _SAME_SCALE * lengths.min())


def _short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
