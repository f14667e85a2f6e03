"""Which summary network: the table of them, and the rule that chooses one.

The series network sees y through local windows and averages over time, so it suits data made by one process
along an axis.
The rule asks the simulations whether they are that: a long first axis whose neighbours depend on one another
more (or less) than distant steps do.

To add a network, write an `nn.Module` (rows, *shape) -> (rows, summary_features) in a file of its own, and
name it in `NETWORKS`; `sf.FitSettings(summary=name)` then trains it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import nn

from sbi_flows.nets.joined import AddedSummaries, JoinedColumns
from sbi_flows.nets.series import SeriesSummary
from sbi_flows.nets.vector import ScreenedSummary

_SHORTEST_SERIES = 25
_MOST_CHANNELS = 8
_LEAST_DEPENDENCE = 0.1
_ROWS_TO_LOOK_AT = 5000


@dataclass(frozen=True)
class SummaryNetwork:
    """build(shape, summary_features, width): the untrained module for scaled events of `shape`.

    shared: whether y is (T,) or (T, channels), scaled alike at all steps; else its elements are columns of a
    vector.
    screened: whether the module is a `ScreenedSummary`, from which columns that say nothing can be hidden.
    decay_rows, most_decay: the weight decay for n simulations is decay_rows / n, at most most_decay.
    """

    build: Callable[[tuple[int, ...], int, int], nn.Module]
    shared: bool = False
    screened: bool = False
    decay_rows: float = 1000.0
    most_decay: float = 0.3


NETWORKS = {
    "vector": SummaryNetwork(
        lambda shape, features, width: ScreenedSummary(shape[0], features, width), screened=True
    ),
    "series": SummaryNetwork(
        lambda shape, features, width: SeriesSummary(shape[0], shape[1], features, width),
        shared=True,
        decay_rows=3000.0,
        most_decay=0.5,
    ),
}


def summary_network(
    kind: str, shapes: tuple[tuple[int, ...], ...], summary_features: int, width: int
) -> nn.Module:
    """The untrained network of that kind for inputs of `shapes`: those of y, and of declared summaries if any
    join.
    """
    build = NETWORKS[kind].build
    if len(shapes) == 1:
        return build(shapes[0], summary_features, width)
    event, (declared,) = shapes
    if not NETWORKS[kind].shared:
        return JoinedColumns(build((event[0] + declared,), summary_features, width))
    return AddedSummaries(build(event, summary_features, width), declared, summary_features, width)


def choose_summary(y: Shaped[np.ndarray, "n *event"]) -> tuple[str, str]:
    """The name of the network for simulations y (n, *event), and the reason."""
    event = y.shape[1:]
    length, channels = (event[0] if event else 1), (event[1] if len(event) == 2 else 1)
    if not 1 <= len(event) <= 2 or length < _SHORTEST_SERIES or channels > _MOST_CHANNELS:
        return (
            "vector",
            f"of shape {event}, not a series of at least {_SHORTEST_SERIES} steps and at most "
            f"{_MOST_CHANNELS} channels",
        )
    near, far = _dependence(y[:_ROWS_TO_LOOK_AT].reshape(-1, length, channels))
    numbers = f"largest correlation of powers {near:.2f} between neighbours, {far:.2f} between distant steps"
    if near - far < _LEAST_DEPENDENCE:
        return "vector", f"{length} steps whose order does not show ({numbers})"
    return "series", f"{length} steps in time ({numbers})"


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
