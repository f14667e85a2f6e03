"""Sequential Monte Carlo ABC with an adaptive tolerance (Del Moral, Doucet & Jasra 2012, Statistics and
Computing 22:1009).

    pi_t(z, y_1..m)  proportional to  p(z) prod_j p(y_j | theta) sum_j 1{s(y_j) in A_t}
    w_t = w_{t-1} (share of the m data sets in A_t) / (share in A_{t-1})

The tolerance of A_t is the one at which the effective number of particles is alpha times what it was. Where
it falls to half of the particles they are resampled. Each is then moved by Metropolis-Hastings steps that
leave pi_t invariant,

    z' = z + L(z) e,   accepted with probability min(1, p(z') q(z | z') m' / (p(z) q(z' | z) m)),

m and m' the numbers of data sets in A_t. z are unconstrained coordinates, so that no proposal leaves the
prior; L follows the particles near z (`kernel`). Proposals that the prior alone rejects are not simulated.
The number of steps is such that about 80% of particles move, by the acceptance of the first step (Drovandi &
Pettitt 2011, Biometrics 67:225).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.baselines.budget import SIMULATIONS, SpentError
from sbi_flows.baselines.distance import Distance
from sbi_flows.baselines.generations import Generation, log_prior
from sbi_flows.baselines.kernel import Kernel
from sbi_flows.baselines.region import Region
from sbi_flows.baselines.runs import Runs
from sbi_flows.baselines.sequential import LowAcceptanceError, StuckError, next_distance, seen_of
from sbi_flows.baselines.settings import ABCSettings
from sbi_flows.rng import stream

_UNMOVED, _MOVED_ENOUGH = 0.2, 0.5
_RESAMPLE, _FEWEST = 0.5, 0.1
_MOST_STEPS = 10_000


def smc_step(present: Generation, runs: Runs, settings: ABCSettings) -> tuple[Generation, bool]:
    """The next generation, and whether it was completed with fewer steps than it is due, because no
    simulations are left.

    Raises `SpentError`, `LowAcceptanceError`, `StuckError`, `TooManyFailuresError`.
    """
    number, particles = present.number + 1, settings.particles or 0
    distance = next_distance(present, settings)
    region, weights = _tightened(present, distance, settings)
    kernel = Kernel.around(*replace(present, weights=weights).merged())
    rng = stream(runs.seed, f"abc smc {number}")
    if 1 / np.square(weights).sum() <= _RESAMPLE * particles * (1 + 1e-9):
        chosen = _systematic(weights, particles, rng)
        weights = np.full(particles, 1 / particles)
    else:
        chosen = np.flatnonzero(weights > 0)
        weights = weights[chosen]
    moves = _Moves(runs, region, kernel, number, present.z[chosen], present.summaries[chosen])
    cut = _moved(moves, settings)
    following = replace(
        present,
        number=number,
        z=moves.z,
        summaries=moves.summaries,
        weights=weights,
        region=region,
        seen=seen_of(np.concatenate(moves.seen)),
    )
    share = moves.accepted / max(moves.simulated, 1)
    return following.recorded(acceptance=share, simulations=runs.budget.made, steps=moves.steps), cut


def _tightened(present: Generation, distance: Distance, settings: ABCSettings) -> tuple[Region, F]:
    """The region with the next tolerance, and the weights in it."""
    n, m, k = present.summaries.shape
    flat = present.summaries.reshape(n * m, k)
    distances = np.where(present.region.inside(flat), distance(flat), np.inf).reshape(n, m)
    before = np.isfinite(distances).sum(axis=1)
    aim = (settings.alpha or 1.0) / np.square(present.weights).sum()

    def weighted(tolerance: float) -> F:
        alive = (distances <= tolerance).sum(axis=1)
        raw = np.where(before > 0, present.weights * alive / np.maximum(before, 1), 0.0)
        return np.asarray(raw / raw.sum() if raw.sum() > 0 else raw)

    def effective(tolerance: float) -> float:
        squares = float(np.square(weighted(tolerance)).sum())
        return 1 / squares if squares > 0 else 0.0

    candidates = np.unique(distances[np.isfinite(distances)])
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        if effective(candidates[middle]) >= aim:
            high = middle
        else:
            low = middle + 1
    if low == len(candidates) - 1:  # many are equally far
        low -= 1
        if low < 0 or effective(candidates[low]) < _FEWEST * n:
            raise StuckError
    tolerance = max(float(candidates[low]), settings.epsilon or 0.0)
    return present.region.within(distance, tolerance), weighted(tolerance)


@dataclass
class _Moves:
    """Particles that move. simulated: proposals that were; seen: their summaries."""

    runs: Runs
    region: Region
    kernel: Kernel
    number: int
    z: F
    summaries: F
    steps: int = 0
    simulated: int = 0
    accepted: int = 0
    seen: list[F] = field(default_factory=list)
    moved: NDArray[np.bool_] = field(init=False)
    _log_prior: F = field(init=False)
    _alive: F = field(init=False)

    def __post_init__(self) -> None:
        self.z, self.summaries = self.z.copy(), self.summaries.copy()
        self.moved = np.zeros(len(self.z), dtype=np.bool_)
        self._log_prior = log_prior(self.runs.simulator.prior, self.z)[1]
        self._alive = self._inside(self.summaries)

    def step(self) -> float:
        """Propose for each particle; the share that moved. Raises `SpentError`."""
        rng = stream(self.runs.seed, f"abc smc {self.number} step", self.steps)
        m = self.summaries.shape[1]
        proposed, log_ratio = self.kernel.walk(self.z, rng)
        theta, log_density = log_prior(self.runs.simulator.prior, proposed)
        with np.errstate(divide="ignore"):
            bar = np.log(rng.random(len(self.z))) - (log_ratio + log_density - self._log_prior)
        tried = np.flatnonzero(bar < np.log(m / self._alive))
        if len(tried):
            rows = self.runs.at(np.repeat(theta[tried], m, axis=0), self.number, self.steps)
            summaries = rows.reshape(len(tried), m, -1)
            alive = self._inside(summaries)
            with np.errstate(divide="ignore"):
                accepted = bar[tried] < np.log(alive / self._alive[tried])
            taken = tried[accepted]
            self.z[taken], self.summaries[taken] = proposed[taken], summaries[accepted]
            self._log_prior[taken], self._alive[taken] = log_density[taken], alive[accepted]
            self.moved[taken] = True
            self.simulated, self.accepted = self.simulated + len(rows), self.accepted + len(taken) * m
            self.seen.append(rows)
        self.steps += 1
        return float(self.moved.mean())

    def _inside(self, summaries: F) -> F:
        n, m, k = summaries.shape
        inside = self.region.inside(summaries.reshape(n * m, k)).reshape(n, m)
        return np.asarray(inside.sum(axis=1), dtype=np.float64)


def _moved(moves: _Moves, settings: ABCSettings) -> bool:
    """Take the steps that are due; whether the simulations ended before."""
    share = moves.step()
    if share < (settings.least_acceptance or 0.0) or not moves.simulated:
        raise LowAcceptanceError
    due = 1 if share >= 1 - _UNMOVED else math.ceil(math.log(_UNMOVED) / math.log1p(-share))
    try:
        while moves.steps < min(due, _MOST_STEPS):
            moves.step()
    except SpentError as spent:
        if spent.what != SIMULATIONS or moves.moved.mean() < _MOVED_ENOUGH:
            raise
        return True
    return False


def _systematic(weights: F, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """n rows, each as often as its weight says, to within one."""
    positions = (np.arange(n) + rng.random()) / n
    return np.asarray(np.minimum(np.searchsorted(np.cumsum(weights), positions), len(weights) - 1))
