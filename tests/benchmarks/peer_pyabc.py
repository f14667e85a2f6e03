"""pyABC (Klinger, Rickert & Hasenauer 2018; tried with 0.13) on the Ricker map, in a process and environment
of its own: called by `tests.benchmarks.peer_sbi.call`. It needs pyABC, NumPy and SciPy, nothing of sbi_flows.

Its defaults (median epsilon, multivariate normal transitions) with the adaptive Euclidean distance, on one
core. The simulator and its 13 statistics are those of `simulators.ricker`, for one theta at a time.
"""

from __future__ import annotations

import datetime
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("log_r", "sigma", "rho")


def simulate(theta: Any, rng: np.random.Generator, steps: int = 100) -> np.ndarray:
    """One series of counts."""
    r, sigma, rho = np.exp(theta["log_r"]), theta["sigma"], theta["rho"]
    population, noise, means = 1.0, rng.standard_normal(steps), np.empty(steps)
    for t in range(steps):
        population = r * population * np.exp(-population + sigma * noise[t])
        means[t] = rho * population
    return rng.poisson(means).astype(np.float64)


def statistics(y: np.ndarray, cubic: np.ndarray) -> np.ndarray:
    """The 13 of `simulators.ricker`."""
    centred, steps = y - y.mean(), len(y)
    covariances = [(centred[lag:] * centred[: steps - lag]).mean() for lag in range(6)]
    slopes = cubic @ np.sort(np.diff(y))
    roots = y**0.3
    design = np.stack([roots[:-1], roots[:-1] ** 2], axis=1)
    growth = np.linalg.lstsq(design, roots[1:], rcond=None)[0]
    return np.array([*covariances, *slopes, *growth, y.mean(), (y == 0).sum()])


def run(
    arrays: dict[str, np.ndarray], options: dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Every generation: theta, weights; simulations and seconds so far."""
    import pyabc
    from scipy.stats import norm

    rng = np.random.default_rng(options["seed"])
    np.random.seed(options["seed"])
    scores = norm.ppf((np.arange(99) + 0.5) / 99)
    cubic = np.linalg.pinv(np.stack([np.ones_like(scores), scores, scores**2, scores**3], axis=1))[1:]
    prior = pyabc.Distribution(
        log_r=pyabc.RV("uniform", 2, 3), sigma=pyabc.RV("uniform", 0.05, 0.65), rho=pyabc.RV("uniform", 2, 18)
    )
    names = [f"s{j}" for j in range(13)]

    def model(theta: Any) -> dict[str, float]:
        return dict(zip(names, statistics(simulate(theta, rng), cubic), strict=True))

    run_of = pyabc.ABCSMC(
        model,
        prior,
        pyabc.AdaptivePNormDistance(p=2),
        population_size=options["particles"],
        sampler=pyabc.SingleCoreSampler(),
    )
    observed = dict(zip(names, statistics(arrays["y"], cubic), strict=True))
    began, start = time.perf_counter(), datetime.datetime.now()
    run_of.new(pyabc.create_sqlite_db_id(file_=str(Path.cwd() / "pyabc.db")), observed)
    history = run_of.run(
        max_total_nr_simulations=options["simulations"],
        max_walltime=datetime.timedelta(seconds=options["seconds"]),
        minimum_epsilon=0.0,
    )
    took, populations = time.perf_counter() - began, history.get_all_populations()
    populations = populations[populations.t >= 0]
    out: dict[str, np.ndarray] = {}
    for t in populations.t:
        table, weights = history.get_distribution(m=0, t=int(t))
        out[f"theta{t}"], out[f"weights{t}"] = table[list(NAMES)].to_numpy(), np.asarray(weights)
    ends = [(end - start).total_seconds() for end in populations.population_end_time]
    facts = {
        "seconds": ends,
        "took": took,
        "simulations": np.cumsum(populations.samples).tolist(),
        "epsilon": populations.epsilon.tolist(),
        "version": pyabc.__version__,
    }
    return out, facts


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    with np.load(folder / "in.npz") as given:
        made, found = run(dict(given), json.loads((folder / "options.json").read_text()))
    np.savez(folder / "out.npz", **made)
    (folder / "facts.json").write_text(json.dumps(found))
