"""Observed data over what each posterior predicts, by what the data are.

series       bands over time, a panel for each method and channel; gaps are gaps
vector       intervals at each entry
set          x_(1) <= ... <= x_(k), the members of each channel in order of size, over the same of
             predicted sets; of series, each member over bands of all predicted ones
grid         the observed map beside mean predicted maps
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from sbi_flows.arrays import F
from sbi_flows.report.figures import DOT, MOST_PANELS, Marks, bars, forest, quantiles
from sbi_flows.report.map_figures import map_figure
from sbi_flows.report.observed import DataArray, mean_seen
from sbi_flows.report.svg import GREY, INK, drawing, handles, short, tick, to_svg

_MOST_CHANNELS, _MOST_DOTS, _MOST_MEMBERS = 3, 150, 40
_SAME_SCALE, _ROOM = 20.0, 1.5


def observed_figure(y_obs: ArrayLike, predictive: Mapping[str, F], colours: Mapping[str, str]) -> str:
    """One event (*event,) of which nothing is known and, for each method, predicted data (n, *event)."""
    return data_figures([DataArray(np.asarray(y_obs, dtype=np.float64), predictive)], colours)


def data_figures(arrays: Sequence[DataArray], colours: Mapping[str, str]) -> str:
    """A figure for each array, one below the other, as `<svg>` elements. colours: of the methods."""
    return "\n".join(_figure(array.usable, colours) for array in arrays)


def _figure(array: DataArray, colours: Mapping[str, str]) -> str:
    kind = array.shown_as
    if kind == "vector":
        return _vector(array, colours)
    if kind == "set of vector":
        return _set(array, colours)
    if kind == "set of series":
        return _set_of_series(array, colours)
    if kind == "set of grid":
        return _figure(_mean_member(array), colours)
    if kind == "grid" and array.places > 1:
        return map_figure(array, colours)
    along = "place" if kind == "grid" else "time step"
    return _lines(array, _Lines.of(array), colours, along, "series")


@dataclass(frozen=True)
class _Lines:
    """What is drawn of each method along one axis: bands between quantiles, and observed lines over them.

    observed: (lines, T, channels). bands: method -> (5, T, channels), NaN where nothing was predicted. any:
    methods that predicted something.
    """

    observed: F
    bands: Mapping[str, F]
    any: frozenset[str]

    @classmethod
    def of(cls, array: DataArray) -> _Lines:
        rows = {name: array.by_channel(values) for name, values in array.predicted.items()}
        return cls.from_rows(array.by_channel(array.observed)[None], rows)

    @classmethod
    def from_rows(cls, observed: F, rows: Mapping[str, F]) -> _Lines:
        bands = {name: quantiles(values) for name, values in rows.items()}
        return cls(observed, bands, frozenset(name for name, values in rows.items() if len(values)))


def _lines(array: DataArray, drawn: _Lines, colours: Mapping[str, str], along: str, what: str) -> str:
    _, length, all_channels = drawn.observed.shape
    channels = min(all_channels, _MOST_CHANNELS)
    methods = len(drawn.bands)
    bands = np.stack(list(drawn.bands.values()))
    views = [_view(drawn.observed[:, :, c], bands[:, [0, -1], :, c]) for c in range(channels)]
    with drawing(10.0, 0.45 + 1.5 * methods + _room_for(array)) as figure:
        _named(figure, array)
        for (i, name), c in product(enumerate(drawn.bands), range(channels)):
            axes = figure.add_subplot(methods, channels, i * channels + c + 1)
            share = _bands(axes, drawn.observed[:, :, c], bands[i, :, :, c], colours[name])
            inside = "none finite" if name not in drawn.any else _in_band(share)
            axes.set_title(short(name, 60 // channels), loc="left", color=colours[name], weight="bold")
            axes.set_title(inside, loc="right", color=GREY, size=8)
            axes.set_ylabel(short(array.channel(c, all_channels), 20))
            last = i == methods - 1
            axes.set(xlim=(0.5, length + 0.5), ylim=views[c], xlabel=along if last else "")
            axes.tick_params(labelbottom=last)
            tick(axes.xaxis, 10 // channels, integer=True)
            tick(axes.yaxis, 4)
        if all_channels > channels:
            figure.supxlabel(f"the first {channels} of {all_channels} channels", size=8, color=GREY)
        steps = "steps" if what == "series" else "members"
        of = f" {array.name}" if array.name else ""
        label = f"Observed {what}{of} of {length} {steps}, and {what} predicted by: {', '.join(drawn.bands)}."
        return to_svg(figure, label)


def _bands(axes: Axes, seen: F, ends: F, colour: str) -> float:
    """Draw lines (lines, T) over predicted bands; return the share of observed values in the outer one."""
    time = np.arange(1, seen.shape[1] + 1)
    low, quarter, median, three_quarters, high = ends
    axes.fill_between(time, low, high, color=colour, alpha=0.18, lw=0)
    axes.fill_between(time, quarter, three_quarters, color=colour, alpha=0.32, lw=0)
    axes.plot(time, median, color=colour, lw=1.1, alpha=0.85)
    there = ~np.isnan(seen)
    dots = seen.shape[1] <= _MOST_DOTS or not there.all()
    for line in seen[:_MOST_MEMBERS]:
        axes.plot(time, line, color=INK, lw=0.6, marker="o" if dots and len(seen) == 1 else "", ms=2.2, mew=0)
    inside = ((low <= seen) & (seen <= high))[there]
    return float(np.mean(inside)) if inside.size else np.nan


def _in_band(share: float) -> str:
    return "nothing observed" if np.isnan(share) else f"{share:.0%} in 90% band"


def _set(array: DataArray, colours: Mapping[str, str]) -> str:
    """The members of each channel in order of size, as a series; a single member as a vector."""
    seen = array.by_channel(array.observed)
    there = ~np.isnan(seen)
    most = int(there.sum(axis=0).max())
    if most <= 1:
        return _vector(_single_member(array, seen, there), colours)
    observed = np.full((most, seen.shape[1]), np.nan)
    rows = {name: np.full((len(values), *observed.shape), np.nan) for name, values in array.predicted.items()}
    for c in range(seen.shape[1]):
        k = int(there[:, c].sum())
        observed[:k, c] = np.sort(seen[there[:, c], c])
        for name, values in array.predicted.items():
            rows[name][:, :k, c] = _ordered(array.by_channel(values)[:, there[:, c], c], k)
    return _lines(array, _Lines.from_rows(observed[None], rows), colours, "member, in order of size", "set")


def _ordered(values: F, k: int) -> F:
    """k values of each row (n, k) in order of size; of a row with gaps, its quantiles at (i - 1/2) / k."""
    missing = np.isnan(values)
    if not missing.any():
        return np.sort(values, axis=1)
    found = np.full((len(values), k), np.nan)
    some = ~missing.all(axis=1)
    at = (np.arange(k) + 0.5) / k
    found[some] = np.nanquantile(values[some], at, axis=1, method="hazen").T
    return found


def _single_member(array: DataArray, seen: F, there: F) -> DataArray:
    """A set of which one member was observed, as a vector."""
    member = int(np.argmax(there.any(axis=1)))
    rows = {name: array.by_channel(values)[:, member] for name, values in array.predicted.items()}
    return replace(array, observed=seen[member], predicted=rows, kind="vector", places=0)


def _set_of_series(array: DataArray, colours: Mapping[str, str]) -> str:
    seen = array.by_channel(array.observed)
    seen = seen[~np.isnan(seen).all(axis=(1, 2))]
    rows = {}
    for name, values in array.predicted.items():
        members = array.by_channel(values)
        rows[name] = members.reshape(-1, *members.shape[2:])
    return _lines(array, _Lines.from_rows(seen, rows), colours, "time step", "series")


def _mean_member(array: DataArray) -> DataArray:
    """A set of grids as the grid of its mean, over the members that were observed."""
    there = ~np.isnan(array.observed).reshape(len(array.observed), -1).all(axis=1)
    rows = {name: mean_seen(values[:, there], 1) for name, values in array.predicted.items()}
    observed = mean_seen(array.observed[there], 0)
    name = ": ".join(filter(None, [array.name, "mean over the members"]))
    return replace(array, observed=observed, predicted=rows, name=name, kind="grid", places=array.places - 1)


def _vector(array: DataArray, colours: Mapping[str, str]) -> str:
    """Intervals at each entry: on one axis where the scales are alike, else on one axis each."""
    y = array.observed.ravel()
    flat = {name: rows.reshape(len(rows), y.size) for name, rows in array.predicted.items()}
    named = array.channels is not None and len(array.channels) == y.size
    entries = list(array.channels or ()) if named else [f"entry {i + 1}" for i in range(y.size)]
    many = "1 entry" if y.size == 1 else f"{y.size} entries"
    what = f"data {array.name}" if array.name else "data"
    text = f"Observed {what} of {many}, and data predicted by: {', '.join(flat)}."
    if y.size > 1 and _one_scale(y, flat):
        if y.size > MOST_PANELS:
            wide = replace(array, observed=y, predicted=flat, channels=None, places=1)
            return _lines(wide, _Lines.of(wide), colours, "entry", "vector")
        return _on_one_axis(array, flat, colours, entries, text)
    title = f"{array.name}: " if array.name else ""
    names = [f"{title}{entry}" for entry in entries]
    return forest(flat, colours, names, Marks("observed", y, "-"), text)


def _on_one_axis(
    array: DataArray,
    simulated: Mapping[str, F],
    colours: Mapping[str, str],
    entries: Sequence[str],
    text: str,
) -> str:
    y = array.observed.ravel()
    with drawing(min(10.0, 2.4 + 0.9 * len(y)), 3.2 + _room_for(array)) as figure:
        axes = figure.subplots()
        offsets = (np.arange(len(simulated)) - (len(simulated) - 1) / 2) * min(0.22, 0.66 / len(simulated))
        at = np.arange(len(y))
        there = ~np.isnan(y)
        axes.hlines(y[there], at[there] - 0.4, at[there] + 0.4, color=INK, lw=1.4)
        for offset, (name, rows) in zip(offsets, simulated.items(), strict=True):
            ends = quantiles(rows)
            bars(axes.vlines, at + offset, ends, colours[name])
            axes.plot(at + offset, ends[2], "o", color=colours[name], **DOT)
        axes.set(xlim=(-0.6, len(y) - 0.4), xticks=at, xticklabels=[short(entry, 12) for entry in entries])
        tick(axes.yaxis, 6)
        if array.name:
            axes.set_title(short(array.name, 40), loc="left", weight="bold")
        seen = Line2D([], [], color=INK, lw=1.4, label="observed")
        figure.legend(handles=[seen, *handles(colours)], loc="outside upper left", ncols=3)
        return to_svg(figure, text)


def _room_for(array: DataArray) -> float:
    """Inches for the name."""
    return 0.25 if array.name else 0.0


def _named(figure: Figure, array: DataArray) -> None:
    if array.name:
        named: dict[str, Any] = {"x": 0.01, "ha": "left", "size": 10, "weight": "bold"}
        figure.suptitle(short(array.name, 60), **named)


def _view(seen: F, ends: F) -> tuple[float, float]:
    """Limits that show the observed values, and bands up to 1.5 times the observed range beyond them."""
    finite = ends[np.isfinite(ends)]
    shown = seen[~np.isnan(seen)]
    if not len(shown):
        shown = finite if len(finite) else np.zeros(1)
    low, high = float(shown.min()), float(shown.max())
    room = _ROOM * (high - low) or np.inf
    if len(finite):
        lowest, highest = max(float(finite.min()), low - room), min(float(finite.max()), high + room)
        low, high = min(low, lowest), max(high, highest)
    air = 0.05 * (high - low) or 1.0
    return low - air, high + air


def _one_scale(y: F, simulated: Mapping[str, F]) -> bool:
    """Whether every entry's intervals are long enough to see on one axis that holds them all."""
    ends = np.concatenate([y[None], *(quantiles(rows) for rows in simulated.values())])
    high, low = np.fmax.reduce(ends, axis=0), np.fmin.reduce(ends, axis=0)
    lengths = high - low
    return bool(np.fmax.reduce(high) - np.fmin.reduce(low) <= _SAME_SCALE * np.fmin.reduce(lengths))
