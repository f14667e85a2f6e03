"""The verb that compares models: models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import sbi_flows as sf
from sbi_flows.cli import options
from sbi_flows.cli.inputs import Observed, load_bank, load_simulator
from sbi_flows.cli.observed_files import named_file
from sbi_flows.cli.paths import check_output
from sbi_flows.cli.terminal import Answer, say, table_text
from sbi_flows.errors import ObservationError, SettingsError

_DATA = (".csv", ".npy")


@dataclass(frozen=True)
class _Given:
    """What is compared: models and observed files, in any order, banks and prior probabilities."""

    given: tuple[str, ...]
    banks: tuple[str, ...]
    prior: tuple[str, ...]
    decimal: str
    index: tuple[str, ...]

    @property
    def references(self) -> dict[str, str]:
        """Names of models, and what they name. Raises `SettingsError`."""
        return _pairs("models", [text for text in self.given if not text.endswith(_DATA)], alone=True)

    @property
    def observed(self) -> Observed:
        """The files of the observation. Raises `ObservationError`."""
        files = tuple(named_file(text) for text in self.given if text.endswith(_DATA))
        if not files:
            raise ObservationError(
                "no file of observed data was given: end with one, as ricker=ricker gompertz=gompertz "
                f"observed.csv ({' or '.join(_DATA)})."
            )
        return Observed(files, self.decimal, self.index)

    @property
    def bank_paths(self) -> dict[str, Path]:
        """Folders of banks by model."""
        return {name: Path(path) for name, path in _pairs("--simulations", self.banks).items()}

    @property
    def probabilities(self) -> dict[str, float] | None:
        """Prior probabilities by model. Raises `SettingsError`."""
        found = {}
        for name, text in _pairs("--prior", self.prior).items():
            try:
                found[name] = float(text)
            except ValueError:
                raise SettingsError(f"--prior {name}={text}: {text!r} is not a number.") from None
        return found or None


def _pairs(what: str, given: Sequence[str], *, alone: bool = False) -> dict[str, str]:
    """NAME=VALUE as a mapping. alone: a value without a name names itself. Raises `SettingsError`."""
    found: dict[str, str] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator and alone:
            name, value = text.rpartition(":")[2], text
        if not name or not value:
            raise SettingsError(f"{what}: give NAME=VALUE, got {text!r}.")
        if name in found:
            raise SettingsError(f"{what}: {name!r} is named twice. Give each model a name of its own.")
        found[name] = value
    return found


@click.command("models")
@options.grouped(
    "given",
    _Given,
    click.argument("given", nargs=-1, required=True, metavar="NAME=SIMULATOR... OBSERVED"),
    click.option(
        "--simulations", "banks", multiple=True, metavar="NAME=BANK", help="A bank of that model; repeat."
    ),
    click.option(
        "--prior",
        multiple=True,
        metavar="NAME=P",
        help="Prior probability of that model; repeat for each. [default: equal]",
    ),
    *options.reading,
)
@options.integer("-n", 100, "Simulations to make of each model. [default: 10000]")
@options.positive("--minutes", "Instead of -n: time limit for all of it.")
@options.integer("--workers", 1, "Local processes that simulate. [default: as for simulate]")
@click.option(
    "--evidence/--no-evidence",
    default=True,
    show_default=True,
    help="Whether the evidence is computed where every model has a likelihood.",
)
@options.output("Write an HTML page.", required=False)
@options.seed
@options.json
def models_verb(
    given: _Given,
    n: int | None,
    minutes: float | None,
    workers: int | None,
    evidence: bool,
    output: Path | None,
    seed: int,
) -> Answer:
    """Compare simulators as models of one observation.

    By a classifier, by ABC and, where every model has a likelihood, by the evidence; for example: sbi-flows
    models ricker=ricker gompertz=path/to/file.py:gompertz observed.csv -o models.html
    """
    references, observed = given.references, given.observed
    if output is not None:
        banks = given.bank_paths.values()
        check_output(output, *observed.paths, *references.values(), *banks, endings=(".html",))
    models: dict[str, sf.Simulator | None] = {
        name: load_simulator(reference) for name, reference in references.items()
    }
    simulators = [model for model in models.values() if model is not None]
    simulations = {name: load_bank(path) for name, path in given.bank_paths.items()}
    y_obs = observed.read(simulators[0].events.with_missing()) if simulators else None
    choice = sf.compare_models(
        models,
        y_obs,
        simulations=simulations,
        n_simulations=n,
        minutes=minutes,
        prior_probabilities=given.probabilities,
        seed=seed,
        settings=sf.ModelChoiceSettings(evidence=evidence),
        say=say,
        workers=workers,
    )
    if output is not None:
        choice.to_html(output)
    return _answer(choice, observed, output)


def _answer(choice: sf.ModelComparison, observed: Observed, output: Path | None) -> Answer:
    test = choice.calibration_test
    record: dict[str, Any] = {
        "report": output,
        "observed": observed.record,
        "probabilities": choice.probabilities,
        "table": choice.table,
        "calibration": {"p": test.p, "n": test.n, "level": test.level, "curves": choice.calibration},
        "models": choice.model_verdicts,
        "verdict": choice.verdict,
        "notes": [str(note) for note in choice.notes],
    }
    lines = [table_text(choice.table.drop(columns="against"), ".3f")]
    lines.append(f"log Bayes factors are in nats, against {choice.names[0]}")
    if output is not None:
        lines.append(f"report: {output}")
    return Answer(record, tuple(lines), choice.verdict)
