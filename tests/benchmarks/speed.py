"""Print speed figures beside sbi's: `python -m tests.benchmarks.speed [--peers PYTHON [--bayesflow EPOCHS]]
[--quick]`. Not run by pytest.

Both learn Ricker from the same 10,000 simulations, one after the other on the same machine, each in a process
of its own (peak memory is the process's). sbi: NPE, neural spline flow, convolutional embedding of log(1 +
counts), defaults.

    time to sbi's density   seconds of the shortest of our complete fits (1/128, 1/64, ... of the default
                            epochs) whose mean held-out log density is at least sbi's; sbi's is given its mass
                            outside the prior back
    a training step         spline coupling flows of 5 layers, 50 hidden units, 8 bins, the same ten
                            parameters, ten numbers and batch of 200, validation included, median of runs that
                            alternate; and ours with the default flow
    draws                   a second, 10,000 for one series and 1,000 for each of 1,000
    BayesFlow               (--bayesflow EPOCHS) so many epochs of its defaults on the same simulations, and
    our time to its density then import                  of the package and what a fit needs, median of fresh
    processes

--quick: fewer simulations, epochs and draws: to see that it runs. --clock cpu: processor time of each process
instead of the clock on the wall, for a machine that others use too (with OMP_NUM_THREADS=1 the same on a
quiet one).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sbi_flows as sf
from simulators.gaussian_linear import gaussian_linear
from simulators.ricker import ricker
from tests.benchmarks import peer_sbi

F = NDArray[np.float64]

FRACTIONS = (1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
BATCH = 200


@dataclasses.dataclass(frozen=True)
class Sizes:
    simulations: int = 10_000
    held_out: int = 5000
    epochs: int | None = None
    one: int = 10_000
    series: int = 1000
    each: int = 1000
    step_rows: int = 20_000
    step_epochs: int = 5
    imports: int = 5
    step_rounds: int = 3
    clock: str = "wall"

    def now(self) -> float:
        return peer_sbi.CLOCKS[self.clock]()

    def seconds(self, what: Callable[[], object]) -> float:
        began = self.now()
        what()
        return self.now() - began


QUICK = Sizes(
    simulations=2000,
    held_out=1000,
    epochs=3,
    one=2000,
    series=50,
    each=100,
    step_rows=4000,
    step_epochs=3,
    imports=1,
    step_rounds=1,
)


def pairs(simulator: sf.Simulator, n: int, seed: int) -> tuple[F, F]:
    rng = np.random.default_rng(seed)
    theta = simulator.prior.sample(n, rng)
    return theta, np.asarray(simulator.run(theta, rng), dtype=np.float64)


def fit_ricker(
    simulations: sf.Simulations, train: sf.TrainSettings | None, sizes: Sizes
) -> tuple[sf.Posterior, float]:
    fit, began = sf.fit, sizes.now()
    posterior = fit(
        ricker, simulations=simulations, seed=1, settings=sf.FitSettings(members=1, train=train), say=None
    )
    return posterior, sizes.now() - began


def warm_up() -> None:
    """One short fit, so that what is loaded when it is first used is not counted."""
    sf.fit(
        ricker,
        n_simulations=500,
        seed=1,
        settings=sf.FitSettings(members=1, train=sf.TrainSettings(epochs=1)),
        say=None,
    )


def our_ricker(sizes: Sizes) -> dict[str, Any]:
    """A fit of one network, as sbi has one (the default at this size is an ensemble): time, density, draws a
    second, memory.
    """
    simulations, held_out = (
        sf.simulate(ricker, sizes.simulations, seed=1, workers=1),
        pairs(ricker, sizes.held_out, 77),
    )
    warm_up()
    limit = None if sizes.epochs is None else sf.TrainSettings(epochs=sizes.epochs)
    posterior, took = fit_ricker(simulations, limit, sizes)
    stack = pairs(ricker, sizes.series, 5)[1]
    one = sizes.seconds(lambda: posterior.sample(stack[0], sizes.one, seed=1))
    many = sizes.seconds(lambda: posterior.sample(stack, sizes.each, seed=1))
    return {
        "train_seconds": took,
        "epochs": len(posterior.history.valid_loss),
        "log_density": float(posterior.log_prob(*held_out).mean()),
        "one": sizes.one / one,
        "many": sizes.each * sizes.series / many,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "train": dataclasses.asdict(posterior.settings.train) if posterior.settings.train else None,
    }


def time_to(wanted: float, sizes: Sizes, full: dict[str, Any]) -> str:
    """The shortest complete fit that is as dense as `wanted`."""
    simulations, held_out = (
        sf.simulate(ricker, sizes.simulations, seed=1, workers=1),
        pairs(ricker, sizes.held_out, 77),
    )
    warm_up()
    tried = []
    for fraction in FRACTIONS:
        train = sf.TrainSettings(
            **{**full["train"], "epochs": max(1, round(fraction * full["train"]["epochs"]))}
        )
        posterior, took = fit_ricker(simulations, train, sizes)
        density = float(posterior.log_prob(*held_out).mean())
        tried.append(f"{train.epochs} epochs {took:.0f} s {density:.2f}")
        if density >= wanted:
            return f"{took:.1f} s ({'; '.join(tried)})"
    if full["log_density"] >= wanted:
        return f"{full['train_seconds']:.1f} s, the whole fit ({'; '.join(tried)})"
    return f"not reached by the whole fit: {full['log_density']:.2f} ({'; '.join(tried)})"


def our_step(flow: str, steps: int, sizes: Sizes) -> float:
    """Milliseconds a training step, validation included: a long run less its first epoch."""
    simulations = sf.simulate(gaussian_linear, sizes.step_rows, seed=1, workers=1)
    train = sf.TrainSettings(epochs=1 + sizes.step_epochs, batch_size=BATCH, patience=1000)
    settings = sf.FitSettings(flow=flow, layers=steps, width=50, members=1, train=train)  # type: ignore[arg-type]
    seen: list[tuple[int, int, float]] = []

    def progress(done: int, total: int, text: str) -> None:
        seen.append((done, total, sizes.now()))

    sf.fit(gaussian_linear, simulations=simulations, seed=1, settings=settings, say=None, progress=progress)
    first, began = next((done, at) for done, total, at in seen if done * train.epochs >= total)
    last, _, ended = seen[-1]
    return 1000 * (ended - began) / (last - first)


def import_seconds(python: str, statement: str, sizes: Sizes) -> float:
    """Median over fresh processes; the first one, which fills the disk cache, is not counted."""
    clock = peer_sbi.CLOCKS[sizes.clock].__name__
    code = f"from time import {clock}; began = {clock}(); {statement}; print({clock}() - began)"
    environment = {**os.environ, "PYTHONPATH": str(peer_sbi.ROOT), "PYTHONWARNINGS": "ignore"}
    took = [
        float(
            subprocess.run(
                [python, "-c", code], env=environment, capture_output=True, text=True, check=True
            ).stdout.split()[-1]
        )
        for _ in range(sizes.imports + 1)
    ]
    return statistics.median(took[1:])


def in_a_process(job: str, quick: bool, clock: str) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        __spec__.name,
        "--job",
        job,
        "--clock",
        clock,
        *(["--quick"] if quick else []),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{job} failed: {done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def show(what: str, ours: float, theirs: float | None, unit: str, digits: int = 1) -> None:
    beside = "" if theirs is None else f"; sbi {theirs:,.{digits}f} {unit}; ratio {ours / theirs:.2f}"
    print(f"{what}: ours {ours:,.{digits}f} {unit}{beside}", flush=True)


def ricker_figures(sizes: Sizes, peers: str | None, folder: Path, quick: bool, bayesflow: int) -> None:
    theirs: dict[str, Any] = {}
    if peers:
        simulations, held_out = (
            sf.simulate(ricker, sizes.simulations, seed=1, workers=1),
            pairs(ricker, sizes.held_out, 77),
        )
        arrays = {
            "theta": simulations.theta,
            "y": simulations.y,
            "lower": ricker.prior.lower,
            "upper": ricker.prior.upper,
        }
        arrays |= {
            "held_out_theta": held_out[0],
            "held_out_y": held_out[1],
            "observed": pairs(ricker, sizes.series, 5)[1],
        }
        asked = {
            "one": sizes.one,
            "each": sizes.each,
            "leak_rows": min(1000, sizes.held_out),
            "epochs": sizes.epochs,
        }
        _, theirs = peer_sbi.call(
            peers, folder / "ricker", "ricker", arrays, {"seed": 1, "clock": sizes.clock, **asked}
        )
    ours = in_a_process("ricker", quick, sizes.clock)
    print(
        f"Ricker, {sizes.simulations:,} simulations; mean held-out log density over {sizes.held_out:,} pairs"
    )
    print(f"  one network: ours {ours['log_density']:.2f} nats", end="")
    if theirs:
        print(
            f"; sbi {theirs['log_density']:.2f} nats ({theirs['log_density_raw']:.2f} before rejection, ",
            end="",
        )
        print(f"{theirs['inside']:.1%} of its mass inside the prior)", end="")
    print()
    show("  training to the end", ours["train_seconds"], theirs.get("train_seconds"), "s")
    show("peak memory of that process", ours["peak_mib"], theirs.get("peak_mib"), "MiB", 0)
    show(f"draws a second, 1 x {sizes.one:,}", ours["one"], theirs.get("one"), "draws/s", 0)
    show(f"draws a second, {sizes.series:,} x {sizes.each:,}", ours["many"], theirs.get("many"), "draws/s", 0)
    if theirs and ours["train"]:
        wanted = theirs["log_density"]
        print(
            f"time to sbi's density of {wanted:.2f} nats, for which sbi took {theirs['train_seconds']:.0f} "
            f"s: ",
            end="",
            flush=True,
        )
        print(time_to(wanted, sizes, ours), flush=True)
    if peers and bayesflow and ours["train"]:
        asked = {"seed": 1, "clock": sizes.clock, "epochs": bayesflow}
        _, other = peer_sbi.call(peers, folder / "bayesflow", "ricker", arrays, asked, "peer_bayesflow")
        print(
            f"BayesFlow, {bayesflow} epochs: {other['log_density']:.2f} nats after "
            f"{other['train_seconds']:.0f} s; ours to there: ",
            end="",
        )
        print(time_to(other["log_density"], sizes, ours), flush=True)


def step_figures(sizes: Sizes, peers: str | None, folder: Path) -> None:
    ours, theirs = [], []
    for k in range(sizes.step_rounds):
        ours.append(our_step("spline_coupling", 5, sizes))
        if peers:
            linear, prior = (
                sf.simulate(gaussian_linear, sizes.step_rows, seed=1, workers=1),
                gaussian_linear.prior,
            )
            arrays = {"theta": linear.theta, "y": linear.y, "lower": prior.lower, "upper": prior.upper}
            asked = {
                "seed": 1,
                "clock": sizes.clock,
                "steps": 5,
                "bins": 8,
                "batch": BATCH,
                "epochs": sizes.step_epochs,
            }
            theirs.append(peer_sbi.call(peers, folder / f"step{k}", "step", arrays, asked)[1]["ms"])
    show(
        "training step, equal sizes",
        statistics.median(ours),
        statistics.median(theirs) if theirs else None,
        "ms",
        2,
    )
    print(
        f"training step, default flow with the same batch and 50 hidden units: ours "
        f"{our_step('nsf', 3, sizes):.2f} ms",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", help="a Python with sbi")
    parser.add_argument(
        "--bayesflow",
        type=int,
        default=0,
        metavar="EPOCHS",
        help="so many epochs of BayesFlow, in the same environment",
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--clock", choices=sorted(peer_sbi.CLOCKS), default="wall")
    parser.add_argument("--job", choices=("ricker",), help="the process that this one starts")
    options = parser.parse_args()
    sizes = dataclasses.replace(QUICK if options.quick else Sizes(), clock=options.clock)
    if options.job:
        print(json.dumps(our_ricker(sizes)))
        return
    print(
        f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"OMP_NUM_THREADS ",
        end="",
    )
    print(
        f"{os.environ.get('OMP_NUM_THREADS', 'unset')}{', quick' if options.quick else ''}, seconds by "
        f"{sizes.clock}"
    )
    with tempfile.TemporaryDirectory() as folder:
        ricker_figures(sizes, options.peers, Path(folder), options.quick, options.bayesflow)
        step_figures(sizes, options.peers, Path(folder))
    peer_import = (
        import_seconds(options.peers, "from sbi.inference import NPE", sizes) if options.peers else None
    )
    show("import", import_seconds(sys.executable, "from sbi_flows import fit", sizes), peer_import, "s", 2)


if __name__ == "__main__":
    main()
