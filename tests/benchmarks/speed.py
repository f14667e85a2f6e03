"""Print speed figures of ours and of sbi: `python -m tests.benchmarks.speed [--peers PYTHON [--bayesflow
EPOCHS]] [--quick]`. Not run by pytest.

Both learn Ricker from the same 10,000 simulations, one after the other on the same machine, each in a process
of its own (peak memory is the process's). sbi: NPE, neural spline flow, convolutional embedding of log(1 +
counts), defaults.

    time to sbi's density   seconds of the shortest of our complete fits (1/128, 1/64, ... of the default
                            epochs) whose mean held-out log density is at least sbi's; sbi's mass outside the
                            prior is added back
    a training step         spline coupling flows of 5 layers, 50 hidden units, 8 bins, the same ten
                            parameters, ten numbers and batch of 200, validation included, median of runs that
                            alternate; and ours with the default flow
    draws                   per second, 10,000 for one series and 1,000 for each of 1,000
    BayesFlow               (--bayesflow EPOCHS) that many epochs of its defaults on the same simulations, and
                            our time to its density then
    import                  of the package and what a fit needs, median of fresh processes

--quick: fewer simulations, epochs and draws, to see that it runs. --clock cpu: processor time of each process
instead of wall-clock time, for a machine that others use too; with OMP_NUM_THREADS=1 an idle machine gives
the same.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import sbi_flows as sf
from simulators.gaussian_linear import gaussian_linear
from simulators.ricker import ricker
from tests.benchmarks import peer_sbi
from tests.benchmarks.sections import parser_of
from tests.benchmarks.timings import (
    BATCH,
    QUICK,
    Sizes,
    import_seconds,
    our_ricker,
    our_step,
    pairs,
    ricker_pairs,
    time_to,
)


def in_a_process(job: str, quick: bool, clock: str) -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, "--job", job, "--clock", clock, *["--quick"] * quick]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{job} failed: {done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def show(what: str, ours: float, theirs: float | None, unit: str, digits: int = 1) -> None:
    compared = "" if theirs is None else f"; sbi {theirs:,.{digits}f} {unit}; ratio {ours / theirs:.2f}"
    print(f"{what}: ours {ours:,.{digits}f} {unit}{compared}", flush=True)


def arrays_for_peers(sizes: Sizes) -> dict[str, Any]:
    """The simulations, held-out pairs and series that the other packages are handed."""
    simulations, (theta, y) = ricker_pairs(sizes)
    return {
        **{"theta": simulations.theta, "y": simulations.y, "held_out_theta": theta, "held_out_y": y},
        **{"lower": ricker.prior.lower, "upper": ricker.prior.upper},
        "observed": pairs(ricker, sizes.series, 5)[1],
    }


def sbi_on_ricker(sizes: Sizes, peers: str, folder: Path) -> dict[str, Any]:
    asked = {"seed": 1, "clock": sizes.clock, "one": sizes.one, "each": sizes.each, "epochs": sizes.epochs}
    asked["leak_rows"] = min(1000, sizes.held_out)
    return peer_sbi.call(peers, folder / "ricker", "ricker", arrays_for_peers(sizes), asked)[1]


def bayesflow_on_ricker(sizes: Sizes, peers: str, folder: Path, epochs: int) -> dict[str, Any]:
    asked, arrays = {"seed": 1, "clock": sizes.clock, "epochs": epochs}, arrays_for_peers(sizes)
    return peer_sbi.call(peers, folder / "bayesflow", "ricker", arrays, asked, "peer_bayesflow")[1]


def ricker_figures(sizes: Sizes, peers: str | None, folder: Path, quick: bool, bayesflow: int) -> None:
    theirs = sbi_on_ricker(sizes, peers, folder) if peers else {}
    ours = in_a_process("ricker", quick, sizes.clock)
    n, held_out = f"{sizes.simulations:,}", f"{sizes.held_out:,}"
    print(f"Ricker, {n} simulations; mean held-out log density over {held_out} pairs")
    of_sbi = (
        "; sbi {log_density:.2f} nats ({log_density_raw:.2f} before rejection, {inside:.1%} of its mass "
        "inside the prior)".format(**theirs)
        if theirs
        else ""
    )
    print(f"  one network: ours {ours['log_density']:.2f} nats{of_sbi}")
    show("  training to the end", ours["train_seconds"], theirs.get("train_seconds"), "s")
    show("peak memory of that process", ours["peak_mib"], theirs.get("peak_mib"), "MiB", 0)
    show(f"draws per second, 1 x {sizes.one:,}", ours["one"], theirs.get("one"), "draws/s", 0)
    many = f"{sizes.series:,} x {sizes.each:,}"
    show(f"draws per second, {many}", ours["many"], theirs.get("many"), "draws/s", 0)
    if theirs and ours["train"]:
        wanted, took = theirs["log_density"], theirs["train_seconds"]
        print(f"time to sbi's density of {wanted:.2f} nats, for which sbi took {took:.0f} s:", flush=True)
        print(f"  {time_to(wanted, sizes, ours)}", flush=True)
    if peers and bayesflow and ours["train"]:
        other = bayesflow_on_ricker(sizes, peers, folder, bayesflow)
        wanted, took = other["log_density"], other["train_seconds"]
        print(
            f"BayesFlow, {bayesflow} epochs: {wanted:.2f} nats after {took:.0f} s; ours to there:", flush=True
        )
        print(f"  {time_to(wanted, sizes, ours)}", flush=True)


def sbi_step(sizes: Sizes, peers: str, folder: Path) -> float:
    """Milliseconds of sbi's training step."""
    linear, prior = sf.simulate(gaussian_linear, sizes.step_rows, seed=1, workers=1), gaussian_linear.prior
    arrays = {"theta": linear.theta, "y": linear.y, "lower": prior.lower, "upper": prior.upper}
    asked = {
        "seed": 1,
        "clock": sizes.clock,
        "steps": 5,
        "bins": 8,
        "batch": BATCH,
        "epochs": sizes.step_epochs,
    }
    return float(peer_sbi.call(peers, folder, "step", arrays, asked)[1]["ms"])


def step_figures(sizes: Sizes, peers: str | None, folder: Path) -> None:
    ours, theirs = [], []
    for k in range(sizes.step_rounds):
        ours.append(our_step("spline_coupling", 5, sizes))
        if peers:
            theirs.append(sbi_step(sizes, peers, folder / f"step{k}"))
    of_sbi = statistics.median(theirs) if theirs else None
    show("training step, equal sizes", statistics.median(ours), of_sbi, "ms", 2)
    show("training step, default flow, same batch, 50 hidden units", our_step("nsf", 3, sizes), None, "ms", 2)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--peers", help="a Python with sbi")
    epochs = "train BayesFlow for that many epochs, in the same environment"
    parser.add_argument("--bayesflow", type=int, default=0, metavar="EPOCHS", help=epochs)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--clock", choices=sorted(peer_sbi.CLOCKS), default="wall")
    parser.add_argument("--job", choices=("ricker",), help="the process that this one starts")
    options = parser.parse_args()
    sizes = dataclasses.replace(QUICK if options.quick else Sizes(), clock=options.clock)
    if options.job:
        print(json.dumps(our_ricker(sizes)))
        return
    threads, kind = os.environ.get("OMP_NUM_THREADS", "unset"), "quick, " if options.quick else ""
    python, load = sys.version.split()[0], f"{os.getloadavg()[0]:.1f}"
    print(f"Python {python}, {os.cpu_count()} cores, load {load}, OMP_NUM_THREADS {threads}, ", end="")
    print(f"{kind}seconds by {sizes.clock}")
    with tempfile.TemporaryDirectory() as folder:
        ricker_figures(sizes, options.peers, Path(folder), options.quick, options.bayesflow)
        step_figures(sizes, options.peers, Path(folder))
    sbi = import_seconds(options.peers, "from sbi.inference import NPE", sizes) if options.peers else None
    show("import", import_seconds(sys.executable, "from sbi_flows import fit", sizes), sbi, "s", 2)


if __name__ == "__main__":
    main()
