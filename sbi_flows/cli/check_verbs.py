"""The verbs that test a posterior: check, compare, recalibrate, learning-curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import sbi_flows as sf
from sbi_flows.cli import options
from sbi_flows.cli.inputs import Tables, advice_as_flags, load_bank, load_posterior, load_simulator
from sbi_flows.cli.observed_files import named_file
from sbi_flows.cli.paths import check_output
from sbi_flows.cli.terminal import Answer, bar, say, table_text
from sbi_flows.errors import SettingsError, TooFewSimulationsError
from sbi_flows.npe.settings import ROWS_PER_PARAMETER
from sbi_flows.problem.plugins import list_plugins
from sbi_flows.simulation.from_arrays import GIVEN
from sbi_flows.training.rows import LEAST_ROWS

_DEFAULT_SIMULATIONS, _LEAST_SIZES = 10_000, 3


@click.command("check")
@options.posterior
@options.integer("-n", 100, "Simulated pairs to test on; with --observed at least 200.", 1000)
@options.grouped(
    "tables",
    Tables,
    click.option(
        "--observed",
        type=named_file,
        multiple=True,
        metavar="[NAME=]FILE",
        help="Observed data (.csv or .npy) at which to test as well; of data made of several arrays, once "
        "for each.",
    ),
    *options.reading,
    *options.pairs,
)
@options.output("Write an HTML page.", required=False)
@options.reference
@options.seed
@options.json
def check_verb(
    posterior: Path, n: int, tables: Tables, output: Path | None, reference: str | None, seed: int
) -> Answer:
    """Test a posterior's calibration; exit code 1 on "do not trust"."""
    if output is not None:
        check_output(output, posterior, *tables.files, reference, endings=(".html",))
    loaded, simulator = _loaded_for(tables, posterior, reference)
    y_obs = tables.read(loaded.events) if tables.observed else None
    pairs = tables.pairs(loaded.prior)
    with tables.advice(), bar("checking") as advance:
        check = sf.check(loaded, simulator, simulations=pairs, n=n, seed=seed, y_obs=y_obs, progress=advance)
    if output is not None:
        check.to_html(output)
    record = {**_check_record(check), "observed": tables.record}
    found = (check.quantities, check.table.drop(columns="sentence"))
    lines = tuple(table_text(table, ".3g") for table in found)
    return Answer(record, lines, check.verdict, failed=check.level == "do not trust")


@click.command("compare")
@options.posterior
@options.grouped("tables", Tables, options.observed, *options.reading, *options.pairs)
@options.integer("-n", 20, "Draws of the neural posterior.", 4000)
@options.bank("Bank for ABC. [default: the training simulations, made again]")
@options.output("HTML file of the report.")
@options.reference
@options.seed
@options.json
def compare_verb(
    posterior: Path, tables: Tables, n: int, bank: Path | None, output: Path, reference: str | None, seed: int
) -> Answer:
    """Compare a posterior with ABC and, where there is a likelihood, the exact one.

    This compares methods for one simulator; to compare simulators as models of the data, see `models`.

    Of data made of several arrays give one file for each: counts=counts.csv map=map.npy.
    """
    check_output(output, posterior, *tables.files, bank, reference, endings=(".html",))
    loaded, simulator = _loaded_for(tables, posterior, reference)
    if bank is not None and tables.theta is not None:
        raise SettingsError("give --simulations, or --theta and --data, not both.")
    simulations = tables.pairs(loaded.prior) if bank is None else load_bank(bank, loaded.prior)
    y_obs = tables.read(loaded.events)
    with tables.advice():
        comparison = sf.compare(loaded, y_obs, simulator, simulations=simulations, n=n, seed=seed, say=say)
    comparison.to_html(output)
    table, distances, verdict = comparison.table, comparison.distances, comparison.verdict
    record = {"report": output, "table": table, "distances": distances, "verdict": verdict}
    lines = (table_text(table, ".4g"), table_text(distances, ".3f"), f"report: {output}")
    return Answer(record, lines, verdict)


@click.command("recalibrate")
@options.posterior
@options.integer("-n", 500, "Simulated pairs to fit the correction to.", 2000)
@options.integer("--n-check", 100, "Further pairs, on which both posteriors are checked.", 1000)
@options.output("File of the new posterior.")
@options.reference
@options.seed
@options.json
def recalibrate_verb(
    posterior: Path, n: int, n_check: int, output: Path, reference: str | None, seed: int
) -> Answer:
    """Correct a posterior's bias and dispersion, on average over the prior.

    The new posterior is saved if it is the better one on simulations that the correction has not seen.
    Otherwise nothing is saved, and the exit code is 1.
    """
    check_output(output, posterior, reference)
    loaded, simulator = _loaded(posterior, reference)
    with bar("checking") as advance:
        found = sf.recalibrate(loaded, simulator, n=n, n_check=n_check, seed=seed, progress=advance)
    if found.better:
        found.posterior.save(output)
    saved = f"{output}: {found.posterior}" if found.better else f"{output} was not written."
    record = {
        "posterior": output if found.better else None,
        "better": found.better,
        "text": found.text,
        "before": _check_record(found.before),
        "after": _check_record(found.after),
    }
    verdict = (found.after if found.better else found.before).verdict
    return Answer(record, (found.text, saved), verdict, failed=not found.better)


@click.command("learning-curve")
@options.simulator
@options.integer(
    "-n",
    1,
    "Simulations to make; without --sizes at least 800, and at least 400 per parameter. [default: 10000]",
)
@options.bank("Instead of -n: a bank to fit on.")
@click.option(
    "--sizes",
    help="Numbers of simulations to fit on, at least 3 of them, such as 500,2000,8000. [default: 1/16, 1/8, "
    "1/4, 1/2 and all]",
)
@options.seed
@options.json
def learning_curve_verb(
    simulator: str, n: int | None, bank: Path | None, sizes: str | None, seed: int
) -> Answer:
    """Estimate how much more simulations would help.

    Fits on growing numbers of simulations and extrapolates the log density of held-out parameters.
    """
    if n is not None and bank is not None:
        raise SettingsError("give one of -n and --simulations, not both.")
    chosen = None if sizes is None else _integers(sizes)
    loaded = load_simulator(simulator)
    made = None if bank is None else load_bank(bank, loaded.prior)
    count = (n or _DEFAULT_SIMULATIONS) if made is None else len(made)
    _check_smallest(count, chosen, loaded.prior.d)
    simulations = sf.simulate(loaded, count, seed=seed) if made is None else made
    with advice_as_flags(), bar("fitting") as advance:
        curve = sf.learning_curve(loaded, simulations, sizes=chosen, seed=seed, progress=advance)
    fitted = {name: getattr(curve, name) for name in ("a", "b", "c", "determined", "text")}
    return Answer({"table": curve.table, **fitted}, (table_text(curve.table, ".3f"), curve.text))


def _check_record(check: sf.Check) -> dict[str, Any]:
    return {name: getattr(check, name) for name in ("verdict", "table", "quantities", "gain", "n")}


def _integers(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if len(set(sizes)) < _LEAST_SIZES:
        wanted = f"at least {_LEAST_SIZES} different whole numbers, such as 500,2000,8000"
        raise SettingsError(f"--sizes takes {wanted}; got {text!r}.")
    return sizes


def _check_smallest(count: int, sizes: list[int] | None, d: int) -> None:
    """Refuse sizes of which the smallest is too small to train on."""
    least = max(LEAST_ROWS, ROWS_PER_PARAMETER * d)
    if sizes is None and count // 16 < least:
        raise TooFewSimulationsError(
            f"{count:,} simulations are too few: the smallest fit takes 1/16 of them, and a fit needs at "
            f"least {least}. Simulate more, -n {max(_DEFAULT_SIMULATIONS, 16 * least)}, or give --sizes."
        )
    if sizes is not None and min(sizes) < least:
        raise TooFewSimulationsError(
            f"--sizes: {min(sizes)} simulations are too few for a fit; at least {least} are needed."
        )


def _loaded_for(
    tables: Tables, path: Path, reference: str | None
) -> tuple[sf.Posterior, sf.Simulator | None]:
    """The same; pairs need no simulator, and do without one that is not named."""
    if tables.theta is None or reference is not None:
        return _loaded(path, reference)
    return load_posterior(path, None), None


def _loaded(path: Path, reference: str | None) -> tuple[sf.Posterior, sf.Simulator]:
    """A posterior and its simulator: the one that was named, else the plug-in of the stored name."""
    named = None if reference is None else load_simulator(reference)
    posterior = load_posterior(path, named)
    name = posterior.facts["simulator"]
    if named is None and name == GIVEN:
        raise SettingsError(
            "this posterior was trained on pairs made elsewhere. Name their simulator, --simulator "
            "path/to/file.py:attribute; check and compare also take further pairs, --theta and --data."
        )
    if named is None and name not in {plugin.name for plugin in list_plugins()}:
        raise SettingsError(
            f"this posterior's simulator {name!r} is not an installed plug-in. Name it: --simulator "
            f"path/to/file.py:{name}"
        )
    return posterior, named or load_simulator(name)
