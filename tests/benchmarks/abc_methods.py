"""The methods of `sf.abc`: `python -m tests.benchmarks.abc_methods [two_moons] [rate] [peer] [--peers
PYTHON]`. Not run by pytest.

    two_moons   SMC-ABC and population Monte Carlo at 100,000 simulations on the ten public observations: C2ST
                of 10,000 draws, resampled from the particles, against 10,000 exact ones; published SMC-ABC:
                0.663 (Lueckmann et al. 2021)
    rate        the Gaussian toy, d = 2: distance of mean and variance from the closed form as the tolerance
                falls, over --seeds runs of each, and the exponent of a power of the tolerance
    peer        pyABC beside ours on one exact Ricker posterior: C2ST and simulations and seconds at each
                generation, both on one core, in turn
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import sbi_flows as sf
from sbi_flows.diagnostics.distances import c2st, sliced_wasserstein
from sbi_flows.files import make_folder
from simulators.gaussian import make_gaussian, posterior_moments
from simulators.ricker import ricker
from tests.benchmarks.accuracy import EXACT
from tests.benchmarks.peer_sbi import call
from tests.benchmarks.sections import parser_of, report, run

F = np.ndarray
PUBLISHED_TWO_MOONS, DRAWS = 0.663, 10_000


def two_moons(options: argparse.Namespace) -> None:
    simulator = sf.load_simulator("two_moons")
    for method in ("smc", "pmc"):
        scores = []
        for number in sorted(simulator.observed, key=int)[: options.observations]:
            y, began = simulator.data(number), time.perf_counter()
            draws = sf.abc(simulator, y, method=method, n_simulations=100_000, seed=int(number))  # type: ignore[arg-type]
            took = time.perf_counter() - began
            rng = np.random.default_rng(int(number))
            values = draws.values[rng.choice(len(draws), DRAWS, p=draws.weights)]
            exact = np.asarray(simulator.exact_posterior(y, DRAWS, rng))  # type: ignore[misc]
            scores.append(c2st(exact, values))
            print(
                f"two_moons {number:>2} {method}: C2ST {scores[-1]:.3f}, {len(draws)} particles, ESS "
                f"{draws.ess:.0f}, tolerance {draws.facts['generations'][-1]['relative_tolerance']:.3f}, "
                f"{draws.facts['simulations']:,} simulations, {took:.1f} s; {draws.verdict.level}",
                flush=True,
            )
        note = f"sd {np.std(scores):.3f} over {len(scores)} observations"
        report(
            f"two_moons at 100,000, {method}: mean C2ST",
            float(np.mean(scores)),
            PUBLISHED_TWO_MOONS,
            note=note,
        )


def rate(options: argparse.Namespace) -> None:
    simulator, y = make_gaussian(2), np.array([0.5, 0.8])
    mean, covariance = posterior_moments(y)
    sd = np.sqrt(np.diag(covariance))
    simulations = sf.simulate(simulator, 2_000_000, seed=1)
    for method in ("rejection", "smc", "pmc"):
        rows = []
        for epsilon in (1.2, 0.8, 0.6, 0.4, 0.3, 0.2):
            found = []
            for seed in range(options.seeds):
                found.append(_moments(simulator, y, method, epsilon, seed, simulations))
                if method == "rejection":
                    break
            means, variances = (np.array(column) for column in zip(*found, strict=True))
            off = np.abs(means.mean(axis=0) - mean).max() / sd.max()
            wide = variances.mean(axis=0) / np.square(sd) - 1
            error = (variances / np.square(sd)).std(axis=0).mean() / np.sqrt(max(len(found) - 1, 1))
            rows.append((epsilon, float(wide.mean())))
            print(
                f"rate {method:10} epsilon {epsilon:.2f}: mean off by {off:.3f} sd, excess variance "
                f"{wide.mean():+.4f} +- {error:.4f}",
                flush=True,
            )
        x = np.array(rows)
        slope = np.polyfit(np.log(x[:4, 0]), np.log(np.maximum(x[:4, 1], 1e-6)), 1)[0]
        print(f"rate {method:10} excess variance goes as epsilon^{slope:.2f} (2 is expected)", flush=True)
    _synthetic_rate(simulator, y, mean, sd)


def _moments(
    simulator: sf.Simulator, y: F, method: str, epsilon: float, seed: int, simulations: sf.Simulations
) -> tuple[F, F]:
    if method == "rejection":
        scale = np.median(np.abs(simulations.y - np.median(simulations.y, axis=0)), axis=0)
        near = np.linalg.norm((simulations.y - y) / scale, axis=1) <= epsilon
        draws = sf.rejection_abc(simulator, y, simulations=simulations, quantile=float(near.mean()))
    else:
        settings = sf.ABCSettings(distance="fixed", epsilon=epsilon, particles=4000)
        draws = sf.abc(simulator, y, method=method, n_simulations=10**6, seed=seed, settings=settings)  # type: ignore[arg-type]
    weights = np.full(len(draws), 1 / len(draws)) if draws.weights is None else draws.weights
    mean = weights @ draws.values
    return mean, weights @ np.square(draws.values - mean)


def _synthetic_rate(simulator: sf.Simulator, y: F, mean: F, sd: F) -> None:
    """The normal summaries of the toy make the synthetic likelihood exact: its error is that of its draws."""
    for n in (50_000, 200_000, 800_000):
        draws = sf.abc(simulator, y, method="synthetic_likelihood", n_simulations=n, seed=1)
        off = np.abs(draws.values.mean(axis=0) - mean) / sd
        wide = draws.values.var(axis=0) / np.square(sd) - 1
        print(
            f"rate synthetic likelihood, {n:,} simulations: mean off by {off.max():.3f} sd, excess variance "
            f"{wide.mean():+.3f}; ESS {draws.facts['ess']:.0f}, R-hat {draws.facts['rhat']:.3f}",
            flush=True,
        )


def peer(options: argparse.Namespace) -> None:
    name = options.series
    y = EXACT[f"{name}/x_obs"].astype(float)
    exact = EXACT[f"{name}/draws"]
    rng = np.random.default_rng(5)
    print(f"Ricker {name}: load {os.getloadavg()[0]:.1f}")
    for method, adjust in (("smc", None), ("pmc", None), ("smc", "linear")):
        settings = sf.ABCSettings(adjust=adjust)  # type: ignore[arg-type]
        for n in options.budgets:
            began = time.perf_counter()
            draws = sf.abc(ricker, y, method=method, n_simulations=n, seed=1, workers=1, settings=settings)  # type: ignore[arg-type]
            took = time.perf_counter() - began
            _told(f"sbi_flows {draws.origin}", exact, draws.to_numpy(), draws.facts["simulations"], took, rng)
    if options.peers is None:
        return
    make_folder("build/benchmarks")
    job = {"seed": 1, "particles": 1000, "simulations": max(options.budgets), "seconds": 60 * options.minutes}
    with tempfile.TemporaryDirectory(dir="build/benchmarks") as folder:
        made, facts = call(options.peers, Path(folder, "job"), "run", {"y": y}, job, "peer_pyabc")
    for t, (simulations, seconds) in enumerate(zip(facts["simulations"], facts["seconds"], strict=True)):
        weights = made[f"weights{t}"] / made[f"weights{t}"].sum()
        positions = (np.arange(len(weights)) + 0.5) / len(weights)
        rows = np.minimum(np.searchsorted(np.cumsum(weights), positions), len(weights) - 1)
        _told(
            f"pyABC {facts['version']} generation {t}",
            exact,
            made[f"theta{t}"][rows],
            simulations,
            seconds,
            rng,
        )


def _told(who: str, exact: F, draws: F, simulations: int, seconds: float, rng: np.random.Generator) -> None:
    n = min(len(exact), len(draws), 1000)
    some = (rng.permutation(sample)[:n].astype(np.float64) for sample in (exact, draws))
    reference, values = some
    score, distance = c2st(reference, values), sliced_wasserstein(reference, values, rng=rng)
    facts: dict[str, Any] = {
        "who": who,
        "simulations": int(simulations),
        "seconds": round(seconds, 1),
        "c2st": round(score, 3),
        "sliced_wasserstein": round(distance, 3),
    }
    print(json.dumps(facts), flush=True)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--observations", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peers", help="a Python that has pyABC")
    parser.add_argument("--series", default="classic_T100_0")
    parser.add_argument("--minutes", type=float, default=10.0, help="of pyABC")
    parser.add_argument(
        "--budgets", type=lambda text: [int(n) for n in text.split(",")], default=[10_000, 30_000, 100_000]
    )
    run(parser, [two_moons, rate, peer], [two_moons, rate, peer])


if __name__ == "__main__":
    main()
