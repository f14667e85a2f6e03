"""The verbs that make and use a posterior: fit, infer, demo."""

from __future__ import annotations

from pathlib import Path

import click

import sbi_flows as sf
from sbi_flows.cli import options
from sbi_flows.cli.inputs import Observed, advice_as_flags, load_posterior, load_simulator
from sbi_flows.cli.paths import check_output
from sbi_flows.cli.source import Source
from sbi_flows.cli.terminal import NOTHING_SAVED, Answer, bar, on_stop, resumes_from, say, table_text
from sbi_flows.npe.settings import DENSITIES, SIZES
from sbi_flows.simulation.held_out import SOME_PAIRS


@click.command("fit")
@options.optional_simulator
@options.grouped(
    "source",
    Source,
    options.integer("-n", 50, "Simulations to make, at least 25 per parameter. [default: 10000]"),
    options.positive("--minutes", "Instead of -n: time limit for simulating and training."),
    options.bank("Instead of -n: a bank to train on."),
    *options.pairs,
    click.option("--prior", help="Their prior, file.py:attribute. [default: that of SIMULATOR]"),
    *options.reading,
    *options.patterns,
)
@options.grouped(
    "settings",
    sf.FitSettings,
    options.integer(
        "--members",
        1,
        "Networks in the ensemble. [default: 4 below 20,000 simulations, 2 below 100,000, else 1; with "
        "--minutes one per core, at most 4]",
    ),
    options.choice("--size", ["auto", *SIZES], "Layers, width and summary features of each network.", "auto"),
    options.choice("--flow", ["auto", *sorted(DENSITIES)], "Type of flow.", "auto"),
    click.option(
        "--declared-summaries/--no-declared-summaries",
        default=True,
        show_default=True,
        help="Whether summaries that the simulator declares join the network's input.",
    ),
)
@click.option("--checkpoint", type=options.PATH, help="File from which the same command resumes.")
@options.output("File of the posterior.")
@options.seed
@options.json
def fit_verb(
    simulator: str | None,
    source: Source,
    settings: sf.FitSettings,
    checkpoint: Path | None,
    output: Path,
    seed: int,
) -> Answer:
    """Train a posterior for SIMULATOR and save it.

    SIMULATOR is not needed with --simulations, or with --theta, --data and --prior. For observations with
    gaps, or shorter ones, train with --like FILE for theirs, or with --gaps and --lengths for a range.
    """
    inputs = simulator, source.bank, source.theta, source.data, source.prior, *source.like_paths
    check_output(output, checkpoint, *inputs)
    if checkpoint is not None:
        check_output(checkpoint, *inputs)
    with on_stop(lambda: _saved(source, checkpoint)), advice_as_flags(), bar("training") as advance:
        loaded = None if simulator is None else load_simulator(simulator)
        simulations = source.simulations(loaded)
        posterior = sf.fit(
            loaded,
            simulations=simulations,
            like=source.alike(loaded, simulations),
            observe=source.observe,
            n_simulations=source.n,
            minutes=source.minutes,
            seed=seed,
            settings=settings,
            checkpoint=checkpoint,
            say=say,
            progress=advance,
        )
    posterior.save(output)
    whose = "_first_member" if (posterior.settings.members or 1) > 1 else ""
    record = {
        "posterior": output,
        "notes": posterior.notes,
        f"valid_loss{whose}": posterior.history.best_loss,
        "seconds": posterior.seconds,
        **{name: fact for name, fact in posterior.facts.items() if name != SOME_PAIRS},
    }
    return Answer(record, (f"{output}: {posterior}",))


def _saved(source: Source, checkpoint: Path | None) -> str:
    """What is left when `fit` is stopped."""
    if checkpoint is not None and (checkpoint.is_file() or Path(f"{checkpoint}.1").is_file()):  # of member 2
        return resumes_from(checkpoint)
    if checkpoint is not None:
        return f"{checkpoint} holds no checkpoint yet. {NOTHING_SAVED}"
    if source.theta is not None:
        return f"{NOTHING_SAVED} To resume after a stop, add --checkpoint FILE."
    if source.bank is not None:
        return f"{source.bank} is kept, the training is not. To resume after a stop, add --checkpoint FILE."
    return f"{NOTHING_SAVED} To resume after a stop, simulate first; fit with --simulations and --checkpoint."


@click.command("infer")
@options.posterior
@options.grouped("observed", Observed, options.observed, *options.reading)
@options.integer("-n", 1, "Draws per observation.", 4000)
@options.output("Save the draws as .nc or .csv.", required=False)
@options.reference
@options.seed
@options.json
def infer_verb(
    posterior: Path, observed: Observed, n: int, output: Path | None, reference: str | None, seed: int
) -> Answer:
    """Draw from the posterior given the data in OBSERVED (.csv or .npy).

    Several files are several observations; of data made of several arrays, one file for each:
    counts=counts.csv map=map.npy. Channels with declared names are found by the header of a .csv; empty cells
    and NA are values that were not observed.
    """
    if output is not None:
        check_output(output, posterior, *observed.paths, reference, endings=(".nc", ".csv"))
    loaded = load_posterior(posterior, None if reference is None else load_simulator(reference))
    y_obs = observed.read(loaded.events)
    with observed.advice():
        draws = loaded.sample(y_obs, n, seed=seed)
    if output is not None:
        draws.save(output)
    summary, verdict = draws.summary(), draws.verdict
    record = {"summary": summary.reset_index(), "verdict": verdict, "draws": output}
    return Answer(record, (table_text(summary, ".4g", index=True),), verdict)


@click.command("demo")
@options.output("HTML file of the report.", default=Path("report.html"), show_default=True)
@options.positive("--minutes", "Time limit of the Ricker fit.", 2.5)
@options.seed
def demo_verb(output: Path, minutes: float, seed: int) -> Answer:
    """Run every step on the Ricker model: simulate, fit, infer, ABC, exact posterior, report."""
    from sbi_flows.demo import run_demo

    check_output(output, endings=(".html",))
    with bar("training") as advance:
        run_demo(output, minutes=minutes, seed=seed, say=say, progress=advance)
    return Answer(None, (f"report: {output.resolve()}",))
