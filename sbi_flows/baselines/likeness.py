"""Does the observation look like the simulations, as far as ABC can tell? Two questions, each with its null.

Exact relations.  A value that all simulations have, the sign and the wholeness of counts (`nets.scaling`),
and linear relations that all of p simulations obey, such as two equal columns or shares that add up to one:
directions in which the standardised data have a variance below 1e-10 of the largest. An observation breaks
them where it is 10 times as far from them as the furthest of the p. A new data set leaves the span of p
others with probability about (simulations that leave that of the others) / p; where that exceeds 0.001, the
relations are not judged.

Nearness.  Three distances: that of ABC to the nearest q p of the p simulations, q the share accepted; one to
the 10 nearest in the whitened data and summaries, where a linear combination that never occurs is far,
however little it varies; and the latter divided by that of the simulations near by (Breunig et al. 2000),
where any combination off a thin crowd is far. Each is in units of its 99% point over m simulated data sets,
which leave themselves out. The largest is ranked among the same of these:

    p-value = (1 + #{simulated data sets at least as far}) / (1 + m),

uniform under the prior predictive. The cost is of order m p k, whatever the number of simulations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from sbi_flows.arrays import F, spread
from sbi_flows.baselines.distance import Distance
from sbi_flows.baselines.target import Target
from sbi_flows.nets.scaling import Scaler
from sbi_flows.problem.observation import as_observed

_DATA_SETS, _NEIGHBOURS, _ROWS_AT_ONCE = 1000, 10, 125
_MOST_COLUMNS = 500
_NO_VARIANCE, _TIMES, _ROUNDING = 1e-10, 10.0, 1e-6
_ALONE, _MOST_NEW = 0.99, 0.001
_MOST, _SMALL, _LANDMARKS = 1e6, 1e-3, 5


Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Likeness:
    """quantile: the share of simulated data sets that are nearer to the simulations. p_value: of the rank.

    times: how many times as far as the furthest of them. unlike (3,): how many values no simulation gave, as
    of `Scaler.unlike`. broken: whether linear relations that hold in all simulations do not hold.
    """

    quantile: float
    p_value: float
    times: float
    unlike: Int[np.ndarray, "3"]
    broken: bool


@np.errstate(over="ignore", invalid="ignore")
def likeness(target: Target, distance: Distance, y: NDArray[Any], share: float) -> Likeness:
    """Of the observation to simulations y (p, *event), which are a random sample of those from the prior.

    share: of the simulations that are accepted. Raises `SimulatorContractError` where no value varies.
    """
    observed = target.observed.reshape(-1)
    there = ~np.isnan(observed)
    summaries = target.summarise(y)
    finite = np.isfinite(summaries).all(axis=1)
    events = np.asarray(as_observed(y, target.observed), dtype=np.float64).reshape(len(y), -1)
    events, summaries = events[finite][:, there], summaries[finite]
    scaler, values = Scaler.from_data(events, shared=False), observed[there][None]
    scaled = _scaled(np.concatenate([summaries, target.summaries[None]]), distance)
    rank = max(int(np.ceil(share * len(events))), _NEIGHBOURS)
    far, broken = [_remoteness(scaled, rank)], False
    seen = [np.arcsinh(scaled)] if target.function is not None else []
    if events.shape[1] <= _MOST_COLUMNS:
        broken = _breaks(events, values[0])
        seen.append(np.concatenate([scaler(events), scaler(values)]))
    if seen:
        features = _limited(np.concatenate(seen, axis=1), nan=0.0)
        far.append(_remoteness(_whitened(features)[0], _NEIGHBOURS, local=True))
    quantile, p_value, times = _ranked(np.concatenate(far))
    return Likeness(quantile, p_value, times, scaler.unlike(values)[0], broken)


def _scaled(summaries: Float[np.ndarray, "p+1 k"], distance: Distance) -> F:
    """In the units of the distance, about the median of the first p rows."""
    used = summaries[:, distance.used]
    return np.asarray((used - np.median(used[:-1], axis=0)) / distance.scales[distance.used])


def _ranked(far: Float[np.ndarray, "kinds m+1"]) -> tuple[float, float, float]:
    """Of the last column among the others: the share below, the p-value, and times the largest."""
    others = far[:, :-1]
    unit = np.quantile(others, 0.99, axis=1)
    unit = np.where(unit > 0, unit, np.maximum(others.max(axis=1), np.finfo(np.float64).tiny))
    together = (far / unit[:, None]).max(axis=0)
    here, others = together[-1], together[:-1]
    times = float(here / others.max()) if others.max() > 0 else (np.inf if here > 0 else 1.0)
    return float((others < here).mean()), float((1 + (others >= here).sum()) / (1 + len(others))), times


def _remoteness(points: Float[np.ndarray, "p+1 r"], rank: int, *, local: bool = False) -> F:
    """The distance to the neighbour of that rank among the first p points: of m of them, which leave
    themselves out, and of the last point, (1, m + 1). With `local` a second row, in which it is divided by
    the mean of that of the nearest 5 of the m.
    """
    points = _limited(points, nan=_MOST).astype(np.float32)
    p = len(points) - 1
    chosen = np.linspace(0, p - 1, min(_DATA_SETS, p)).astype(np.int64)
    asked = np.append(chosen, p)
    lengths = np.square(points[asked]).sum(axis=1)
    far, rank = np.empty(len(asked)), min(rank, p - 1) - 1
    for rows, squares in _squares(points, asked, np.arange(p), np.append(chosen, -1)):
        squares.partition(rank, axis=1)
        far[rows] = np.sqrt(np.maximum(squares[:, rank] + lengths[rows], 0))
    if not local:
        return far[None]
    usual, few = np.empty(len(asked)), min(_LANDMARKS, len(chosen) - 1)
    for rows, squares in _squares(points, asked, chosen, np.append(np.arange(len(chosen)), -1)):
        usual[rows] = far[_nearest(squares, few)].mean(axis=1)
    least = np.median(far) * _SMALL + np.finfo(np.float64).tiny
    return np.stack([far, far / np.maximum(usual, least)])


def _limited(values: F, *, nan: float) -> F:
    """Values in units of their spread, not beyond 1e6, so that squares do not leave float32."""
    return np.clip(np.nan_to_num(values, nan=nan, posinf=_MOST, neginf=-_MOST), -_MOST, _MOST)


def _nearest(squares: NDArray[np.float32], few: int) -> Rows:
    """The columns of the few least entries of each row, which are overwritten. Faster than a partition."""
    at, found = np.arange(len(squares)), []
    for _ in range(few):
        found.append(squares.argmin(axis=1))
        squares[at, found[-1]] = np.inf
    return np.stack(found, axis=1)


def _squares(
    points: NDArray[np.float32], asked: Rows, among: Rows, own: Rows
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """|x - y|^2 - |x|^2 of the rows x asked, a few at a time, and others y; inf in the column `own` of each x
    that is itself there, else -1.
    """
    lengths = np.square(points[among]).sum(axis=1, keepdims=True)
    left = np.concatenate([-2 * points[asked], np.ones((len(asked), 1), dtype=np.float32)], axis=1)
    right = np.ascontiguousarray(np.concatenate([points[among], lengths], axis=1).T)
    squares = np.empty((_ROWS_AT_ONCE, len(among)), dtype=np.float32)
    for start in range(0, len(asked), _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, len(asked)))
        part = squares[: rows.stop - start]
        np.matmul(left[rows], right, out=part)
        there = np.flatnonzero(own[rows] >= 0)
        part[there, own[rows][there]] = np.inf
        yield rows, part


def _whitened(features: Float[np.ndarray, "p+1 c"]) -> tuple[F, F]:
    """All rows in directions of unit variance over the first p, (p+1, r), and in those of no variance, of
    standardised columns.
    """
    known = features[:-1]
    sd = spread(known)
    scaled = (features - known.mean(axis=0))[:, sd > 0] / sd[sd > 0]
    values, directions = np.linalg.eigh(scaled[:-1].T @ scaled[:-1] / len(known))
    varies = values > _NO_VARIANCE * values[-1]
    return scaled @ (directions[:, varies] / np.sqrt(values[varies])), scaled @ directions[:, ~varies]


def _breaks(events: F, values: F) -> bool:
    """Whether linear relations between the columns of events (p, c), which all rows obey, do not hold for
    the values (c,).
    """
    columns = (spread(events) > 0) & np.isfinite(events).all(axis=0)
    if not columns.any() or not np.isfinite(values[columns]).all():
        return False
    white, relations = _whitened(np.concatenate([events, values[None]])[:, columns])
    alone = np.square(white[:-1]).sum(axis=1) > _ALONE * len(events)
    if not relations.shape[1] or alone.mean() > _MOST_NEW:
        return False
    off = np.abs(relations).max(axis=1)
    return bool(off[-1] > _TIMES * off[:-1].max() + _ROUNDING * (1 + np.abs(white[-1]).max()))
