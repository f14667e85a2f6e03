"""The verbs that compare methods: compare, study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

import sbi_flows as sf
from sbi_flows.cli import options
from sbi_flows.cli.inputs import Tables, load_bank, posterior_for, with_simulator
from sbi_flows.cli.paths import check_output
from sbi_flows.cli.terminal import Answer, say, table_text
from sbi_flows.errors import SettingsError
from sbi_flows.simulation.settings import Place


@dataclass(frozen=True)
class Contest:
    """Which methods, and what each of them may spend for one observation."""

    methods: str | None
    n_simulations: int | None
    minutes: float | None
    workers: int | None
    export: Path | None
    seed: int

    @property
    def chosen(self) -> Literal["all"] | list[str] | None:
        """The methods, as `sf.compare` takes them."""
        if self.methods is None or self.methods.strip() == "all":
            return "all" if self.methods else None
        return [name.strip() for name in self.methods.split(",") if name.strip()]

    @property
    def budget(self) -> Mapping[str, Any]:
        """The arguments of `sf.compare` that say what may be spent."""
        return {"n_simulations": self.n_simulations, "minutes": self.minutes}

    @property
    def place(self) -> Place:
        """Where to simulate."""
        return Place() if self.workers is None else Place(workers=self.workers)


contest = options.grouped(
    "contest", Contest, options.methods, *options.budget, options.workers, options.export, options.seed
)


@click.command("compare")
@options.posterior
@options.grouped("tables", Tables, options.observed, *options.reading, *options.pairs)
@contest
@options.integer("-n", 20, "Draws of the neural posterior.", 4000)
@options.bank("Bank for rejection ABC. [default: the training simulations, made again]")
@options.output("HTML file of the report.")
@options.reference
@options.json
def compare_verb(
    posterior: Path,
    tables: Tables,
    contest: Contest,
    n: int,
    bank: Path | None,
    output: Path,
    reference: str | None,
) -> Answer:
    """Compare a posterior with ABC and, where there is a likelihood, the exact one.

    Of data made of several arrays give one file for each: counts=counts.csv map=map.npy. To ask which of
    several simulators made the data, see `sbi-flows models`.
    """
    check_output(output, posterior, *tables.files, bank, reference, endings=(".html",))
    found, simulator = posterior_for(tables, posterior, reference)
    if bank is not None and tables.theta is not None:
        raise SettingsError("give --simulations, or --theta and --data, not both.")
    simulations = tables.pairs(found.prior) if bank is None else load_bank(bank, found.prior)
    y_obs = tables.read(found.events)
    with tables.advice():
        comparison = sf.compare(
            found,
            y_obs,
            simulator,
            methods=contest.chosen,
            simulations=simulations,
            n=n,
            seed=contest.seed,
            say=say,
            **contest.budget,
            **contest.place,
        )
    comparison.to_html(output)
    if contest.export is not None:
        comparison.export(contest.export)
    tables_shown = {
        "table": comparison.table,
        "methods": comparison.methods,
        "distances": comparison.distances,
    }
    record = {
        "report": output,
        "export": contest.export,
        **tables_shown,
        "preferred": comparison.preferred.method,
        "verdict": comparison.verdict,
        "verdicts": comparison.verdicts,
        "left_out": [str(note) for note in comparison.left_out],
        "predictive_p": checked.p if (checked := comparison.predictive_check) is not None else None,
    }
    lines = (
        table_text(comparison.table, ".4g"),
        table_text(comparison.methods, ".3g"),
        f"{comparison.preferred.why}.",
        f"report: {output}",
    )
    return Answer(record, lines, comparison.verdict)


@click.command("study")
@options.posterior
@contest
@options.integer("--observations", 2, "Data sets to simulate from the prior.", 100)
@options.integer("-n", 100, "Draws of the neural posterior.", 1000)
@click.option(
    "--store", type=options.PATH, help="Folder that keeps finished data sets; the same call resumes."
)
@options.output("HTML file of the study.")
@options.reference
@options.json
def study_verb(
    posterior: Path,
    contest: Contest,
    observations: int,
    n: int,
    store: Path | None,
    output: Path,
    reference: str | None,
) -> Answer:
    """Score the methods on many simulated data sets whose truth is known."""
    check_output(output, posterior, reference, endings=(".html",))
    found, simulator = with_simulator(posterior, reference)
    made = sf.study(
        found,
        simulator,
        observations=observations,
        methods=contest.chosen,
        n=n,
        seed=contest.seed,
        store=store,
        say=say,
        **contest.budget,
        **contest.place,
    )
    made.to_html(output)
    if contest.export is not None:
        made.export(contest.export)
    record = {"study": output, "summary": made.summary, "left_out": [str(note) for note in made.left_out]}
    return Answer(record, (table_text(made.summary, ".3g"), f"study: {output}"))
