"""The verbs that judge: check, recalibrate, learning-curve, compare."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

import sbi_flows as sf
from sbi_flows.cli.inputs import advice_as_flags, load_bank, load_observed, load_simulator
from sbi_flows.cli.places import check_output
from sbi_flows.cli.terminal import (
    FILE,
    PATH,
    bar,
    json_option,
    print_json,
    print_verdict,
    say,
    seed_option,
    simulator_option,
    tell,
    verdict_json,
)
from sbi_flows.errors import SettingsError, TooFewSimulationsError
from sbi_flows.npe.settings import ROWS_PER_PARAMETER
from sbi_flows.problem.plugins import list_plugins
from sbi_flows.training.rows import LEAST_ROWS

_DEFAULT_SIMULATIONS, _LEAST_SIZES = 10_000, 3


@click.command("check")
@click.argument("posterior", type=FILE)
@click.option(
    "-n",
    "n",
    type=click.IntRange(100),
    default=1000,
    show_default=True,
    help="Simulated pairs to judge on, with --observed at least 200.",
)
@click.option("--observed", type=FILE, help="Data (.csv or .npy) at which it is judged too.")
@click.option("-o", "--output", type=PATH, help="Write an HTML page.")
@simulator_option
@seed_option
@json_option
def check_verb(
    posterior: Path,
    n: int,
    observed: Path | None,
    output: Path | None,
    reference: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Judge a posterior's calibration, and with --observed its draws there; exit code 1 on "do not trust"."""
    if output is not None:
        check_output(output, posterior, observed, reference, endings=(".html",))
    loaded = sf.load(posterior)
    y_obs = None if observed is None else load_observed(observed, loaded.event_shape)
    with bar("checking") as advance:
        check = sf.check(
            loaded, _simulator_of(loaded, reference), n=n, seed=seed, y_obs=y_obs, progress=advance
        )
    if output is not None:
        check.to_html(output)
    if as_json:
        print_json({**_check_json(check), "observed": None if observed is None else str(observed)})
    else:
        tell(check.quantities.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.3g}"))
        tell(
            check.table.drop(columns="sentence").to_string(
                index=False, float_format=lambda value: f"{value:.3g}"
            )
        )
        print_verdict(check.verdict)
    if check.level == "do not trust":
        sys.exit(1)


@click.command("recalibrate")
@click.argument("posterior", type=FILE)
@click.option(
    "-n",
    "n",
    type=click.IntRange(500),
    default=2000,
    show_default=True,
    help="Simulated pairs to fit the map on.",
)
@click.option(
    "--n-check",
    type=click.IntRange(100),
    default=1000,
    show_default=True,
    help="Other pairs, to check both posteriors on.",
)
@click.option("-o", "--output", type=PATH, required=True, help="File of the new posterior.")
@simulator_option
@seed_option
@json_option
def recalibrate_verb(
    posterior: Path, n: int, n_check: int, output: Path, reference: str | None, seed: int, as_json: bool
) -> None:
    """Set a posterior's width and place right on average over the prior.

    The new posterior is written where it is the better one on pairs that the map has not seen; else nothing
    is, and the exit code is 1.
    """
    check_output(output, posterior, reference)
    loaded = sf.load(posterior)
    with bar("checking") as advance:
        found = sf.recalibrate(
            loaded, _simulator_of(loaded, reference), n=n, n_check=n_check, seed=seed, progress=advance
        )
    if found.better:
        found.posterior.save(output)
    if as_json:
        checks = {"before": _check_json(found.before), "after": _check_json(found.after)}
        print_json(
            {
                "posterior": str(output) if found.better else None,
                "better": found.better,
                "text": found.text,
                **checks,
            }
        )
    else:
        tell(found.text)
        print_verdict(found.after.verdict if found.better else found.before.verdict)
        tell(f"{output}: {found.posterior}" if found.better else f"{output} was not written.")
    if not found.better:
        sys.exit(1)


@click.command("learning-curve")
@click.argument("simulator")
@click.option(
    "-n",
    "n",
    type=click.IntRange(1),
    help="Simulations to make; without --sizes at least 800, and 400 a parameter. [default: 10000]",
)
@click.option("--simulations", "bank", type=PATH, help="A bank to fit on instead.")
@click.option(
    "--sizes",
    help="Numbers of simulations to fit on, at least 3 of them, such as 500,2000,8000. [default: 1/16, 1/8, "
    "1/4, 1/2 and all of them]",
)
@seed_option
@json_option
def learning_curve_verb(
    simulator: str, n: int | None, bank: Path | None, sizes: str | None, seed: int, as_json: bool
) -> None:
    """Whether more simulations of SIMULATOR would help: held-out density against their number, and its
    continuation.
    """
    if n is not None and bank is not None:
        raise SettingsError("give one of -n and --simulations, not both.")
    chosen = None if sizes is None else _integers(sizes)
    loaded = load_simulator(simulator)
    made = None if bank is None else load_bank(bank)
    count = (n or _DEFAULT_SIMULATIONS) if made is None else len(made)
    _check_smallest(count, chosen, loaded.prior.d)
    simulations = sf.simulate(loaded, count, seed=seed) if made is None else made
    with advice_as_flags(), bar("fitting") as advance:
        curve = sf.learning_curve(loaded, simulations, sizes=chosen, seed=seed, progress=advance)
    if as_json:
        table = json.loads(curve.table.to_json(orient="records"))
        print_json(
            {
                "table": table,
                "a": curve.a,
                "b": curve.b,
                "c": curve.c,
                "determined": curve.determined,
                "text": curve.text,
            }
        )
        return
    tell(curve.table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    tell(curve.text)


@click.command("compare")
@click.argument("posterior", type=FILE)
@click.argument("observed", type=FILE)
@click.option(
    "-n", "n", type=click.IntRange(20), default=4000, show_default=True, help="Draws of the neural posterior."
)
@click.option(
    "--simulations", "bank", type=PATH, help="Bank for ABC. [default: the simulations trained on, made again]"
)
@click.option("-o", "--output", type=PATH, required=True, help="HTML file of the report.")
@simulator_option
@seed_option
@json_option
def compare_verb(
    posterior: Path,
    observed: Path,
    n: int,
    bank: Path | None,
    output: Path,
    reference: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Hold the neural posterior beside ABC and, where possible, the exact one, in an HTML report."""
    check_output(output, posterior, observed, bank, reference, endings=(".html",))
    loaded = sf.load(posterior)
    simulations = None if bank is None else load_bank(bank)
    y_obs, simulator = load_observed(observed, loaded.event_shape), _simulator_of(loaded, reference)
    comparison = sf.compare(loaded, y_obs, simulator, simulations=simulations, n=n, seed=seed, say=say)
    comparison.to_html(output)
    if as_json:
        table = json.loads(comparison.table.to_json(orient="records"))
        distances = json.loads(comparison.distances.to_json(orient="records"))
        print_json(
            {
                "report": str(output),
                "table": table,
                "distances": distances,
                "verdict": verdict_json(comparison.verdict),
            }
        )
        return
    tell(comparison.table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    tell(comparison.distances.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    print_verdict(comparison.verdict)
    tell(f"report: {output}")


def _check_json(check: sf.Check) -> dict[str, Any]:
    table, quantities = (
        json.loads(frame.to_json(orient="records")) for frame in (check.table, check.quantities)
    )
    return {
        "verdict": verdict_json(check.verdict),
        "table": table,
        "quantities": quantities,
        "gain": check.gain,
        "n": check.n,
    }


def _integers(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingsError(
            f"--sizes takes whole numbers with commas between them, such as 500,2000,8000; got {text!r}."
        ) from error
    if len(set(sizes)) < _LEAST_SIZES:
        raise SettingsError(
            f"--sizes takes at least {_LEAST_SIZES} different numbers, such as 500,2000,8000; got {text!r}."
        )
    return sizes


def _check_smallest(count: int, sizes: list[int] | None, d: int) -> None:
    """Refuse sizes the smallest of which nothing can be trained on, in terms of what was asked for."""
    least = max(LEAST_ROWS, ROWS_PER_PARAMETER * d)
    if sizes is None and count // 16 < least:
        raise TooFewSimulationsError(
            f"{count:,} simulations are too few: the smallest size is 1/16 of them, and at least {least} "
            f"are needed to train at all. "
            f"Simulate more, -n {max(_DEFAULT_SIMULATIONS, 16 * least)}, or give --sizes."
        )
    if sizes is not None and min(sizes) < least:
        raise TooFewSimulationsError(
            f"--sizes: {min(sizes)} is too few to train on; at least {least} are needed. Give larger ones."
        )


def _simulator_of(posterior: sf.Posterior, reference: str | None) -> sf.Simulator:
    name = posterior.facts["simulator"]
    if reference is None and name not in {plugin.name for plugin in list_plugins()}:
        raise SettingsError(
            f"this posterior's simulator {name!r} is not an installed plug-in. Name it: --simulator "
            f"path/to/file.py:{name}"
        )
    return load_simulator(reference or name)
