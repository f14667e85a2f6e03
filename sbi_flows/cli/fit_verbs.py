"""The verbs that make and use a posterior: fit, infer, demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

import sbi_flows as sf
from sbi_flows.cli import options
from sbi_flows.cli.inputs import (
    Observed,
    Reading,
    advice_as_flags,
    check_both,
    load_bank,
    load_pairs,
    load_posterior,
    load_prior,
    load_simulator,
)
from sbi_flows.cli.paths import check_output
from sbi_flows.cli.terminal import NOTHING_SAVED, Answer, bar, on_stop, resumes_from, say, table_text
from sbi_flows.errors import SettingsError
from sbi_flows.npe.settings import DENSITIES, SIZES
from sbi_flows.simulation.held_out import SOME_PAIRS


@dataclass(frozen=True)
class _Source:
    """What to train on: at most one of n, minutes, a bank, and the files of pairs made elsewhere. Raises
    `SettingsError`.
    """

    n: int | None
    minutes: float | None
    bank: Path | None
    theta: Path | None
    data: Path | None
    prior: str | None
    decimal: str
    index: tuple[str, ...]

    def __post_init__(self) -> None:
        check_both(self.theta, self.data)
        if sum(given is not None for given in (self.n, self.minutes, self.bank, self.theta)) > 1:
            raise SettingsError(
                "give one of -n, --minutes and --simulations, or --theta and --data, not several."
            )
        if self.theta is None and (self.prior is not None or self.index or self.decimal != "."):
            raise SettingsError("--prior, --decimal and --index are for pairs from --theta and --data.")

    def simulations(self, simulator: sf.Simulator | None) -> sf.Simulations | None:
        """Those that are there already."""
        if self.bank is not None:
            return load_bank(self.bank, None if simulator is None else simulator.prior)
        if self.theta is None or self.data is None:
            if simulator is None:
                raise SettingsError(
                    "fit needs a SIMULATOR, a bank (--simulations), or pairs made elsewhere: --theta "
                    "theta.csv --data data.csv --prior prior.py:prior."
                )
            return None
        if self.prior is None and simulator is None:
            raise SettingsError(
                "pairs from --theta and --data need the prior that theta was drawn from: --prior "
                "path/to/file.py:prior, where prior = sf.Prior(...)."
            )
        prior = simulator.prior if simulator and self.prior is None else load_prior(self.prior or "")
        return load_pairs(prior, self.theta, self.data, Reading(self.decimal, self.index))


@click.command("fit")
@options.optional_simulator
@options.grouped(
    "source",
    _Source,
    options.integer("-n", 50, "Simulations to make, at least 25 per parameter. [default: 10000]"),
    options.positive("--minutes", "Instead of -n: time limit for simulating and training."),
    options.bank("Instead of -n: a bank to train on."),
    *options.pairs,
    click.option("--prior", help="Their prior, file.py:attribute. [default: that of SIMULATOR]"),
    *options.reading,
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
    source: _Source,
    settings: sf.FitSettings,
    checkpoint: Path | None,
    output: Path,
    seed: int,
) -> Answer:
    """Train a posterior for SIMULATOR and save it.

    SIMULATOR is not needed with --simulations, or with --theta, --data and --prior.
    """
    inputs = simulator, source.bank, source.theta, source.data, source.prior
    check_output(output, checkpoint, *inputs)
    if checkpoint is not None:
        check_output(checkpoint, *inputs)
    with on_stop(lambda: _saved(source, checkpoint)), advice_as_flags(), bar("training") as advance:
        loaded = None if simulator is None else load_simulator(simulator)
        posterior = sf.fit(
            loaded,
            simulations=source.simulations(loaded),
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


def _saved(source: _Source, checkpoint: Path | None) -> str:
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
    """Draw from the posterior given the data in OBSERVED (.csv or .npy)."""
    if output is not None:
        check_output(output, posterior, observed.observed, reference, endings=(".nc", ".csv"))
    loaded = load_posterior(posterior, None if reference is None else load_simulator(reference))
    draws = loaded.sample(observed.read(loaded.event_shape), n, seed=seed)
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
