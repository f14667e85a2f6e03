"""What SMC-ABC and population Monte Carlo ABC share: the generation from the prior, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.baselines.budget import SpentError
from sbi_flows.baselines.distance import Distance
from sbi_flows.baselines.generations import Generation
from sbi_flows.baselines.region import Region
from sbi_flows.baselines.runs import Runs
from sbi_flows.baselines.settings import ABCSettings
from sbi_flows.errors import TooFewSimulationsError
from sbi_flows.notes import Note
from sbi_flows.rng import stream
from sbi_flows.simulation.simulations import Simulations

LEAST_PARTICLES = 20
_SEEN = 20_000


class LowAcceptanceError(Exception):
    """A generation that has begun accepts too few."""


@dataclass(frozen=True)
class Ended:
    """The last generation, why it is the last, and whether it was completed with fewer simulations than it
    is due, because the budget was out.
    """

    generation: Generation
    why: Note
    cut: bool = False


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
        if cut:
            return Ended(following, Note("budget spent", what="simulations", dropped=None), cut=True)
        if following.region.size >= present.region.size:
            return Ended(present, Note("tolerance stays", tolerance=present.region.tolerances[-1]))
        present = following
        save(present)


def from_prior(runs: Runs, settings: ABCSettings, simulations: Simulations | None) -> Generation:
    """The nearest of particles / alpha draws from the prior, or of simulations that are there."""
    prior, wanted = runs.simulator.prior, settings.particles or 0
    if simulations is None:
        rows = math.ceil(wanted / (settings.alpha or 1.0))
        theta = prior.sample(rows, stream(runs.seed, "abc prior"))
        summaries = runs.at(theta, 0, 0)
    else:
        theta = simulations.theta
        summaries = runs.summarised(simulations.flat_y, simulations.ok)
    usable = np.isfinite(summaries).all(axis=1)
    rows, theta, summaries = len(theta), theta[usable], summaries[usable]
    if len(theta) < LEAST_PARTICLES:
        raise TooFewSimulationsError(
            f"only {len(theta)} of {rows:,} simulations from the prior can be used, and a generation needs "
            f"{LEAST_PARTICLES}. Mend the simulator, or give more particles."
        )
    distance = Distance.of(summaries, runs.target.summaries)
    distances = distance(summaries)
    tolerance = float(np.sort(distances)[min(wanted, len(theta)) - 1])
    if settings.epsilon is not None:
        tolerance = max(tolerance, settings.epsilon)
    kept = distances <= tolerance
    z, _ = prior.to_unconstrained(theta[kept])
    kept_all = np.isfinite(z).all(axis=1)
    z, inside = z[kept_all], summaries[kept][kept_all]
    made = Generation(
        0,
        z,
        inside[:, None],
        np.full(len(z), 1 / len(z)),
        Region().within(distance, tolerance),
        seen_of(summaries),
        (),
    )
    return with_record(made, acceptance=float(kept.mean()), simulations=runs.budget.made)


def with_record(made: Generation, **facts: float) -> Generation:
    """The generation with the record of itself."""
    return Generation(
        made.number,
        made.z,
        made.summaries,
        made.weights,
        made.region,
        made.seen,
        (*made.records, made.record(**facts)),
    )


def seen_of(summaries: F) -> F:
    """The finite rows, at most 20,000."""
    return np.ascontiguousarray(summaries[np.isfinite(summaries).all(axis=1)][:_SEEN])


def next_distance(present: Generation, settings: ABCSettings) -> Distance:
    """In which the next tolerance is measured."""
    last = present.region.distances[-1]
    return last.rescaled(present.seen) if settings.distance == "adaptive" else last


def _shown(present: Generation) -> str:
    return f"{present.region.tolerances[-1]:.3g}" if present.region.tolerances else "none yet"
