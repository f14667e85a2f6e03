"""Print accuracy figures: `python -m tests.benchmarks.accuracy {ricker,gaussian} [--minutes 2.5]`. Not run by pytest.

Ricker: held-out density (5,000 pairs), and the distance from exact posteriors by particle MCMC (`tests/data`) of the neural posterior
and of ABC on 100,000 simulations. Gaussian toy: distance from the closed form at 20,000 simulations.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from scipy.stats import multivariate_normal

import sbi_flows as sf
from sbi_flows.diagnostics.distances import c2st
from simulators.gaussian import make_gaussian, posterior_moments
from simulators.ricker import ricker

EXACT = np.load(Path(__file__).parent.parent / "data" / "ricker_exact.npz")
SETS = sorted({name.split("/")[0] for name in EXACT.files})


def ricker_figures(minutes: float) -> None:
    began = time.monotonic()
    posterior = sf.fit(ricker, minutes=minutes, seed=1, say=None)
    print(f"Ricker, fit in {time.monotonic() - began:.0f} s with {posterior.facts['simulations']:,} simulations")
    rng = np.random.default_rng(77)
    theta = ricker.prior.sample(5000, rng)
    losses = -posterior.log_prob(theta, ricker.run(theta, rng))
    print(f"  mean negative log density at the truth, 5,000 pairs: {losses.mean():.2f} +- {losses.std() / np.sqrt(5000):.2f} nats")
    simulations = sf.simulate(ricker, 100_000, seed=1)
    for method in ("neural posterior", "rejection ABC", "ABC, linear adjustment"):
        scores = []
        for name in SETS:
            y = EXACT[f"{name}/x_obs"].astype(float)
            if method == "neural posterior":
                draws = posterior.sample(y, 2000, seed=1)
            else:
                adjust = "linear" if "linear" in method else None
                draws = sf.rejection_abc(ricker, y, simulations=simulations, quantile=0.01, adjust=adjust)  # type: ignore[arg-type]
            values, exact = draws.to_numpy(), EXACT[f"{name}/draws"].astype(float)
            n = min(len(values), len(exact))
            mean, sd = EXACT[f"{name}/mean"], EXACT[f"{name}/sd"]
            offset = np.abs((values.mean(axis=0) - mean) / sd).max()
            ratios = values.std(axis=0) / sd
            scores.append([offset, ratios.min(), ratios.max(), c2st(exact[:n], rng.permutation(values)[:n])])
        offset, low, high, score = np.array(scores).T
        print(
            f"  {method}: largest offset of a mean {offset.mean():.2f} exact sd, sd ratio {low.min():.2f}..{high.max():.2f}, "
            f"C2ST {score.mean():.2f} (means over {len(SETS)} data sets)"
        )


def gaussian_figures() -> None:
    for d in (1, 2, 10):
        simulator = make_gaussian(d)
        began = time.monotonic()
        posterior = sf.fit(simulator, n_simulations=20_000, seed=1, say=None)
        seconds = time.monotonic() - began
        rng = np.random.default_rng(2)
        theta = simulator.prior.sample(4000, rng)
        y = np.asarray(simulator.run(theta, rng))
        means, covariance = np.array([posterior_moments(row)[0] for row in y]), posterior_moments(y[0])[1]
        exact = multivariate_normal(np.zeros(d), covariance).logpdf(theta - means)
        divergence = (exact - posterior.log_prob(theta, y)).mean()
        law = multivariate_normal(means[0], covariance)
        reference = law.rvs(4000, random_state=3).reshape(4000, d)
        simulations = sf.simulate(simulator, 20_000, seed=1)
        abc = sf.rejection_abc(simulator, y[0], simulations=simulations, quantile=0.05).to_numpy()
        scores = c2st(reference, posterior.sample(y[0], 4000, seed=1).to_numpy()), c2st(reference[: len(abc)], abc)
        print(
            f"Gaussian, d = {d}, 20,000 simulations, {seconds:.0f} s: mean log density {divergence:.3f} nats below the exact one, "
            f"C2ST {scores[0]:.2f} (rejection ABC {scores[1]:.2f})"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problem", choices=("ricker", "gaussian"))
    parser.add_argument("--minutes", type=float, default=2.5, help="budget of the Ricker fit")
    options = parser.parse_args()
    if options.problem == "ricker":
        ricker_figures(options.minutes)
    else:
        gaussian_figures()
