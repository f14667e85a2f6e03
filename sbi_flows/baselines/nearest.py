"""The simulations nearest to the observation, found in one pass.

The pass reads a block, makes its summaries, and keeps the rows within a bound; nothing else is held. Where a
share q of n rows is to be accepted, the bound comes from a sample of p of them: its ordered distance of rank

    r = q p + 5 sqrt(q p) + 5,

which is below the q-quantile of all with a chance of less than 1e-6 (the binomial tail). What is accepted
does not depend on the bound: where it is too small, the pass is made again without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.baselines.distance import Distance
from sbi_flows.baselines.target import Target
from sbi_flows.errors import TooFewSimulationsError
from sbi_flows.rng import stream
from sbi_flows.simulation.simulations import Simulations

_BYTES_AT_ONCE, _MOST_AT_ONCE, _LEAST_AT_ONCE = 16_777_216, 131_072, 256


class Part(NamedTuple):
    """Rows that can be used: their numbers (m,), theta (m, d) and y (m, *event)."""

    rows: NDArray[np.int64]
    theta: F
    y: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Nearest:
    """Simulations within a bound, nearest first.

    theta (m, d), summaries (m, k), distances (m,).
    usable: how many simulations had finite summaries. lost: how many had others.
    """

    theta: F
    summaries: F
    distances: F
    usable: int
    lost: int

    def first(self, m: int) -> Nearest:
        """The m nearest."""
        return replace(self, theta=self.theta[:m], summaries=self.summaries[:m], distances=self.distances[:m])


def sample(simulations: Simulations, n: int, use: str, without: NDArray[np.int64] | None = None) -> Part:
    """n of the usable simulations at random, or all where they are fewer: the same in memory and on disk.
    use: names the random stream. without: numbers of rows that are left out.

    Raises `TooFewSimulationsError` where no simulation can be used.
    """
    rng, ok = stream(simulations.seed, use), _usable(simulations, without)
    if not ok.any():
        raise TooFewSimulationsError("all simulations failed: print(simulations.failures()) shows why.")
    usable = np.flatnonzero(ok)
    rows = usable if len(usable) <= n else np.sort(rng.choice(usable, n, replace=False))
    return Part(rows, *simulations.gather(rows))


def _usable(simulations: Simulations, without: NDArray[np.int64] | None) -> NDArray[np.bool_]:
    ok = simulations.ok
    if without is not None and len(without):
        ok = ok.copy()
        ok[without] = False
    return ok


def in_memory(simulations: Simulations) -> bool:
    """Whether theta and y need not be read."""
    return simulations.arrays is not None or {"theta", "flat_y"} <= vars(simulations).keys()


def parts(simulations: Simulations, without: NDArray[np.int64] | None = None) -> Iterator[Part]:
    """All usable simulations, a part at a time, without copies where they are in memory and all can be used.

    without: numbers of rows that are left out.
    """
    ok = _usable(simulations, without)
    for start, theta, y in _blocks(simulations):
        used = ok[start : start + len(theta)]
        rows = np.arange(start, start + len(theta))
        if used.all():
            yield Part(rows, theta, y)
        elif used.any():
            yield Part(rows[used], theta[used], y[used])


def _blocks(simulations: Simulations) -> Iterator[tuple[int, F, NDArray[Any]]]:
    if not in_memory(simulations):
        for k in range(simulations.n_blocks):
            block = simulations.read_block(k)
            yield block.start, block.theta, block.y
        return
    theta, y = simulations.theta, simulations.flat_y
    one = 8 * max(1, int(np.prod(simulations.event_shape, dtype=np.int64)))
    size = int(np.clip(_BYTES_AT_ONCE // one, _LEAST_AT_ONCE, _MOST_AT_ONCE))
    for start in range(0, len(theta), size):
        yield start, theta[start : start + size], y[start : start + size]


def within(
    bound: float,
    target: Target,
    distance: Distance,
    simulations: Simulations,
    without: NDArray[np.int64] | None = None,
) -> Nearest:
    """All simulations at a distance of at most `bound`; of those at one distance, earlier rows first."""
    theta, summaries, distances, seen, lost = [], [], [], 0, 0
    for part in parts(simulations, without):
        values = target.summarise(part.y)
        far = distance(values)
        seen += len(far)
        endless = np.isinf(far)
        if endless.any():
            finite = np.isfinite(values[endless]).all(axis=1)
            lost += int((~finite).sum())
            far[np.flatnonzero(endless)[~finite]] = np.nan
        kept = np.flatnonzero(far <= bound)
        theta.append(part.theta[kept])
        summaries.append(values[kept])
        distances.append(far[kept])
    if seen == lost:
        raise TooFewSimulationsError(
            f"the summaries of all {seen:,} simulations are not finite: ABC needs them."
        )
    found = np.concatenate(distances)
    order = np.argsort(found, kind="stable")
    return Nearest(
        np.concatenate(theta)[order], np.concatenate(summaries)[order], found[order], seen - lost, lost
    )


def nearest_share(
    share: float,
    target: Target,
    distance: Distance,
    simulations: Simulations,
    sampled: F,
    without: NDArray[np.int64] | None = None,
) -> Nearest:
    """At least the nearest `share` of the simulations, with a few more. sampled: distances of some of them,
    taken at random.
    """
    p = len(sampled)
    rank = int(share * p + 5 * np.sqrt(share * p) + 5)
    bound = float(np.partition(sampled, rank)[rank]) if rank < p else np.inf
    found = within(bound, target, distance, simulations, without)
    if len(found.distances) < np.ceil(share * found.usable) and bound < np.inf:
        found = within(np.inf, target, distance, simulations, without)
    return found


def absolute_deviations(distance: Distance, values: F, target: Target, simulations: Simulations) -> Distance:
    """The distance, with a unit for summaries that vary although the sampled values (p, k) do not: their mean
    absolute deviation from that one value, over all simulations.
    """
    same = np.flatnonzero(~distance.used)
    finite = np.isfinite(values).all(axis=1)
    if not len(same) or not finite.any() or len(values) >= int(simulations.ok.sum()):
        return distance
    one, total, n = values[finite][0, same], np.zeros(len(same)), 0
    for part in parts(simulations):
        rows = target.summarise(part.y)
        rows = rows[np.isfinite(rows).all(axis=1)][:, same]
        total += np.abs(rows - one).sum(axis=0)
        n += len(rows)
    scales = distance.scales.copy()
    scales[same] = np.where((total > 0) & np.isfinite(total), total / max(n, 1), np.inf)
    return replace(distance, scales=scales)
