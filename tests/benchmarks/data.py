"""How near fits of gappy, unequal, exchangeable, spatial and combined data come to the exact posterior.

python -m tests.benchmarks.data CELL [--seed 0]        writes tests/benchmarks/results/data/CELL.json

SBI_FLOWS_RICKER: the folder of exact Ricker posteriors, for the cell of that name. Each cell is one fit with
default settings, at most five minutes of two cores, and the mean of KL(exact || q)
in nats over data sets drawn from the prior predictive (`tests.oracles`).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, uniform

import sbi_flows as sf
from simulators.ricker import make_ricker, ricker
from tests.oracles import blob, local_level, normal, poisson_covariate

F = NDArray[np.float64]
RESULTS = Path(__file__).parent / "results" / "data"
REFERENCES = Path(os.environ.get("SBI_FLOWS_RICKER", "references/ricker"))
LEVEL_PRIOR = sf.Prior(
    **{name: uniform(local_level.LOW, local_level.HIGH - local_level.LOW) for name in local_level.NAMES}
)
BLOB_PRIOR = sf.Prior(
    **{name: uniform(a, b - a) for name, a, b in zip(blob.NAMES, blob.LOW, blob.HIGH, strict=True)}
)
POISSON_PRIOR = sf.Prior(
    **{
        name: norm(m, s)
        for name, m, s in zip(
            poisson_covariate.NAMES, poisson_covariate.MEAN, poisson_covariate.SD, strict=True
        )
    }
)


@sf.simulator(normal.PRIOR, data=sf.Set())
def normal_set(theta: dict[str, F], rng: np.random.Generator) -> F:
    """200 exchangeable normal numbers."""
    return normal.simulate(np.stack([theta["mu"], theta["sd"]], axis=1), 200, rng)


@sf.simulator(LEVEL_PRIOR, data=sf.Series())
def level(theta: dict[str, F], rng: np.random.Generator) -> F:
    """60 steps of the local-level model."""
    q, r = (np.exp(theta[name])[:, None] for name in local_level.NAMES)
    steps = rng.standard_normal((len(q), 60))
    steps[:, 1:] *= q
    return np.cumsum(steps, axis=1) + r * rng.standard_normal((len(q), 60))


@sf.simulator(BLOB_PRIOR)
def blob_map(theta: dict[str, F], rng: np.random.Generator) -> F:
    """32 x 32 maps of a blob in noise; that they are grids is for the rule to find."""
    rows, columns = (blob._bump(theta[name], theta["width"]) for name in ("row", "column"))
    maps = rows[:, :, None] * columns[:, None, :]
    return (maps + blob.NOISE * rng.standard_normal(maps.shape)).astype(np.float32)


@sf.simulator(POISSON_PRIOR, data={"counts": sf.Series(), "covariate": sf.Vector()})
def counts_and_covariate(theta: dict[str, F], rng: np.random.Generator) -> dict[str, F]:
    """30 counts, and the covariate of each."""
    x = rng.standard_normal((len(theta["a"]), poisson_covariate.LENGTH))
    return {"counts": rng.poisson(np.exp(theta["a"][:, None] + theta["b"][:, None] * x)), "covariate": x}


def _many(posterior: sf.Posterior) -> Callable[[F, Any], F]:
    """log q at nodes (n, G, d) of a stack."""
    return lambda theta, y: posterior.log_prob(
        theta if len(theta) > 1 else theta[0], y if len(theta) > 1 else y[0]
    ).reshape(theta.shape[:2])


def of_normal(seed: int) -> dict[str, Any]:
    """Normal data, 1 to 200 of them."""
    began = time.monotonic()
    posterior = sf.fit(normal_set, n_simulations=20_000, observe=sf.lengths(1, 200), seed=seed)
    seconds, rng, found = time.monotonic() - began, np.random.default_rng(100 + seed), {}
    for n in (1, 2, 5, 20, 100, 200):
        y = normal.simulate(normal.PRIOR.sample(200, rng), n, rng)
        found[f"n = {n}"] = _mean(normal.kl_to_exact(lambda theta, row: posterior.log_prob(theta, row), y))
    lengths = rng.integers(1, 201, 300)
    each = [
        normal.kl_to_exact(
            lambda theta, row: posterior.log_prob(theta, row),
            normal.simulate(normal.PRIOR.sample(1, rng), int(n), rng),
        )[0]
        for n in lengths
    ]
    return {"seconds": seconds, "kl": {**found, "n from 1 to 200": _mean(np.array(each))}}


def of_level(seed: int) -> dict[str, Any]:
    """The local-level model, 20 to 60 steps, 0 to 30% missing."""
    began = time.monotonic()
    observe = [sf.lengths(20, 60), sf.gaps(share=(0, 0.3))]
    posterior = sf.fit(level, n_simulations=20_000, observe=observe, seed=seed)
    seconds, rng, found = time.monotonic() - began, np.random.default_rng(100 + seed), {}
    for length in (20, 60):
        for share in ((0.0, 0.0), (0.0, 0.3)):
            _, y = local_level.simulate(300, rng, length)
            y = local_level.with_gaps(y, share, rng)
            whole = np.full((300, 60), np.nan)
            whole[:, :length] = y
            kl = local_level.kl_to_exact(_many(posterior), whole)
            found[f"T = {length}, {'gaps' if share[1] else 'complete'}"] = _mean(kl)
    covered = {}
    for name, length in (("T = 20", 20), ("T = 60", 60)):
        theta, y = local_level.simulate(5000, rng, length)
        whole = np.full((5000, 60), np.nan)
        whole[:, :length] = local_level.with_gaps(y, (0.0, 0.3), rng)
        draws = np.concatenate([posterior.sample(part, 200).values for part in np.array_split(whole, 10)])
        low, high = np.quantile(draws, [0.05, 0.95], axis=1)
        covered[name] = ((low <= theta) & (theta <= high)).mean(axis=0).tolist()
    return {"seconds": seconds, "kl": found, "coverage of 90%": covered}


def of_like(seed: int) -> dict[str, Any]:
    """The same for one fixed pattern, by like=."""
    rng = np.random.default_rng(5)
    pattern = local_level.with_gaps(local_level.simulate(1, rng, 40)[1], (0.25, 0.25), rng)[0]
    began = time.monotonic()
    posterior = sf.fit(level, n_simulations=20_000, like=pattern, seed=seed)
    seconds, rng = time.monotonic() - began, np.random.default_rng(100 + seed)
    whole = np.full((300, 60), np.nan)
    whole[:, :40] = np.where(np.isnan(pattern), np.nan, local_level.simulate(300, rng, 40)[1])
    return {
        "seconds": seconds,
        "kl": {"one pattern": _mean(local_level.kl_to_exact(_many(posterior), whole))},
    }


def of_blob(seed: int) -> dict[str, Any]:
    """A blob on 32 x 32."""
    began = time.monotonic()
    posterior = sf.fit(blob_map, n_simulations=20_000, seed=seed)
    seconds, rng = time.monotonic() - began, np.random.default_rng(100 + seed)
    _, y = blob.simulate(100, rng)
    kl = blob.kl_to_exact(lambda theta, one: posterior.log_prob(theta[0], one[0, ..., 0])[None], y)
    return {"seconds": seconds, "kl": {"blob": _mean(kl)}}


def of_poisson(seed: int) -> dict[str, Any]:
    """A Poisson series with a covariate vector."""
    began = time.monotonic()
    posterior = sf.fit(counts_and_covariate, n_simulations=50_000, seed=seed)
    seconds, rng = time.monotonic() - began, np.random.default_rng(100 + seed)
    _, data = poisson_covariate.simulate(300, rng)

    def log_q(theta: F, data: dict[str, F]) -> F:
        return posterior.log_prob(theta, {"counts": data["counts"][..., 0], "covariate": data["covariate"]})

    return {"seconds": seconds, "kl": {"two inputs": _mean(poisson_covariate.kl_to_exact(log_q, data))}}


def of_ricker(seed: int, minutes: float = 4.0) -> dict[str, Any]:
    """Ricker series of 20 to 100 steps by one fit by the clock, beside fits for 50 and for 100 steps alone:
    mean log q, in nats, at exact draws for the series of that length. Without declared summaries, which have
    no value where steps are missing.
    """
    settings, found = sf.FitSettings(declared_summaries=False), {}
    whole = sf.fit(ricker, minutes=minutes, observe=sf.lengths(20, 100), seed=seed, settings=settings)
    for steps in (50, 100):
        alone = sf.fit(make_ricker(steps=steps), minutes=minutes, seed=seed, settings=settings)
        apart = []
        for path in sorted(REFERENCES.glob(f"*_T{steps}_*.npz")):
            exact = np.load(path)
            y, theta = exact["x_obs"].astype(float), exact["draws"].astype(float)
            apart.append(float((alone.log_prob(theta, y) - whole.log_prob(theta, y)).mean()))
        found[f"T = {steps}"] = _mean(np.array(apart))
    return {"minutes": minutes, "nats below a fit for that length alone": found}


CELLS = {
    "ricker": of_ricker,
    "normal": of_normal,
    "level": of_level,
    "like": of_like,
    "blob": of_blob,
    "poisson": of_poisson,
}


def _mean(kl: F) -> list[float]:
    """Mean and its standard error."""
    return [round(float(kl.mean()), 4), round(float(kl.std(ddof=1) / np.sqrt(len(kl))), 4)]


def main() -> None:
    """Run one cell and keep its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cell", choices=[*CELLS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = {"cell": options.cell, "seed": options.seed, **CELLS[options.cell](options.seed)}
    print(json.dumps(found, indent=1))
    path = options.results / f"{options.cell}{f'_{options.seed}' if options.seed else ''}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
