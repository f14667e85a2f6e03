"""What SMC-ABC and population Monte Carlo ABC share: the generation from the prior, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.baselines.adjusted_particles import with_moved_moments
from sbi_flows.baselines.budget import SpentError
from sbi_flows.baselines.distance import Distance
from sbi_flows.baselines.generations import Generation
from sbi_flows.baselines.likeness import likeness
from sbi_flows.baselines.region import Region
from sbi_flows.baselines.runs import Runs
from sbi_flows.baselines.settings import ABCSettings
from sbi_flows.baselines.verdict import data_verdict
from sbi_flows.errors import ObservationError, TooFewSimulationsError
from sbi_flows.notes import Note
from sbi_flows.rng import stream
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.verdict import Verdict

LEAST_PARTICLES = 20
_SEEN, _LIKENESS, _MOST_GIVEN = 20_000, 4_000, 100_000


class LowAcceptanceError(Exception):
    """A generation that has begun accepts too few."""


class StuckError(Exception):
    """All that are accepted are equally far, or too many are."""


@dataclass(frozen=True)
class Ended:
    """The last generation, and why it is the last."""

    generation: Generation
    why: Note


Step = Callable[[Generation, Runs, ABCSettings], tuple[Generation, bool]]
Save = Callable[[Generation], None]


def run_generations(start: Generation, step: Step, runs: Runs, settings: ABCSettings, save: Save) -> Ended:
    """Further generations until the tolerance, the acceptance rate or the budget ends them.

    step: makes the next generation, and says whether it was cut short. A generation that the budget or a low
    acceptance rate ends before it is complete is dropped.
    """
    present = start
    while True:
        if settings.epsilon is not None and present.region.tolerances[-1] <= settings.epsilon:
            return Ended(present, Note("tolerance reached", tolerance=present.region.tolerances[-1]))
        if present.region.tolerances and present.region.tolerances[-1] == 0:
            return Ended(present, Note("data met"))
        runs.text = f"generation {present.number + 1}, tolerance {_shown(present)}"
        try:
            following, cut = step(present, runs, settings)
        except SpentError as spent:
            return Ended(present, Note("budget spent", what=spent.what, dropped=present.number + 1))
        except LowAcceptanceError:
            least = settings.least_acceptance
            return Ended(present, Note("acceptance too low", least=least, dropped=present.number + 1))
        except StuckError:
            return Ended(present, Note("tolerance stays", tolerance=present.region.tolerances[-1]))
        following = judged(following, runs, settings)
        if cut:
            return Ended(following, Note("budget spent", what="simulations", dropped=None))
        present = following
        save(present)


def judged(made: Generation, runs: Runs, settings: ABCSettings) -> Generation:
    """The generation, with the moments in its record by which convergence is judged."""
    if settings.adjust is None:
        return made
    return with_moved_moments(made, runs.simulator.prior, settings.adjust, runs.seed)


class PriorSet(NamedTuple):
    """Usable simulations from the prior: z (n, u), y (n, *event) and summaries (n, k)."""

    z: F
    y: NDArray[Any]
    summaries: F


def prior_set(runs: Runs, rows: int, simulations: Simulations | None) -> PriorSet:
    """New simulations, or the first 100,000 of those that are there.

    Raises `TooFewSimulationsError` for fewer than 20.
    """
    prior = runs.simulator.prior
    if simulations is None:
        theta = prior.sample(rows, stream(runs.seed, "abc prior"))
        y, ok = runs.simulated(theta, 0, 0)
    else:
        first = np.arange(min(len(simulations), _MOST_GIVEN))
        (theta, y), ok = simulations.gather(first), simulations.ok[first]
    summaries = runs.summarised(y, ok, counted=simulations is None)
    z, _ = prior.to_unconstrained(theta)
    usable = np.isfinite(summaries).all(axis=1) & np.isfinite(z).all(axis=1)
    if usable.sum() < LEAST_PARTICLES:
        raise TooFewSimulationsError(
            f"only {usable.sum()} of {len(theta):,} simulations from the prior can be used, and "
            f"{LEAST_PARTICLES} are needed. Correct the simulator, or simulate more."
        )
    return PriorSet(z[usable], y[usable], summaries[usable])


def rows_from_prior(settings: ABCSettings) -> int:
    """How many draws from the prior the first generation takes: particles / alpha, or, where each has several
    data sets, particles.
    """
    share = (settings.alpha or 1.0) if (settings.data_sets or 1) == 1 else 1.0
    return math.ceil((settings.particles or 0) / share)


def from_prior(runs: Runs, settings: ABCSettings, simulations: Simulations | None) -> Generation:
    """The nearest of particles / alpha draws from the prior, or of simulations that are there."""
    wanted = settings.particles or 0
    first = prior_set(runs, rows_from_prior(settings), simulations)
    distance = Distance.of(first.summaries, runs.target.summaries)
    distances = distance(first.summaries)
    tolerance = max(float(np.sort(distances)[min(wanted, len(distances)) - 1]), settings.epsilon or 0.0)
    if not np.isfinite(tolerance):
        raise ObservationError("the observed data are too far from all simulations. Check their units.")
    kept = distances <= tolerance
    made = Generation(
        number=0,
        z=first.z[kept],
        summaries=first.summaries[kept][:, None],
        weights=np.full(int(kept.sum()), 1 / kept.sum()),
        region=Region().within(distance, tolerance),
        on_data=on_data(runs, distance, first),
        seen=seen_of(first.summaries),
        records=(),
    )
    return judged(made.recorded(acceptance=float(kept.mean()), simulations=runs.budget.made), runs, settings)


def several_sets(runs: Runs, settings: ABCSettings) -> Generation:
    """Particles from the prior, each with several data sets, all of which are accepted."""
    prior, m, n = runs.simulator.prior, settings.data_sets or 1, settings.particles or 0
    theta = prior.sample(n, stream(runs.seed, "abc prior"))
    y, ok = runs.simulated(np.repeat(theta, m, axis=0), 0, 0)
    rows = runs.summarised(y, ok)
    summaries, usable = rows.reshape(n, m, -1), np.isfinite(rows).all(axis=1)
    z, _ = prior.to_unconstrained(theta)
    ran = np.isfinite(summaries).all(axis=2).sum(axis=1) * np.isfinite(z).all(axis=1)
    z, summaries, ran = z[ran > 0], summaries[ran > 0], ran[ran > 0]
    if len(z) < LEAST_PARTICLES:
        raise TooFewSimulationsError(
            f"only {len(z)} of {n:,} particles from the prior can be simulated at, and {LEAST_PARTICLES} are "
            "needed. Correct the simulator, or give more particles."
        )
    flat = seen_of(summaries.reshape(-1, summaries.shape[2]))
    first = PriorSet(z, y[usable], rows[usable])
    distance = Distance.of(flat, runs.target.summaries)
    made = Generation(
        number=0,
        z=z,
        summaries=summaries,
        weights=ran / ran.sum(),
        region=Region().within(distance, float(distance(flat).max())),
        on_data=on_data(runs, distance, first),
        seen=flat,
        records=(),
    )
    return made.recorded(acceptance=1.0, simulations=runs.budget.made)


def on_data(runs: Runs, distance: Distance, first: PriorSet) -> Verdict:
    """The verdict on the observation among simulations from the prior."""
    share = LEAST_PARTICLES / len(first.summaries)
    return data_verdict(likeness(runs.target, distance, first.y[:_LIKENESS], share))


def seen_of(summaries: F) -> F:
    """The finite rows, at most 20,000."""
    return np.ascontiguousarray(summaries[np.isfinite(summaries).all(axis=1)][:_SEEN])


def next_distance(present: Generation, settings: ABCSettings) -> Distance:
    """In which the next tolerance is measured."""
    last = present.region.distances[-1]
    return last.rescaled(present.seen) if settings.distance == "adaptive" else last


def _shown(present: Generation) -> str:
    return f"{present.region.tolerances[-1]:.3g}" if present.region.tolerances else "none yet"
