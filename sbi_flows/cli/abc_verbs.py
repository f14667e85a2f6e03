"""The verb that makes draws for one observation without a network: abc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

import sbi_flows as sf
from sbi_flows.baselines.adjustment import ADJUSTMENTS
from sbi_flows.baselines.settings import METHODS, Method
from sbi_flows.cli import options
from sbi_flows.cli.execution import Execution, execution, executor_of
from sbi_flows.cli.inputs import Observed, advice_as_flags, load_bank, load_simulator
from sbi_flows.cli.paths import check_bank_place, check_output
from sbi_flows.cli.terminal import NOTHING_SAVED, Answer, bar, on_stop, resumes_from, table_text


@dataclass(frozen=True)
class _Run:
    """By which method, on what budget, from what, and where it is kept."""

    method: Method
    n: int | None
    minutes: float | None
    bank: Path | None
    store: Path | None


@click.command("abc")
@options.simulator
@options.grouped("observed", Observed, options.observed, *options.reading)
@options.grouped(
    "run",
    _Run,
    options.choice("--method", list(METHODS), "How.", "rejection"),
    options.integer("-n", 50, "Simulations to make. [default: 10000 without --minutes]"),
    options.positive("--minutes", "Time limit; with -n, the tighter of both."),
    options.bank("A bank to take simulations of the prior from."),
    click.option("--store", type=options.PATH, help="Folder from which the same command resumes."),
)
@options.grouped(
    "settings",
    sf.ABCSettings,
    options.share("--quantile", "rejection: the share to accept. [default: 0.01]"),
    options.positive("--epsilon", "The tolerance to reach; of smc and pmc with --distance fixed."),
    click.option("--adjust", type=click.Choice(ADJUSTMENTS), help="Regression adjustment of the draws."),
    options.integer("--particles", 20, "smc, pmc: draws in a generation. [default: 100 to 1,000, by -n]"),
    options.share("--alpha", "smc, pmc: share that survives the next tolerance. [default: 0.5]"),
    click.option(
        "--distance", type=click.Choice(["adaptive", "fixed"]), help="smc, pmc. [default: adaptive]"
    ),
    options.integer("--simulations-each", 5, "synthetic_likelihood: simulations at each theta."),
    options.integer("--chains", 2, "synthetic_likelihood: Markov chains. [default: 4]"),
)
@execution
@options.output("Save the draws as .nc or .csv.", required=False)
@options.seed
@options.json
def abc_verb(
    simulator: str,
    observed: Observed,
    run: _Run,
    settings: sf.ABCSettings,
    where: Execution,
    output: Path | None,
    seed: int,
) -> Answer:
    """Draw from the posterior of SIMULATOR given the data in OBSERVED by simulating for these data alone.

    Nothing is trained: each data set needs simulations of its own. Every method ends at its budget, and says
    how far it came.
    """
    if output is not None:
        check_output(output, simulator, run.bank, *observed.paths, endings=(".nc", ".csv"))
    if run.store is not None:
        check_bank_place(run.store, simulator)
    with (
        on_stop(lambda: NOTHING_SAVED if run.store is None else resumes_from(run.store)),
        advice_as_flags(),
        bar(run.method) as advance,
        executor_of(where.scheduler) as executor,
    ):
        loaded = load_simulator(simulator)
        draws = sf.abc(
            loaded,
            observed.read(loaded.events),
            method=run.method,
            n_simulations=run.n,
            minutes=run.minutes,
            simulations=None if run.bank is None else load_bank(run.bank, loaded.prior),
            settings=settings,
            store=run.store,
            seed=seed,
            progress=advance,
            executor=executor,
            workers=where.workers,
            time_limit=where.time_limit,
            max_failures=where.max_failures,
        )
    if output is not None:
        draws.save(output)
    summary = draws.summary()
    record = {
        "method": run.method,
        "summary": summary.reset_index(),
        "verdict": draws.verdict,
        "draws": output,
        **draws.facts,
    }
    made, stopped = draws.facts["simulations"], draws.facts.get("stopped")
    ended = f"{draws.origin}: {made:,} simulations{f'; {stopped}' if stopped else ''}"
    return Answer(record, (table_text(summary, ".4g", index=True), ended), draws.verdict)
