"""Ricker by the clock, ours beside sbi and BayesFlow: `python -m tests.benchmarks.ricker_peers --peers PYTHON
[--minutes 4,20] [--methods sbi_flows,sbi,bayesflow]`. Not run by pytest.

Each method has the same budget of wall-clock time, its simulations included, on the same cores, one method
after the other; importing packages is not counted. Nothing else should run on the machine.

    sbi_flows   `sf.fit(minutes=)`
    sbi         NPE, neural spline flow with 50 hidden features, CausalCNNEmbedding of log(1 + counts) (or
                --embedding cnn: CNNEmbedding), defaults otherwise: --simulations (default 10,000 a minute)
                simulated by our engine, then trained on until time or sbi's stopping rule ends it
    bayesflow   `fit_online` with TimeSeriesNetwork and CouplingFlow, defaults otherwise; batches of --batch
                (default 32) simulated by NumPy

All are scored alike: mean log density at 5,000 held-out pairs (restricted to the prior), KL and C2ST to the
eight exact posteriors as in `tests.benchmarks.accuracy`, and, where the evidences are there, the gap to exact
over the prior (`tests.benchmarks.ricker_gap`), all in nats but C2ST. Each result is kept as one JSON file in
--results; the same call resumes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sbi_flows as sf
from sbi_flows.files import make_folder, write_bytes
from simulators.ricker import ricker
from tests.benchmarks import peer_sbi
from tests.benchmarks.accuracy import EXACT, SETS, distances, exact_log_density
from tests.benchmarks.ricker_gap import EVIDENCE, gap, held_out_pairs
from tests.benchmarks.sections import parser_of

F = NDArray[np.float64]

METHODS = ("sbi_flows", "sbi", "bayesflow")
RESULTS = Path("build/benchmarks/ricker_peers")
DRAWS, A_MINUTE = 2000, 10_000


@dataclass(frozen=True)
class Pairs:
    """Where the density is asked for: theta (n, 3), series y (m, 100), the series of each theta, (n,); the
    rows of each part; and log p(theta | y) where a part has it.
    """

    theta: F
    y: F
    of: NDArray[np.int64]
    parts: dict[str, slice]
    exact: dict[str, F]


def asked_pairs() -> Pairs:
    """The held-out pairs, the exact draws of each data set, and the pairs whose evidence is known."""
    theta, y = held_out_pairs()
    blocks = {"held out": (theta, y, None)}
    for name in SETS:
        draws, series, log_p = exact_log_density(name)
        blocks[name] = (draws, series[None], log_p)
    if EVIDENCE.exists():
        with np.load(EVIDENCE) as kept:
            blocks["gap"] = (kept["theta"], kept["y"].astype(np.float64), kept["log_p"])
    rows, series, of, parts, exact = 0, 0, [], {}, {}
    for name, (some, stack, log_p) in blocks.items():
        parts[name] = slice(rows, rows + len(some))
        of.append(
            series + (np.arange(len(some)) if len(stack) == len(some) else np.zeros(len(some), dtype=int))
        )
        rows, series = rows + len(some), series + len(stack)
        if log_p is not None:
            exact[name] = log_p
    theta, y = (np.concatenate([block[k] for block in blocks.values()]) for k in (0, 1))
    return Pairs(theta, y, np.concatenate(of), parts, exact)


def figures(pairs: Pairs, log_q: F, draws: F) -> dict[str, Any]:
    """The scores of one method from its log density at the pairs (n,) and its draws (8, m, 3)."""
    held_out = log_q[pairs.parts["held out"]]
    kl = {name: gap(log_q[pairs.parts[name]], pairs.exact[name])[0] for name in SETS}
    rng = np.random.default_rng(77)
    scores = {name: distances(name, values, rng)["c2st"] for name, values in zip(SETS, draws, strict=True)}
    found = {
        "held_out": float(held_out.mean()),
        "held_out_error": float(held_out.std() / np.sqrt(len(held_out))),
        **{"kl": kl, "c2st": scores},
        **{"mean_kl": float(np.mean(list(kl.values()))), "mean_c2st": float(np.mean(list(scores.values())))},
    }
    if "gap" in pairs.parts:
        found["gap"], found["gap_error"] = gap(log_q[pairs.parts["gap"]], pairs.exact["gap"])
    return found


def ours(minutes: float, seed: int, pairs: Pairs, observed: F) -> tuple[F, F, dict[str, Any]]:
    fit, began = sf.fit, time.monotonic()
    posterior = fit(ricker, minutes=minutes, seed=seed, say=None)
    took = time.monotonic() - began
    log_q = posterior.log_prob(pairs.theta, pairs.y[pairs.of])
    draws = np.asarray(posterior.sample(observed, DRAWS, seed=seed).values)
    return log_q, draws, {"seconds": took, "simulations": posterior.facts["simulations"]}


def theirs(
    method: str, minutes: float, options: argparse.Namespace, pairs: Pairs, observed: F
) -> tuple[F, F, dict[str, Any]]:
    arrays: dict[str, Any] = {"theta": pairs.theta, "y": pairs.y, "of": pairs.of, "observed": observed}
    arrays |= {"lower": ricker.prior.lower, "upper": ricker.prior.upper}
    asked: dict[str, Any] = {"seed": options.seed, "seconds": 60 * minutes, "draws": DRAWS}
    simulated: dict[str, Any] = {}
    if method == "sbi":
        n = options.simulations or round(A_MINUTE * minutes)
        simulate, began = sf.simulate, time.monotonic()
        simulations = simulate(ricker, n, seed=options.seed)
        asked |= {"embedding": options.embedding}
        arrays |= {"train_theta": simulations.theta, "train_y": simulations.y}
        spent = time.monotonic() - began
        asked["seconds"] -= spent
        simulated = {"simulations": n, "simulate": spent, "embedding": options.embedding}
    else:
        asked |= {"batch": options.batch}
    folder = options.results / f".{method}.{os.getpid()}"
    peer = {"sbi": "peer_sbi", "bayesflow": "peer_bayesflow"}[method]
    found, facts = peer_sbi.call(options.peers, folder, "ricker_by_clock", arrays, asked, peer)
    facts["seconds"] += simulated.get("simulate", 0.0)
    return found["log_density"].astype(np.float64), found["draws"].astype(np.float64), simulated | facts


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--peers", help="a Python with sbi and bayesflow")
    parser.add_argument(
        "--minutes", type=lambda text: [float(m) for m in text.split(",")], default=[4.0, 20.0]
    )
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--simulations", type=int, help="of sbi")
    parser.add_argument("--embedding", choices=("causal_cnn", "cnn"), default="causal_cnn", help="of sbi")
    parser.add_argument("--batch", type=int, default=32, help="of BayesFlow")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if unknown := set(options.methods) - set(METHODS):
        parser.error(f"methods are {', '.join(METHODS)}; got {', '.join(sorted(unknown))}.")
    if not options.peers and options.methods != ["sbi_flows"]:
        parser.error("sbi and bayesflow need --peers PYTHON.")
    make_folder(options.results)
    pairs, observed = asked_pairs(), np.stack([EXACT[f"{name}/x_obs"].astype(float) for name in SETS])
    for minutes in options.minutes:
        for method in options.methods:
            path = options.results / f"{method}.{minutes:g}min.seed{options.seed}.json"
            if not path.exists():
                load = os.getloadavg()[0]
                if method == "sbi_flows":
                    log_q, draws, facts = ours(minutes, options.seed, pairs, observed)
                else:
                    log_q, draws, facts = theirs(method, minutes, options, pairs, observed)
                record = {"method": method, "minutes": minutes, "load": load, "facts": facts}
                record |= figures(pairs, log_q, draws)
                write_bytes(path, (json.dumps(record, indent=1) + "\n").encode())
            print(line(json.loads(path.read_text())), flush=True)


def line(record: dict[str, Any]) -> str:
    """One line on a result."""
    over = f"; gap {record['gap']:.3f} +- {record['gap_error']:.3f}" if "gap" in record else ""
    facts = record["facts"]
    return (
        f"{record['method']} {record['minutes']:g} min ({facts['seconds']:.0f} s, {facts['simulations']:,} "
        f"simulations): held out {record['held_out']:.3f} +- {record['held_out_error']:.3f}; "
        f"KL {record['mean_kl']:.3f}; C2ST {record['mean_c2st']:.3f}{over}"
    )


if __name__ == "__main__":
    main()
