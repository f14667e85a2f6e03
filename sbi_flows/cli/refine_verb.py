"""The verb that makes the posterior of one observation better than the amortised one: refine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from sbi_flows.cli import options
from sbi_flows.cli.inputs import Observed, load_posterior, load_simulator
from sbi_flows.cli.paths import check_output
from sbi_flows.cli.terminal import Answer, say, table_text
from sbi_flows.posterior.request import METHODS, Method
from sbi_flows.simulation.settings import Place


@dataclass(frozen=True)
class Refining:
    """How far, and where."""

    method: str
    budget: int | None
    minutes: float | None
    store: Path | None
    workers: int | None

    @property
    def asked(self) -> Method | None:
        """The method, None where it is left to the simulator."""
        return next((method for method in METHODS if method == self.method), None)

    @property
    def place(self) -> Place:
        """Where it runs."""
        return Place() if self.workers is None else Place(workers=self.workers)


def _in_json(fact: Any) -> Any:
    """JSON has no infinity: k-hat of too few draws is null."""
    return None if isinstance(fact, float) and not np.isfinite(fact) else fact


@click.command("refine")
@options.posterior
@options.grouped("observed", Observed, options.observed, *options.reading)
@options.integer("-n", 2, "Draws.", 4000)
@options.grouped(
    "refining",
    Refining,
    options.choice(
        "--method",
        ["auto", *METHODS],
        "closed form and likelihood give exact draws, rounds simulates further; auto is the first that the "
        "simulator allows.",
        "auto",
    ),
    options.integer("--budget", 1, "Simulations, or evaluations of the likelihood, at most."),
    options.positive("--minutes", "Time limit."),
    click.option("--store", type=options.PATH, help="Folder for simulations, from which a stop resumes."),
    options.integer("--workers", 1, "Local processes. [default: as many as help]"),
)
@options.output("Save the draws as .nc or .csv.", required=False)
@options.reference
@options.seed
@options.json
def refine_verb(
    posterior: Path,
    observed: Observed,
    n: int,
    refining: Refining,
    output: Path | None,
    reference: str | None,
    seed: int,
) -> Answer:
    """Draw from a sharper posterior of the one observation in OBSERVED (.csv or .npy).

    With a likelihood the draws are exact up to a Monte Carlo error, or the verdict says that they are not.
    Without one, simulations go where the posterior has its mass, and the network trains on.
    """
    if output is not None:
        check_output(output, posterior, *observed.paths, reference, endings=(".nc", ".csv"))
    simulator = None if reference is None else load_simulator(reference)
    loaded = load_posterior(posterior, simulator)
    y_obs = observed.read(loaded.events)
    with observed.advice():
        draws = loaded.refine(
            y_obs,
            simulator,
            method=refining.asked,
            n=n,
            n_simulations=refining.budget,
            minutes=refining.minutes,
            seed=seed,
            store=refining.store,
            say=say,
            **refining.place,
        )
    if output is not None:
        draws.save(output)
    summary, verdict = draws.summary(), draws.verdict
    record = {
        "summary": summary.reset_index(),
        "verdict": verdict,
        "origin": draws.origin,
        "draws": output,
        **{name: _in_json(fact) for name, fact in draws.facts.items()},
    }
    return Answer(record, (table_text(summary, ".4g", index=True),), verdict)
