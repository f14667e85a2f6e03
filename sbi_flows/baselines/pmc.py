"""Population Monte Carlo ABC with an adaptive kernel (Beaumont, Cornuet, Marin & Robert 2009, Biometrika
96:983), tolerances by quantile and an adaptive distance (Prangle 2017, Bayesian Analysis 12:289).

    z* ~ q_t,   y* ~ p(y | theta*),   until n / alpha of them are in the region A_{t-1}
    A_t holds the n nearest of these,   w = p(z) / q_t(z)

q_t is the kernel around the particles of generation t - 1, in unconstrained coordinates z, so that no
proposal leaves the prior.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.baselines.budget import SIMULATIONS, SpentError
from sbi_flows.baselines.generations import Generation, log_prior
from sbi_flows.baselines.kernel import Kernel
from sbi_flows.baselines.runs import Runs
from sbi_flows.baselines.sequential import LowAcceptanceError, StuckError, next_distance, seen_of
from sbi_flows.baselines.settings import ABCSettings
from sbi_flows.rng import stream

_SEEN_BEFORE_STOP, _FEWEST = 20, 0.1


def pmc_step(present: Generation, runs: Runs, settings: ABCSettings) -> tuple[Generation, bool]:
    """The next generation, and whether it was completed with fewer proposals than it is due, because no
    simulations are left.

    Raises `SpentError`, `LowAcceptanceError`, `StuckError`, `TooManyFailuresError`.
    """
    number, particles, least = present.number + 1, settings.particles or 0, settings.least_acceptance or 0.0
    kernel = Kernel.around(*present.merged())
    wanted = math.ceil(particles / (settings.alpha or 1.0))
    parts: list[tuple[F, F, F]] = []
    accepted = made = call = 0
    cut = False
    while accepted < wanted:
        try:
            z, log_density, summaries = _proposed(kernel, runs, number, call, particles)
        except SpentError as spent:
            if spent.what != SIMULATIONS or accepted < particles:
                raise
            cut = True
            break
        parts.append((z, log_density, summaries))
        accepted += int(present.region.inside(summaries).sum())
        call, made = call + 1, made + len(z)
        if accepted < least * made and least * made > _SEEN_BEFORE_STOP:
            raise LowAcceptanceError
    z, log_density, summaries = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    inside = present.region.inside(summaries)
    distance = next_distance(present, settings)
    if settings.distance == "adaptive":
        distance = distance.rescaled(seen_of(summaries))
    distances = np.where(inside, distance(summaries), np.inf)
    tolerance = max(_nearest(distances[inside], particles), settings.epsilon or 0.0)
    kept = distances <= tolerance
    log_weights = log_density[kept] - kernel.log_prob(z[kept])
    weights = np.exp(log_weights - log_weights.max())
    region = present.region.within(distance, tolerance)
    following = replace(
        present,
        number=number,
        z=z[kept],
        summaries=summaries[kept][:, None],
        weights=weights / weights.sum(),
        region=region,
        seen=seen_of(summaries),
    )
    return following.recorded(acceptance=accepted / made, simulations=runs.budget.made), cut


def _nearest(distances: F, particles: int) -> float:
    """The tolerance that accepts that number; fewer, where several are equally far. Raises `StuckError`."""
    tolerance = float(np.sort(distances)[particles - 1])
    nearer = distances[distances < tolerance]
    if tolerance < distances.max() or len(distances) == particles:
        return tolerance
    if len(nearer) < _FEWEST * particles:
        raise StuckError
    return float(nearer.max())


def _proposed(kernel: Kernel, runs: Runs, number: int, call: int, rows: int) -> tuple[F, F, F]:
    """z (n, u) from the kernel, their log density under the prior, and the summaries simulated there."""
    rows = runs.budget.room(rows)
    z = kernel.sample(rows, stream(runs.seed, f"abc pmc {number}", call))
    theta, log_density = log_prior(runs.simulator.prior, z)
    possible = log_density > -np.inf
    z, theta, log_density = z[possible], theta[possible], log_density[possible]
    return z, log_density, runs.at(theta, number, call)
