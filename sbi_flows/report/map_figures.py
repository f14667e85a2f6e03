"""Maps: what was observed beside the mean of what each method predicts, cell by cell.

Cells of one colour are one path, so that a map of 64 x 64 places stays a small part of a page.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from sbi_flows.arrays import F
from sbi_flows.report.figures import quantiles
from sbi_flows.report.observed import DataArray, mean_seen
from sbi_flows.report.svg import GREY, INK, drawing, short, tick, to_svg

_MOST_CHANNELS, _MOST_CELLS, _COLOURS = 3, 64, 40
_WIDEST = 2.4
_BLANK = "#e4e7ea"
_CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) - 0.5
_CODES = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]


def map_figure(array: DataArray, colours: Mapping[str, str]) -> str:
    """A row of maps for each of the first 3 channels, on one scale. Three axes: the mean over the third. The
    shares are of all observed places.
    """
    seen = array.by_channel(array.observed)
    rows = {name: array.by_channel(values) for name, values in array.predicted.items()}
    ends = {name: quantiles(values)[[0, -1]] for name, values in rows.items()}
    channels, methods = min(seen.shape[-1], _MOST_CHANNELS), len(rows)
    flat = {"observed": _flat(seen), **{name: _flat(mean_seen(values)) for name, values in rows.items()}}
    wide = min(_WIDEST, 10.0 / (methods + 1.35))
    tall = min(2 * wide, max(0.5, wide * flat["observed"].shape[0] / flat["observed"].shape[1])) + 0.5
    heading = ": ".join(
        filter(None, [short(array.name, 60), "mean over the third axis" if seen.ndim > 3 else ""])
    )
    with drawing(wide * (methods + 1.35), tall * channels + (0.3 if heading else 0.05)) as figure:
        panels = figure.subplots(channels, methods + 1, squeeze=False)
        if heading:
            figure.suptitle(heading, x=0.01, ha="left", size=10, weight="bold")
        for c in range(channels):
            scale = _scale([values[:, :, c] for values in flat.values()])
            for axes, (name, values) in zip(panels[c], flat.items(), strict=True):
                _mosaic(axes, _coarse(values[:, :, c]), scale)
                if c == 0:
                    colour = INK if name == "observed" else colours[name]
                    axes.set_title(short(name, 24), color=colour, weight="bold", size=9)
                if name in ends:
                    axes.set_xlabel(
                        _share(seen[..., c], ends[name][..., c], len(rows[name])), color=GREY, size=8
                    )
            panels[c][0].set_ylabel(short(array.channel(c, seen.shape[-1]), 20))
            bar = figure.colorbar(
                ScalarMappable(scale, _palette()), ax=list(panels[c]), fraction=0.02, pad=0.01
            )
            bar.outline.set_visible(False)
            if bar.solids is not None:
                bar.solids.set_edgecolor("face")
            tick(bar.ax.yaxis, 4)
        if seen.shape[-1] > channels:
            figure.supxlabel(f"the first {channels} of {seen.shape[-1]} channels", size=8, color=GREY)
        size = " x ".join(map(str, seen.shape[:-1]))
        of = f" {array.name}" if array.name else ""
        return to_svg(
            figure, f"Observed map{of} of {size} places, and mean maps predicted by: {', '.join(rows)}."
        )


def _palette() -> Colormap:
    return colormaps["viridis"].resampled(_COLOURS)


def _flat(values: F) -> F:
    """(a, b, channels) of (a, b, ..., channels)."""
    while values.ndim > 3:
        values = mean_seen(np.moveaxis(values, 2, 0))
    return values


def _coarse(values: F) -> F:
    """At most 64 cells along each axis: means of blocks of equal size, of those that are there."""
    for _ in range(2):
        block = -(-len(values) // _MOST_CELLS)
        starts = range(0, len(values), block)
        values = np.stack([mean_seen(values[start : start + block]) for start in starts]).T
    return values


def _scale(maps: list[F]) -> Normalize:
    values = np.concatenate([one.ravel() for one in maps])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return Normalize(low, high if high > low else low + 1.0)


def _mosaic(axes: Axes, values: F, scale: Normalize) -> None:
    """Cells in the first of 40 colours that suit them; blank where there is no value."""
    there = ~np.isnan(values)
    levels = np.zeros(values.shape, dtype=np.int64)
    levels[there] = np.clip(np.asarray(scale(values[there])) * _COLOURS, 0, _COLOURS - 1).astype(np.int64)
    palette = _palette()
    for level in np.unique(levels[there]):
        cells = np.argwhere(there & (levels == level))[:, ::-1]
        corners = (cells[:, None] + _CORNERS).reshape(-1, 2)
        colour = palette(int(level))
        axes.add_patch(PathPatch(Path(corners, _CODES * len(cells)), fc=colour, ec=colour, lw=0.3))
    axes.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(values.shape[0] - 0.5, -0.5), xticks=[], yticks=[])
    axes.set_facecolor(_BLANK)
    axes.set_aspect("equal")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _share(seen: F, ends: F, predicted: int) -> str:
    there = ~np.isnan(seen)
    if not predicted:
        return "none finite"
    if not there.any():
        return "nothing observed"
    low, high = ends
    return f"{np.mean(((low <= seen) & (seen <= high))[there]):.0%} in 90% interval"
