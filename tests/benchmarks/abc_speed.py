"""Print what rejection ABC costs: `python -m tests.benchmarks.abc_speed [--rows N] [--peers PYTHON]`. Not run
by pytest.

A bank of N x 13 summaries in memory, float64, of which 1% are accepted. The floor is one pass at memory
bandwidth: reading the bank once, by `np.max`, which does least; `np.sum` stands beside it. All alternate in
one process, on one thread, and are timed in CPU seconds, because machines are noisy.

    pass     distances to all rows, and the accepted ones in order (`baselines.nearest`)
    call     `sf.rejection_abc`: units of the distance, the pass, the verdict by 1,000 data sets
    adjusted the same with adjust="linear"

--peers: a Python with sbi and pyabc, which get the same rows (pyABC fewer, see --pyabc-rows).
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.baselines.distance import Distance
from sbi_flows.baselines.nearest import nearest_share, sample
from sbi_flows.baselines.target import Target
from tests.benchmarks.peer_sbi import call
from tests.benchmarks.sections import parser_of

K, QUANTILE = 13, 0.01


def bank(n: int) -> tuple[sf.Simulations, np.ndarray]:
    """theta (n, 3), y (n, 13) linear in it, and one observation."""
    rng = np.random.default_rng(1)
    prior = sf.Prior(**{f"theta_{i}": norm(0, 1) for i in range(3)})
    mix, theta = rng.standard_normal((3, K)), rng.standard_normal((n + 1, 3))
    y = theta @ mix + rng.standard_normal((n + 1, K))
    return sf.Simulations.from_arrays(prior, theta[:n], np.ascontiguousarray(y[:n])), y[n]


def seconds(what: Callable[[], object]) -> float:
    began = time.process_time()
    what()
    return time.process_time() - began


def ours(simulations: sf.Simulations, observed: np.ndarray, rounds: int) -> dict[str, Any]:
    """Seconds, and medians over rounds of the ratio to one pass."""
    target = Target.of(None, observed, simulations, "abc_speed")
    part = sample(simulations, 2500, "abc sample")
    distance = Distance.of(part.y, target.summaries)
    near = distance(part.y)

    def draws(adjust: Any = None) -> sf.Draws:
        return sf.rejection_abc(y_obs=observed, simulations=simulations, quantile=QUANTILE, adjust=adjust)

    y = simulations.flat_y
    jobs: dict[str, Callable[[], object]] = {
        "one pass (np.max)": y.max,
        "one pass (np.sum)": y.sum,
        "pass": lambda: nearest_share(QUANTILE, target, distance, simulations, near),
        "call": draws,
        "adjusted": lambda: draws("linear"),
    }
    took = {name: [] for name in jobs}
    for _ in range(rounds + 1):
        for name, job in jobs.items():
            took[name].append(seconds(job))
    rows = {name: np.array(times[1:]) for name, times in took.items()}
    for floor in ("one pass (np.max)", "one pass (np.sum)"):
        print(f"{len(y):,} x {K}, {rounds} rounds, {floor} {1e3 * np.median(rows[floor]):.2f} ms:")
        for name in ("pass", "call", "adjusted"):
            ratio, best = np.median(rows[name] / rows[floor]), rows[name].min()
            least = best / rows[floor].min()
            print(f"  {name:<9} {ratio:6.1f} passes (least of each {least:.1f}); {1e3 * best:.1f} ms")
    found = draws()
    return {
        "seconds": float(rows["call"].min()),
        "pass": float(rows["pass"].min()),
        "accepted": len(found),
        "tolerance": found.facts["tolerance"],
        "scales": distance.scales,
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peers", help="a Python with sbi and pyabc")
    parser.add_argument("--pyabc-rows", type=int, default=20_000)
    given = parser.parse_args()
    simulations, observed = bank(given.rows)
    here = ours(simulations, observed, given.rounds)
    if given.peers is None:
        return
    scaled = {
        "theta": simulations.theta,
        "y": simulations.flat_y / here["scales"],
        "observed": observed / here["scales"],
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        options = {"quantile": QUANTILE, "repeats": 5}
        found = {"sbi": call(given.peers, place / "sbi", "sbi", scaled, options, peer="peer_abc")[1]}
        fewer = {
            name: value[: given.pyabc_rows] if name != "observed" else value for name, value in scaled.items()
        }
        options = {"tolerance": here["tolerance"], "accepted": int(QUANTILE * given.pyabc_rows)}
        found["pyabc"] = call(given.peers, place / "pyabc", "pyabc", fewer, options, peer="peer_abc")[1]
    one = here["seconds"] / given.rows
    for name, facts in found.items():
        each = facts["seconds"] / facts["rows"]
        print(
            f"{name}: {facts['seconds']:.3g} s for {facts['rows']:,} rows, {facts['accepted']:,} accepted; "
            f"per row {each / one:.3g} times the call here and "
            f"{each * given.rows / here['pass']:.3g} times the pass"
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
