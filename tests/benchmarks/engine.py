"""Print what the engine costs: `python -m tests.benchmarks.engine [--peers PYTHON]`. Not run by pytest.

Figures are ratios of runs that alternate in one process, because machines are noisy. --peers: a Python with
sbi, pyabc and jaxtyping, which runs the same simulators through their engines.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import uniform

import sbi_flows as sf
from sbi_flows.rng import block_stream
from simulators.ricker import ricker
from tests.benchmarks.sections import parser_of

ROOT = Path(__file__).parents[2]
PRIOR = sf.Prior(a=uniform(0, 1))


@sf.simulator(PRIOR, vectorized=False, event_shape=(3,))
def busy(theta: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """10 ms of computing per draw."""
    until = time.thread_time() + 0.01
    while time.thread_time() < until:
        pass
    return theta["a"] + rng.standard_normal(3)


@sf.simulator(PRIOR, vectorized=False, event_shape=(3,))
def waiting(theta: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """10 ms of waiting per draw."""
    time.sleep(0.01)
    return theta["a"] + rng.standard_normal(3)


@sf.simulator(PRIOR, event_shape=(3,))
def cheap(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Next to nothing."""
    return theta["a"][:, None] + rng.standard_normal((len(theta["a"]), 3))


def seconds(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def overhead(n: int = 50_000, repeats: int = 9) -> None:
    """The vectorised Ricker in blocks of 1,000: a bare loop of prior and function, and the engine."""

    def bare() -> None:
        for k in range(n // 1000):
            rng = block_stream(1, k)
            theta = ricker.prior.sample(1000, rng)
            ricker.function(ricker.prior.as_mapping(theta), rng)

    def with_bank() -> None:
        with tempfile.TemporaryDirectory() as folder:
            sf.simulate(ricker, n, seed=1, workers=1, store=f"{folder}/bank")

    ways = {
        "bare loop": bare,
        "in memory": lambda: sf.simulate(ricker, n, seed=1, workers=1),
        "into a bank": with_bank,
    }
    bare()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            times[name].append(seconds(way))
    for name in ("in memory", "into a bank"):
        ratios = [a / b for a, b in zip(times[name], times["bare loop"], strict=True)]
        print(
            f"vectorised Ricker, {n:,} rows, {name}: {statistics.median(ratios):.3f} x the bare loop "
            f"(median of {repeats}; ",
            end="",
        )
        print(f"{min(ratios):.3f}..{max(ratios):.3f}), {n / statistics.median(times[name]):,.0f} rows/s")


def speed_up(simulator: sf.Simulator, n: int, repeats: int = 3) -> None:
    """Two workers compared with one, start of the workers included."""
    ratios = [
        seconds(lambda: sf.simulate(simulator, n, seed=1, workers=1))
        / seconds(lambda: sf.simulate(simulator, n, seed=1, workers=2))
        for _ in range(repeats)
    ]
    print(
        f"{simulator.name}, 10 ms per draw, {n:,} draws: 2 workers are {statistics.median(ratios):.2f} x as "
        f"fast as one",
        end=" ",
    )
    print(f"(median of {repeats}; {min(ratios):.2f}..{max(ratios):.2f})")


def time_limit_cost(n: int = 500_000, repeats: int = 5) -> None:
    """What a time limit costs: a child process for each call of a vectorised simulator."""
    ratios = [
        seconds(lambda: sf.simulate(ricker, n, seed=1, workers=1, time_limit=60.0))
        / seconds(lambda: sf.simulate(ricker, n, seed=1, workers=1))
        for _ in range(repeats)
    ]
    print(
        f"vectorised Ricker, {n:,} rows, with a time limit: {statistics.median(ratios):.2f} x without, "
        f"start of the child included"
    )


def many_blocks() -> None:
    """10^6 rows in 10^4 blocks: growth of this process, and the scan when resuming."""
    settings = sf.SimulateSettings(block_size=100)
    with tempfile.TemporaryDirectory() as folder:
        sf.simulate(cheap, 10_000, seed=1, workers=1, settings=settings, store=f"{folder}/small")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        took = seconds(
            lambda: sf.simulate(
                cheap, 1_000_000, seed=1, workers=1, settings=settings, store=f"{folder}/bank"
            )
        )
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        again = seconds(
            lambda: sf.simulate(
                cheap, 1_000_000, seed=1, workers=1, settings=settings, store=f"{folder}/bank"
            )
        )
    print(
        f"10^6 rows in 10^4 blocks: {took:.0f} s; the process grew by {grown:.0f} MiB; resuming scanned "
        f"them in {again:.1f} s"
    )


PEERS = """
import json, logging, sys, time, warnings
warnings.simplefilter("ignore"); logging.disable(logging.CRITICAL)
import numpy as np, pyabc, torch
from sbi.inference import simulate_for_sbi
from sbi.utils import BoxUniform
from simulators.ricker import ricker
from tests.benchmarks.engine import busy

n, out = int(sys.argv[1]), {}
box = BoxUniform(torch.tensor(ricker.prior.lower).float(), torch.tensor(ricker.prior.upper).float())
unit = BoxUniform(torch.zeros(1), torch.ones(1))

def ricker_torch(theta):
    columns = dict(zip(ricker.prior.names, np.atleast_2d(theta.numpy().astype(float)).T))
    return torch.as_tensor(np.asarray(ricker.function(columns, np.random.default_rng()), dtype=np.float32))

def busy_torch(theta):
    rng = np.random.default_rng()
    found = np.stack([busy.function({"a": float(a)}, rng) for a in theta[:, 0]])
    return torch.as_tensor(found, dtype=torch.float32)

def busy_dict(parameters):
    return {"y": busy.function({"a": parameters["a"]}, np.random.default_rng())}

def rate(rows, what):
    began = time.perf_counter()
    what()
    return rows / (time.perf_counter() - began)

quiet = {"show_progress_bar": False}
out["sbi, vectorised Ricker"] = rate(
    50_000, lambda: simulate_for_sbi(ricker_torch, box, 50_000, simulation_batch_size=1000, **quiet)
)
for workers in (1, 2):
    out[f"sbi, 10 ms per draw, {workers} workers"] = rate(
        n,
        lambda: simulate_for_sbi(
            busy_torch, unit, n, num_workers=workers, simulation_batch_size=20, **quiet
        ),
    )
    sampler = pyabc.sampler.MulticoreEvalParallelSampler(n_procs=workers, check_max_eval=False)
    prior = pyabc.Distribution(a=pyabc.RV("uniform", 0, 1))
    always = pyabc.ConstantEpsilon(1e9)
    abc = pyabc.ABCSMC(busy_dict, prior, lambda x, y: 0.0, population_size=n, eps=always, sampler=sampler)
    abc.new("sqlite://", {"y": np.zeros(3)})
    out[f"pyABC, 10 ms per draw, {workers} workers"] = rate(n, lambda: abc.run(max_nr_populations=1))
print(json.dumps(out))
"""


def peers(python: str, n: int = 1000) -> None:
    """The same simulators through our engine, sbi's simulate_for_sbi and pyABC's multicore sampler."""
    rates = {
        "sbi_flows, vectorised Ricker": 50_000
        / seconds(lambda: sf.simulate(ricker, 50_000, seed=1, workers=1))
    }
    for workers in (1, 2):
        took = seconds(lambda: sf.simulate(busy, n, seed=1, workers=workers))  # noqa: B023
        rates[f"sbi_flows, 10 ms per draw, {workers} workers"] = n / took
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, "-c", PEERS, str(n)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"the peers failed: {done.stderr[-2000:]}")
        return
    for name, rate in {**rates, **json.loads(done.stdout.splitlines()[-1])}.items():
        print(f"{name}: {rate:,.0f} rows/s")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--peers", help="Python with sbi and pyabc")
    arguments = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    many_blocks()
    overhead()
    time_limit_cost()
    speed_up(waiting, 6000)
    speed_up(busy, 3000, repeats=1)
    if arguments.peers:
        peers(arguments.peers)


if __name__ == "__main__":
    main()
