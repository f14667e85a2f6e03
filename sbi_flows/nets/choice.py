"""Which summary network: the table of them, and the rule that chooses one.

The series network sees y through local windows and averages over time, so it suits data made by one process
along an axis.
The rule asks the simulations whether they are that: a long first axis whose neighbours depend on one another
more (or less) than distant steps do.

Places of a map depend on their neighbours along two axes or three. What is declared, `data=sf.Series()`, is
not asked for again.

To add a network, write an `nn.Module` (rows, places, channels) -> (rows, summary_features), NaN where a value
is missing, in a file of its own, and name it in `NETWORKS`; `sf.FitSettings(summary=name)` then trains it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import nn

from sbi_flows.nets import several
from sbi_flows.nets.grid import GridSummary
from sbi_flows.nets.joined import AddedSummaries, JoinedColumns
from sbi_flows.nets.layout import Layout, Part
from sbi_flows.nets.series import MaskedSeries, SeriesSummary
from sbi_flows.nets.set import SetOf, SetSummary
from sbi_flows.nets.several import SeveralSummary
from sbi_flows.nets.vector import MaskedVector, ScreenedSummary
from sbi_flows.problem.data import Grid, Kind, Set
from sbi_flows.problem.events import Table

Build = Callable[[Part, int, int], nn.Module]
_SHORTEST_SERIES = 25
_SHORTEST_AXIS, _LEAST_IN_SPACE = 8, 0.04
_MOST_CHANNELS = 8
_LEAST_DEPENDENCE = 0.1
_ROWS_TO_LOOK_AT = 5000


@dataclass(frozen=True)
class SummaryNetwork:
    """build(part, summary_features, width): the untrained module for scaled arrays of that form. masked: the
    one for arrays with missing values, if it is another.

    shared: whether places are alike and scaled alike, in every channel; else the elements are columns of a
    vector.
    screened: whether the module is a `ScreenedSummary`, from which columns that say nothing can be hidden.
    passes, least_rows: training sees each of n simulations `passes` times, and at least `least_rows` rows.
    decay_rows, most_decay: the weight decay for n simulations is decay_rows / n, at most most_decay.
    """

    build: Build
    masked: Build | None = None
    shared: bool = False
    screened: bool = False
    passes: int = 30
    least_rows: int = 1_000_000
    decay_rows: float = 1000.0
    most_decay: float = 0.3


def _set(part: Part, features: int, width: int) -> nn.Module:
    members, *axes = part.axes
    if not axes:
        return SetSummary(members, part.channels, features, width)
    kind = "series" if len(axes) == 1 else "grid"
    one = Part("", kind, tuple(axes), part.channels)
    item = network_of(one, features, width, masked=True)
    return SetOf(members, math.prod(axes), item, features, features, width)


NETWORKS = {
    "vector": SummaryNetwork(
        lambda part, features, width: ScreenedSummary(part.channels, features, width),
        masked=lambda part, features, width: MaskedVector(part.channels, features, width),
        screened=True,
    ),
    "series": SummaryNetwork(
        lambda part, features, width: SeriesSummary(part.axes[0], part.channels, features, width),
        masked=lambda part, features, width: MaskedSeries(part.channels, features, width),
        shared=True,
        decay_rows=3000.0,
        most_decay=0.5,
    ),
    "set": SummaryNetwork(_set, shared=True, decay_rows=3000.0, most_decay=0.5),
    "grid": SummaryNetwork(
        lambda part, features, width: GridSummary(part.axes, part.channels, features, width),
        shared=True,
        passes=25,
        least_rows=500_000,
        decay_rows=12_000.0,
        most_decay=1.0,
    ),
}


def network_of(part: Part, summary_features: int, width: int, *, masked: bool) -> nn.Module:
    """The untrained network of one part."""
    network = NETWORKS[part.network]
    build = network.masked if masked and network.masked is not None else network.build
    return build(part, summary_features, width)


def summary_network(
    layout: Layout, declared: tuple[int, ...], summary_features: int, width: int
) -> nn.Module:
    """The untrained network for inputs of that layout. declared: (k,) where k declared summaries join, else
    ().
    """
    size = summary_features, width
    if len(layout.parts) > 1 or layout.parts[0].name:
        network: nn.Module = SeveralSummary(_tables(layout, *size), *size)
    else:
        (one,) = layout.parts
        if declared and one.network == "vector" and not layout.masked:
            joined = Part("", one.network, one.axes, one.channels + declared[0])
            return JoinedColumns(network_of(joined, *size, masked=False))
        network = network_of(one, *size, masked=layout.masked)
    return AddedSummaries(network, declared[0], *size) if declared else network


def _tables(layout: Layout, summary_features: int, width: int) -> list[several.Part]:
    """A network for each array, and where its numbers are.

    Series and vectors of one length are seen together, as channels of one series: what they have to do with
    one another at a step is lost in summaries of each. A vector has a network of its own besides.
    """
    ends = np.cumsum([part.size for part in layout.parts])
    starts = dict(zip(layout.parts, (ends - [part.size for part in layout.parts]).tolist(), strict=True))
    tables = []
    for together in aligned(layout.parts):
        steps = together[0].axes[0]
        each = [_of_each_step(part, steps, starts[part]) for part in together]
        where = np.concatenate(each, axis=1)
        joint = Part("", "series", (steps,), where.shape[1])
        network = MaskedSeries(joint.channels, summary_features, width)
        tables.append(several.Part(where.ravel().tolist(), where.shape, network, summary_features))
    seen = {part for together in aligned(layout.parts) for part in together if part.network == "series"}
    for part in layout.parts:
        if part not in seen:
            network_alone = network_of(part, summary_features, width, masked=layout.masked)
            at = slice(starts[part], starts[part] + part.size)
            tables.append(several.Part(at, _shape(part), network_alone, summary_features))
    return tables


def _of_each_step(part: Part, steps: int, start: int) -> NDArray[np.int64]:
    """Where the numbers of each step are, (steps, channels)."""
    return start + np.arange(part.size).reshape(steps, -1)


def aligned(parts: Sequence[Part]) -> list[list[Part]]:
    """Groups of two or more arrays that go along with a series: series of one length, and vectors of that
    length.
    """
    lengths = dict.fromkeys(part.axes[0] for part in parts if part.network == "series" and part.size)
    groups = [
        [part for part in parts if part.network == "series" and part.axes[0] == steps and part.size]
        + [part for part in parts if part.network == "vector" and part.size == steps]
        for steps in lengths
    ]
    return [group for group in groups if len(group) > 1]


def _shape(part: Part) -> tuple[int, ...]:
    """The shape of one array as its network takes it."""
    return (math.prod(part.axes), part.channels) if NETWORKS[part.network].shared else (part.channels,)


def choose_network(table: Table, y: Shaped[np.ndarray, "n *event"]) -> tuple[str, str]:
    """The name of the network for one array of y (n, *event), by its declaration or by the rule, and the
    reason.
    """
    if table.kind is not None:
        return table.kind.kind, f"declared as {_said(table.kind)}"
    return choose_summary(y)


def _said(kind: Kind) -> str:
    return f"a set of {kind.of.kind}" if isinstance(kind, Set) else f"a {kind.kind}"


def choose_summary(y: Shaped[np.ndarray, "n *event"]) -> tuple[str, str]:
    """The name of the network for simulations y (n, *event), and the reason."""
    event = y.shape[1:]
    if (places := _grid(y[:_ROWS_TO_LOOK_AT])) is not None:
        return "grid", places
    length, channels = (event[0] if event else 1), (event[1] if len(event) == 2 else 1)
    if not 1 <= len(event) <= 2 or length < _SHORTEST_SERIES or channels > _MOST_CHANNELS:
        return (
            "vector",
            f"of shape {event}, not a series of at least {_SHORTEST_SERIES} steps and at most "
            f"{_MOST_CHANNELS} channels",
        )
    near, far = _dependence(_filled(y[:_ROWS_TO_LOOK_AT]).reshape(-1, length, channels))
    numbers = f"largest correlation of powers {near:.2f} between neighbours, {far:.2f} between distant steps"
    if near - far < _LEAST_DEPENDENCE:
        return "vector", f"{length} steps whose order does not show ({numbers})"
    return "series", f"{length} steps in time ({numbers})"


def _grid(y: Shaped[np.ndarray, "n *event"]) -> str | None:
    """Why y (n, *event) is a grid: two or three long axes, along each of which neighbours depend on one
    another.
    """
    axes = Grid().axes(y.shape[1:])
    if len(axes) < 2 or min(axes) < _SHORTEST_AXIS:
        return None
    ranks = _standard(rankdata(_filled(y).reshape(len(y), -1), axis=0)).reshape(len(y), *axes, -1)
    if min(_beyond_distant(np.moveaxis(ranks, 1 + i, 1)) for i in range(len(axes))) < _LEAST_IN_SPACE:
        return None
    return (
        f"a map of {' x '.join(map(str, axes))} places whose neighbours depend on one another along each axis"
    )


def _beyond_distant(ranks: Shaped[np.ndarray, "n T *places"]) -> float:
    """How much more neighbours along the first axis of an event correlate than places half its length
    apart.
    """
    lags = (1, max(ranks.shape[1] // 2, 2))
    near, far = (float((ranks[:, :-lag] * ranks[:, lag:]).mean()) for lag in lags)
    return near - far


def _filled(y: Shaped[np.ndarray, "n *event"]) -> Shaped[np.ndarray, "n *event"]:
    """y with the mean of what is there in place of missing values."""
    return np.where(np.isnan(y), np.nanmean(y), y) if np.isnan(y).any() else y


def _dependence(y: Shaped[np.ndarray, "n T c"]) -> tuple[float, float]:
    """How much neighbouring and distant steps depend on one another beyond what the whole row shares.

    Ranks tame the tails; u is the rank less its mean over the row. The largest absolute mean correlation
    among (u, u), (u^2, u), (u, u^2), (u^2, u^2), because a chaotic map leaves no linear one.
    """
    ranks = rankdata(y, axis=0) / len(y)
    u = ranks - ranks.mean(axis=1, keepdims=True)
    powers = [_standard(u), _standard(np.square(u))]

    def at(lag: int) -> NDArray[np.float64]:
        return np.array([float((a[:, :-lag] * b[:, lag:]).mean()) for a in powers for b in powers])

    length = y.shape[1]
    distant = np.mean([at(lag) for lag in range(length // 3, length // 2)], axis=0)
    return float(np.abs(at(1)).max()), float(np.abs(distant).max())


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((values - values.mean(axis=0)) / (values.std(axis=0) + 1e-12))
