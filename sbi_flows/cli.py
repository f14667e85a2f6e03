"""The command line: one verb per step. `sbi-flows VERB --help` says what each takes.

Exit codes: 0 done; 1 failed, or `check` says do not trust; 2 something in the input is for the user to put right.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

import sbi_flows as sf
from sbi_flows.errors import SbiFlowsError, SettingsError
from sbi_flows.problem.observed import read_observed
from sbi_flows.problem.plugins import list_plugins

console = Console(stderr=True, highlight=False)
PATH, FILE = click.Path(path_type=Path), click.Path(path_type=Path, dir_okay=False)
KEEPING = ("simulate", "fit")


class _Verbs(click.Group):
    """A group that turns the package's own errors into a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except SbiFlowsError as error:
            if ctx.params.get("debug"):
                raise
            words = " ".join([str(error), *getattr(error, "__notes__", [])])
            console.print(Text.assemble((type(error).__name__, "bold red"), f": {words}"))
            ctx.exit(error.exit_code)
        except KeyboardInterrupt as stop:
            kept = "Nothing was kept: the same command begins again."
            if ctx.invoked_subcommand in KEEPING:
                kept = "What a bank or a checkpoint holds is kept, and the same command goes on from it."
            console.print(f"stopped. {' '.join(getattr(stop, '__notes__', [])) or kept}", markup=False)
            ctx.exit(130)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="sbi_flows")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Simulation-based inference: a simulator in, a posterior and a report out."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Root seed of all randomness.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
simulator_option = click.option(
    "--simulator", "reference", help="The simulator, where it is not a plug-in of the stored name: module:attribute or file.py:attribute."
)


@main.command("list")
@json_option
def list_verb(as_json: bool) -> None:
    """The simulator plug-ins that are installed."""
    plugins = list_plugins()
    if as_json:
        _print_json([{"name": p.name, "target": p.target, "ok": p.simulator is not None, "error": p.error} for p in plugins])
        return
    for plugin in plugins:
        if plugin.simulator is None:
            click.echo(f"{plugin.name:14} BROKEN  {plugin.error}")
            continue
        simulator = plugin.simulator
        observed = f"; data: {', '.join(simulator.observed)}" if simulator.observed else ""
        click.echo(f"{plugin.name:14} {', '.join(simulator.prior.names)} -> y {simulator.event_shape}{observed}   ({plugin.target})")


@main.command("simulate")
@click.argument("simulator")
@click.option("-n", "n", type=click.IntRange(1), required=True, help="How many simulations the bank should hold.")
@click.option("-o", "--output", type=PATH, required=True, help="Folder of the bank; an existing one is resumed or extended.")
@click.option("--workers", type=click.IntRange(1), help="Local processes. [default: this one if quick enough, else one a core]")
@click.option("--scheduler", help="Address of a Dask scheduler, tcp://host:8786 (needs the extra dask).")
@click.option("--time-limit", type=click.FloatRange(0, min_open=True), help="Seconds that one call of the simulator may take.")
@click.option(
    "--max-failures", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Share of failed rows that stops the run."
)
@seed_option
@json_option
def simulate_verb(
    simulator: str,
    n: int,
    output: Path,
    workers: int | None,
    scheduler: str | None,
    time_limit: float | None,
    max_failures: float,
    seed: int,
    as_json: bool,
) -> None:
    """Simulate N pairs (theta, y) into a bank. The same command resumes after a stop, and a larger -n extends."""
    loaded = sf.load_simulator(simulator)
    began = time.monotonic()
    with _bar("simulating") as advance, _executor(scheduler) as executor:
        simulations = sf.simulate(
            loaded,
            n,
            seed=seed,
            store=output,
            executor=executor,
            workers=workers,
            time_limit=time_limit,
            max_failures=max_failures,
            progress=lambda done, total: advance(done, total, ""),
        )
    if failures := simulations.failures():
        _say(str(failures))
    if as_json:
        _print_json({"bank": str(output), "n": len(simulations), "status": simulations.counts(), "seconds": time.monotonic() - began})
    else:
        counts = ", ".join(f"{count:,} {status}" for status, count in simulations.counts().items())
        click.echo(f"{output}: {len(simulations):,} simulations of {loaded.name} ({counts})")


@main.command("fit")
@click.argument("simulator")
@click.option("-n", "n", type=click.IntRange(1), help="Simulations to make. [default: 10000]")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Wall-clock budget for simulating and training instead.")
@click.option("--simulations", "bank", type=PATH, help="A bank to train on instead.")
@click.option("--checkpoint", type=PATH, help="File from which the same command goes on after a kill.")
@click.option("-o", "--output", type=PATH, required=True, help="File of the posterior.")
@seed_option
@json_option
def fit_verb(
    simulator: str, n: int | None, minutes: float | None, bank: Path | None, checkpoint: Path | None, output: Path, seed: int, as_json: bool
) -> None:
    """Learn the posterior of SIMULATOR and write it to a file."""
    loaded = sf.load_simulator(simulator)
    _check_writable(output)
    simulations = None if bank is None else sf.read_bank(bank)
    with _bar("training") as advance:
        posterior = sf.fit(
            loaded, simulations=simulations, n_simulations=n, minutes=minutes, seed=seed, checkpoint=checkpoint, say=_say, progress=advance
        )
    posterior.save(output)
    if as_json:
        whose = "_first_member" if (posterior.settings.members or 1) > 1 else ""
        loss = {f"valid_loss{whose}": posterior.history.best_loss}
        _print_json({"posterior": str(output), "notes": posterior.notes, **loss, "seconds": posterior.seconds, **posterior.facts})
    else:
        click.echo(f"{output}: {posterior}")


@main.command("infer")
@click.argument("posterior", type=FILE)
@click.argument("observed", type=FILE)
@click.option("-n", "n", type=click.IntRange(1), default=4000, show_default=True, help="Draws.")
@click.option("-o", "--output", type=PATH, help="Write the draws to .nc or .csv.")
@seed_option
@json_option
def infer_verb(posterior: Path, observed: Path, n: int, output: Path | None, seed: int, as_json: bool) -> None:
    """Draw from the posterior given the data in OBSERVED (.csv or .npy)."""
    if output is not None:
        _check_writable(output)
    draws = sf.load(posterior).sample(read_observed(observed), n, seed=seed)
    if output is not None:
        draws.save(output)
    if as_json:
        table = json.loads(draws.summary().reset_index().to_json(orient="records"))
        _print_json({"summary": table, "verdict": _verdict_json(draws.verdict), "draws": None if output is None else str(output)})
        return
    click.echo(draws.summary().to_string(float_format=lambda value: f"{value:.4g}"))
    _print_verdict(draws.verdict)


@main.command("check")
@click.argument("posterior", type=FILE)
@click.option("-n", "n", type=click.IntRange(1), default=1000, show_default=True, help="Simulated pairs to judge on.")
@click.option("-o", "--output", type=PATH, help="Write an HTML page.")
@simulator_option
@seed_option
@json_option
def check_verb(posterior: Path, n: int, output: Path | None, reference: str | None, seed: int, as_json: bool) -> None:
    """Judge a posterior's calibration; exit code 1 on "do not trust"."""
    if output is not None:
        _check_writable(output)
    loaded = sf.load(posterior)
    with _bar("checking") as advance:
        check = sf.check(loaded, _simulator_of(loaded, reference), n=n, seed=seed, progress=advance)
    if output is not None:
        check.to_html(output)
    if as_json:
        _print_json(
            {
                "verdict": _verdict_json(check.verdict),
                "table": json.loads(check.table.to_json(orient="records")),
                "quantities": json.loads(check.quantities.to_json(orient="records")),
                "gain": check.gain,
                "n": check.n,
            }
        )
    else:
        click.echo(check.quantities.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.3g}"))
        click.echo(check.table.drop(columns="sentence").to_string(index=False, float_format=lambda value: f"{value:.3g}"))
        _print_verdict(check.verdict)
    if check.level == "do not trust":
        sys.exit(1)


@main.command("compare")
@click.argument("posterior", type=FILE)
@click.argument("observed", type=FILE)
@click.option("-n", "n", type=click.IntRange(1), default=4000, show_default=True, help="Draws of the neural posterior.")
@click.option("--simulations", "bank", type=PATH, help="Bank for ABC. [default: the simulations trained on, made again]")
@click.option("-o", "--output", type=PATH, required=True, help="HTML file of the report.")
@simulator_option
@seed_option
@json_option
def compare_verb(
    posterior: Path, observed: Path, n: int, bank: Path | None, output: Path, reference: str | None, seed: int, as_json: bool
) -> None:
    """Hold the neural posterior beside ABC and, where possible, the exact one, in an HTML report."""
    loaded = sf.load(posterior)
    _check_writable(output)
    simulations = None if bank is None else sf.read_bank(bank)
    comparison = sf.compare(
        loaded, read_observed(observed), _simulator_of(loaded, reference), simulations=simulations, n=n, seed=seed, say=_say
    )
    comparison.to_html(output)
    if as_json:
        table = json.loads(comparison.table.to_json(orient="records"))
        distances = json.loads(comparison.distances.to_json(orient="records"))
        _print_json({"report": str(output), "table": table, "distances": distances, "verdict": _verdict_json(comparison.verdict)})
        return
    click.echo(comparison.table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    click.echo(comparison.distances.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    _print_verdict(comparison.verdict)
    click.echo(f"report: {output}")


@main.command("demo")
@click.option("-o", "--output", type=PATH, default=Path("report.html"), show_default=True, help="HTML file of the report.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=2.5, show_default=True, help="Budget of the Ricker fit.")
@seed_option
def demo_verb(output: Path, minutes: float, seed: int) -> None:
    """All of it on the Ricker model: simulate, fit, infer, ABC, exact, report."""
    from sbi_flows.demo import run_demo

    _check_writable(output)
    with _bar("training") as advance:
        run_demo(output, minutes=minutes, seed=seed, say=_say, progress=advance)
    click.echo(f"report: {output.resolve()}")


def _simulator_of(posterior: sf.Posterior, reference: str | None) -> sf.Simulator:
    name = posterior.facts["simulator"]
    if reference is None and name not in {plugin.name for plugin in list_plugins()}:
        raise SettingsError(f"this posterior's simulator {name!r} is not an installed plug-in. Name it: --simulator path/to/file.py:{name}")
    return sf.load_simulator(reference or name)


@contextmanager
def _executor(scheduler: str | None) -> Iterator[Any]:
    if scheduler is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise SettingsError("--scheduler needs Dask: pip install 'sbi_flows[dask]'.") from error
    try:
        client = Client(scheduler, timeout="20s")
    except (OSError, TimeoutError, ValueError) as error:
        raise SettingsError(
            f"--scheduler {scheduler}: no Dask scheduler answers there ({error}). Start one with `dask scheduler`."
        ) from error
    with client:
        yield client.get_executor(pure=False)


@contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int, str], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=None, text="")

        def advance(done: int, total: int, text: str) -> None:
            progress.update(task, completed=done, total=total, text=text)

        yield advance


def _say(text: str) -> None:
    if text:
        console.print(text, markup=False)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    console.print(Text.assemble((category.__name__, "yellow"), f": {message}"))


def _print_verdict(verdict: sf.Verdict) -> None:
    colour = {"trust": "green", "caution": "yellow", "do not trust": "bold red"}[verdict.level]
    console.print(f"[{colour}]verdict: {verdict.level}[/] - ", end="")
    console.print(verdict.text, markup=False)


def _verdict_json(verdict: sf.Verdict) -> dict[str, Any]:
    quantile = None if np.isnan(verdict.quantile) else verdict.quantile
    return {"ok": verdict.ok, "level": verdict.level, "text": verdict.text, "quantile": quantile}


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, allow_nan=False, default=str))


def _check_writable(path: Path) -> None:
    """Refuse an output that cannot be written before the work that leads to it is done."""
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise SettingsError(f"{path}: the folder {folder} does not exist or cannot be written to. Choose another output.")
    if path.is_dir():
        raise SettingsError(f"{path} is a folder. Name a file.")
