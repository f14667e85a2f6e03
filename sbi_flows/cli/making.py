"""The verbs that make something: list, simulate, fit, infer, demo."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import sbi_flows as sf
from sbi_flows.cli.inputs import advice_as_flags, all_of_bank, load_bank, load_observed, load_simulator
from sbi_flows.cli.places import check_bank_place, check_output
from sbi_flows.cli.terminal import (
    FILE,
    PATH,
    bar,
    json_option,
    keeping,
    print_json,
    print_verdict,
    say,
    seed_option,
    tell,
    verdict_json,
)
from sbi_flows.errors import SettingsError
from sbi_flows.flows.recipes import RECIPES
from sbi_flows.npe.settings import SIZES
from sbi_flows.problem.plugins import list_plugins


@click.command("list")
@click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON array on standard output, one object a plug-in."
)
def list_verb(as_json: bool) -> None:
    """The simulator plug-ins that are installed."""
    plugins = list_plugins()
    if as_json:
        print_json(
            [
                {"name": p.name, "target": p.target, "ok": p.simulator is not None, "error": p.error}
                for p in plugins
            ]
        )
        return
    for plugin in plugins:
        if plugin.simulator is None:
            tell(f"{plugin.name:14} BROKEN  {plugin.error}")
            continue
        simulator = plugin.simulator
        observed = f"; data: {', '.join(simulator.observed)}" if simulator.observed else ""
        tell(
            f"{plugin.name:14} {', '.join(simulator.prior.names)} -> y {simulator.event_shape}{observed}   "
            f"({plugin.target})"
        )


@click.command("simulate")
@click.argument("simulator")
@click.option(
    "-n", "n", type=click.IntRange(1), required=True, help="How many simulations the bank should hold."
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    help="Folder of the bank; an existing one is resumed or extended.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Local processes. [default: this one if quick enough, else one a core]",
)
@click.option("--scheduler", help="Address of a Dask scheduler, tcp://host:8786 (needs the extra dask).")
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    help="Seconds that one call of the simulator may take.",
)
@click.option(
    "--max-failures",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of failed rows that stops the run.",
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
    """Simulate N pairs (theta, y) into a bank. The same command resumes after a stop, and a larger -n
    extends.

    Of a simulator that takes many rows at once, whole blocks are made and kept, 1,000 simulations each as a
    rule.
    """
    began = time.monotonic()
    check_bank_place(output, simulator)
    with (
        keeping(
            lambda: (
                f"What {output} holds is kept, and the same command goes on from it."
                if output.is_dir()
                else _NOTHING
            )
        ),
        bar("simulating") as advance,
        _executor(scheduler) as executor,
    ):
        loaded = load_simulator(simulator)
        asked = sf.simulate(
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
        there = all_of_bank(output, asked)
    seconds = time.monotonic() - began
    if failures := there.failures():
        say(str(failures))
    if as_json:
        print_json(
            {"bank": str(output), "n": n, "in_bank": len(there), "status": there.counts(), "seconds": seconds}
        )
        return
    counts = ", ".join(f"{count:,} {status}" for status, count in there.counts().items())
    kept = "whole blocks are kept" if len(there) - n < there.block_size else "what was there is kept"
    more = f": {n:,} were asked for, {kept}" if len(there) > n else ""
    tell(f"{output}: {len(there):,} simulations of {loaded.name} in the bank ({counts}){more}")


@click.command("fit")
@click.argument("simulator")
@click.option(
    "-n", "n", type=click.IntRange(50), help="Simulations to make, 25 a parameter at least. [default: 10000]"
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    help="Wall-clock budget for simulating and training instead.",
)
@click.option("--simulations", "bank", type=PATH, help="A bank to train on instead.")
@click.option(
    "--members",
    type=click.IntRange(1),
    help="Networks that are mixed. [default: 4 below 20,000 simulations, 2 below 100,000; by the clock one "
    "a core up to 4]",
)
@click.option(
    "--size",
    type=click.Choice(["auto", *SIZES]),
    default="auto",
    show_default=True,
    help="Size of each network.",
)
@click.option(
    "--flow", type=click.Choice(sorted(RECIPES)), default="nsf", show_default=True, help="Kind of flow."
)
@click.option("--checkpoint", type=PATH, help="File from which the same command goes on after a kill.")
@click.option("-o", "--output", type=PATH, required=True, help="File of the posterior.")
@seed_option
@json_option
def fit_verb(
    simulator: str,
    n: int | None,
    minutes: float | None,
    bank: Path | None,
    members: int | None,
    size: Any,
    flow: Any,
    checkpoint: Path | None,
    output: Path,
    seed: int,
    as_json: bool,
) -> None:
    """Learn the posterior of SIMULATOR and write it to a file."""
    check_output(output, simulator, bank, checkpoint)
    if checkpoint is not None:
        check_output(checkpoint, simulator, bank)
    with keeping(lambda: _kept_of_fit(bank, checkpoint)), advice_as_flags(), bar("training") as advance:
        loaded = load_simulator(simulator)
        simulations = None if bank is None else load_bank(bank)
        settings = sf.FitSettings(members=members, size=size, flow=flow)
        source: dict[str, Any] = {"simulations": simulations, "n_simulations": n, "minutes": minutes}
        posterior = sf.fit(
            loaded, **source, seed=seed, settings=settings, checkpoint=checkpoint, say=say, progress=advance
        )
    posterior.save(output)
    if as_json:
        whose = "_first_member" if (posterior.settings.members or 1) > 1 else ""
        loss = {f"valid_loss{whose}": posterior.history.best_loss}
        print_json(
            {
                "posterior": str(output),
                "notes": posterior.notes,
                **loss,
                "seconds": posterior.seconds,
                **posterior.facts,
            }
        )
    else:
        tell(f"{output}: {posterior}")


@click.command("infer")
@click.argument("posterior", type=FILE)
@click.argument("observed", type=FILE)
@click.option("-n", "n", type=click.IntRange(1), default=4000, show_default=True, help="Draws.")
@click.option("-o", "--output", type=PATH, help="Write the draws to .nc or .csv.")
@seed_option
@json_option
def infer_verb(
    posterior: Path, observed: Path, n: int, output: Path | None, seed: int, as_json: bool
) -> None:
    """Draw from the posterior given the data in OBSERVED (.csv or .npy)."""
    if output is not None:
        check_output(output, posterior, observed, endings=(".nc", ".csv"))
    loaded = sf.load(posterior)
    draws = loaded.sample(load_observed(observed, loaded.event_shape), n, seed=seed)
    if output is not None:
        draws.save(output)
    if as_json:
        table = json.loads(draws.summary().reset_index().to_json(orient="records"))
        print_json(
            {
                "summary": table,
                "verdict": verdict_json(draws.verdict),
                "draws": None if output is None else str(output),
            }
        )
        return
    tell(draws.summary().to_string(float_format=lambda value: f"{value:.4g}"))
    print_verdict(draws.verdict)


@click.command("demo")
@click.option(
    "-o",
    "--output",
    type=PATH,
    default=Path("report.html"),
    show_default=True,
    help="HTML file of the report.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=2.5,
    show_default=True,
    help="Budget of the Ricker fit.",
)
@seed_option
def demo_verb(output: Path, minutes: float, seed: int) -> None:
    """All of it on the Ricker model: simulate, fit, infer, ABC, exact, report."""
    from sbi_flows.demo import run_demo

    check_output(output, endings=(".html",))
    with bar("training") as advance:
        run_demo(output, minutes=minutes, seed=seed, say=say, progress=advance)
    tell(f"report: {output.resolve()}")


_NOTHING = "Nothing was kept: the same command begins again."


def _kept_of_fit(bank: Path | None, checkpoint: Path | None) -> str:
    if checkpoint is not None and (
        checkpoint.is_file() or Path(f"{checkpoint}.1").is_file()
    ):  # the second member's
        return f"What {checkpoint} holds is kept, and the same command goes on from it."
    if checkpoint is not None:
        return (
            f"Nothing was kept: there was no checkpoint in {checkpoint} yet, and the same command begins "
            f"again."
        )
    if bank is not None:
        return (
            f"The simulations in {bank} are kept, the training is not: with --checkpoint FILE the same "
            f"command goes on from there."
        )
    return (
        f"{_NOTHING} To go on after a stop, simulate into a bank, and fit with --simulations BANK "
        f"--checkpoint FILE."
    )


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
            f"--scheduler {scheduler}: no Dask scheduler answers there ({error}). Start one with `dask "
            f"scheduler`."
        ) from error
    with client:
        yield client.get_executor(pure=False)
