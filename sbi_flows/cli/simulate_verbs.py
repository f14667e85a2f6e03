"""The verbs before any fit: list, simulate."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import click

import sbi_flows as sf
from sbi_flows.cli import options
from sbi_flows.cli.execution import Execution, execution, executor_of
from sbi_flows.cli.inputs import all_of_bank, load_simulator
from sbi_flows.cli.paths import check_bank_place
from sbi_flows.cli.terminal import NOTHING_SAVED, Answer, bar, on_stop, resumes_from, say
from sbi_flows.problem.plugins import Plugin, list_plugins


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of plug-ins on standard output.")
def list_verb() -> Answer:
    """List the installed simulator plug-ins."""
    plugins = list_plugins()
    record = [
        {
            "name": p.name,
            "target": p.target,
            "ok": p.simulator is not None,
            "error": p.error,
            "data": None if p.simulator is None else p.simulator.events.describe(),
        }
        for p in plugins
    ]
    width = max((len(plugin.name) for plugin in plugins), default=0)
    return Answer(record, tuple(f"{plugin.name:{width}}  {_described(plugin)}" for plugin in plugins))


def _described(plugin: Plugin) -> str:
    if plugin.simulator is None:
        return f"BROKEN: {plugin.error}"
    parameters, data = _listed(plugin.simulator.prior.names), plugin.simulator.events.describe()
    observed = f"; observed: {_listed(plugin.simulator.observed)}" if plugin.simulator.observed else ""
    return f"{parameters} -> y of {data}{observed}  ({plugin.target})"


def _listed(names: Iterable[str]) -> str:
    first, *others = names
    return f"{first}, ..., {others[-1]}" if len(others) > 5 else ", ".join([first, *others])


@click.command("simulate")
@options.simulator
@options.integer("-n", 1, "Simulations that the bank should hold.", required=True)
@options.output("Folder of the bank; an existing bank is resumed or extended.")
@execution
@options.seed
@options.json
def simulate_verb(simulator: str, n: int, output: Path, where: Execution, seed: int) -> Answer:
    """Simulate N pairs (theta, y) into a bank.

    The same command resumes after a stop, and a larger -n extends the bank. A vectorised simulator fills
    whole blocks, usually of 1,000 simulations, and all of them are kept.
    """
    began = time.monotonic()
    check_bank_place(output, simulator)
    with (
        on_stop(lambda: resumes_from(output) if output.is_dir() else NOTHING_SAVED),
        bar("simulating") as advance,
        executor_of(where.scheduler) as executor,
    ):
        loaded = load_simulator(simulator)
        asked = sf.simulate(
            loaded,
            n,
            seed=seed,
            store=output,
            executor=executor,
            workers=where.workers,
            time_limit=where.time_limit,
            max_failures=where.max_failures,
            progress=lambda done, total: advance(done, total, ""),
        )
        there = all_of_bank(output, asked)
    say(str(there.failures() or ""))
    seconds = time.monotonic() - began
    held, status = len(there), there.counts()
    record = {"bank": output, "n": n, "in_bank": held, "status": status, "seconds": seconds}
    counts = ", ".join(f"{count:,} {kind}" for kind, count in status.items())
    why = "whole blocks are kept" if held - n < there.block_size else "the bank held more already"
    more = f"; {n:,} were asked for, {why}" if held > n else ""
    return Answer(record, (f"{output}: {held:,} simulations of {loaded.name} in the bank ({counts}){more}",))
