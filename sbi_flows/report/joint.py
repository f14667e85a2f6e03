"""The joint posterior of pairs of parameters, by each method, as one SVG element.

Regions in the plane are those of highest density,

    R_p = {x : f(x) >= c_p},   integral over R_p of f = p,   p = 50%, 90%

(Hyndman 1996), with f a histogram smoothed by a Gaussian kernel that is reflected at the bounds of the prior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from scipy.ndimage import gaussian_filter

from sbi_flows.arrays import F
from sbi_flows.report.svg import DASHED, INK, drawing, handles, short, tick, to_svg

_MOST_PAIRED = 6
_CELLS = (4.8, 3.1, 2.8, 2.4, 2.0, 1.7)
_TOLERANCE = 0.05


def pair_figure(
    draws: Mapping[str, F],
    colours: Mapping[str, str],
    names: Sequence[str],
    bounds: tuple[F, F],
    truth: F | None = None,
) -> str:
    """Marginal densities on the diagonal, 50% and 90% regions below it, for the first 6 parameters.

    draws: method -> (n, d). The axes span the 0.1% to the 99.9% quantile of them and the true value, and end
        at a bound.
    colours: method -> colour.
    bounds: of the prior, lower and upper (d,), may be infinite.
    """
    d = min(len(names), _MOST_PAIRED)
    lower, upper = bounds
    shown = [*draws.values(), *([] if truth is None else [truth[None]])]
    limits = [_limits([values[:, j] for values in shown], float(lower[j]), float(upper[j])) for j in range(d)]
    size = _CELLS[d - 1] * d
    with drawing(size, 0.9 * size if d > 1 else 3.0) as figure:
        for column, row in combinations_with_replacement(range(d), 2):
            axes = figure.add_subplot(d, d, row * d + column + 1)
            pair = [row] if row == column else [column, row]
            for name, values in draws.items():
                _draw_density(axes, values[:, pair], lower[pair], upper[pair], colours[name])
            _frame(axes, limits, truth, row, column)
            bottom, left = row == d - 1, 0 == column < row
            axes.set(xlabel=short(names[column]) if bottom else "", ylabel=short(names[row]) if left else "")
            axes.tick_params(labelbottom=bottom, labelleft=left)
        figure.align_ylabels()
        lines = handles(colours)
        if truth is not None:
            lines.append(Line2D([], [], color=INK, lw=0.9, ls=DASHED, label="true value"))
        if len(names) > d:
            lines.append(Line2D([], [], ls="", label=f"first {d} of {len(names)} parameters"))
        place: dict[str, Any] = (
            {"loc": "upper right"} if d > 1 else {"loc": "outside upper center", "ncols": 2}
        )
        figure.legend(handles=lines, **place)
        return to_svg(figure, f"Joint posterior of {', '.join(names[:d])} by: {', '.join(draws)}.")


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

    The kernel's width is n^(-1/(4 + k)) standard deviations (Scott 1992), or 1/2 or 1/4 of that where the
    smaller width raises the leave-one-out log likelihood by 0.05 nats per draw (after Habbema 1974): thin,
    bent or split posteriors stay so.
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
    best = next(smooth for score, smooth in fits if score >= enough)
    density = best / (len(x) * np.prod((high - low) / bins))
    return [_centres(a, b, bins) for a, b in zip(low, high, strict=True)], np.pad(density, 1, mode="edge")


def _centres(low: float, high: float, bins: int) -> F:
    """The two ends, and the centres of the bins between them."""
    edges = np.linspace(low, high, bins + 1)
    return np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]])


def _limits(columns: Sequence[F], lower: float, upper: float) -> tuple[float, float]:
    ends = [np.quantile(x, (0.001, 0.999)) for x in columns]
    low, high = float(np.min(ends)), float(np.max(ends))
    air = 0.06 * (high - low) or 1e-2 * max(abs(low), 1e-2)
    return max(low - air, lower), min(high + air, upper)


def _frame(axes: Axes, limits: Sequence[tuple[float, float]], truth: F | None, row: int, column: int) -> None:
    axes.set_xlim(*limits[column])
    tick(axes.xaxis, 4)
    if truth is not None:
        axes.axvline(truth[column], color=INK, lw=0.8, ls=DASHED)
    if row == column:
        axes.set(ylim=(0, None), yticks=[])
        axes.spines["left"].set_visible(False)
        return
    axes.set_ylim(*limits[row])
    tick(axes.yaxis, 4)
    if truth is not None:
        axes.axhline(truth[row], color=INK, lw=0.8, ls=DASHED)
