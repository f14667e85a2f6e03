"""Print accuracy figures: `python -m tests.benchmarks.accuracy {ricker,gaussian} [--minutes 2.5] [--json]
[--without-summaries]`. Not run by pytest.

Ricker: log density at 5,000 held-out pairs; and the distance from eight exact posteriors (particle MCMC, in
`tests/data`) of the neural posterior and of ABC on 100,000 simulations: C2ST, offset of the means in exact
sd, ratio of the sds. For the neural posterior also the forward divergence

    KL(p || q) = E_p [log p(theta) + log p(y | theta) - log p(y) - log q(theta | y)],

averaged over every eighth exact draw, with the likelihood by quadrature (`ricker_grid`) and the log evidence
kept with the draws, whose error is about 0.01 nats; and, where the evidences of the prior's series are there,
the gap to exact over the prior (`ricker_gap`). --json prints the figures once more, as one line.
Gaussian toy: distance from the closed form at 20,000 simulations.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

import sbi_flows as sf
from sbi_flows.diagnostics.distances import c2st
from simulators.gaussian import make_gaussian, posterior_moments
from simulators.ricker import ricker
from tests.benchmarks.ricker_gap import EVIDENCE, gap_of
from tests.benchmarks.ricker_grid import log_likelihood
from tests.benchmarks.sections import parser_of

F = NDArray[np.float64]

EXACT = np.load(Path(__file__).parent.parent / "data" / "ricker_exact.npz")
SETS = sorted({name.split("/")[0] for name in EXACT.files})


def exact_log_density(name: str) -> tuple[F, F, F]:
    """Every eighth exact draw (n, 3) for one data set, the data (T,), and log p(theta | y) of these draws."""
    y, theta = EXACT[f"{name}/x_obs"].astype(float), EXACT[f"{name}/draws"].astype(float)[::8]
    log_likelihoods = np.array([log_likelihood(*row, y, 1.25, np.float32) for row in theta])
    return theta, y, ricker.prior.log_prob(theta) + log_likelihoods - EXACT[f"{name}/log_evidence"]


def forward_kl(posterior: sf.Posterior, name: str) -> tuple[float, float]:
    """KL(p || q) in nats for one data set, and its Monte Carlo error."""
    theta, y, exact = exact_log_density(name)
    gaps = exact - posterior.log_prob(theta, y)
    return float(gaps.mean()), float(gaps.std() / np.sqrt(len(gaps)))


def distances(name: str, values: F, rng: np.random.Generator) -> dict[str, Any]:
    """C2ST and marginal errors of draws (n, 3) for one data set."""
    exact, mean, sd = EXACT[f"{name}/draws"].astype(float), EXACT[f"{name}/mean"], EXACT[f"{name}/sd"]
    n = min(len(values), len(exact))
    return {
        "c2st": c2st(exact[:n], rng.permutation(values)[:n]),
        "offset": dict(
            zip(ricker.prior.names, (np.abs(values.mean(axis=0) - mean) / sd).tolist(), strict=True)
        ),
        "sd_ratio": dict(zip(ricker.prior.names, (values.std(axis=0) / sd).tolist(), strict=True)),
    }


def ricker_figures(minutes: float, seed: int, as_json: bool, declared_summaries: bool) -> None:
    settings = sf.FitSettings(declared_summaries=declared_summaries)
    fit, began = sf.fit, time.monotonic()  # importing the package is not counted
    posterior = fit(ricker, minutes=minutes, seed=seed, settings=settings, say=None)
    took = time.monotonic() - began
    print(
        f"Ricker, {posterior.declared_summaries or 'no'} declared summaries in the input, {took:.0f} s, "
        f"{posterior.facts['simulations']:,} simulations, load {os.getloadavg()[0]:.1f}"
    )
    rng = np.random.default_rng(77)
    theta = ricker.prior.sample(5000, rng)
    losses = -posterior.log_prob(theta, ricker.run(theta, rng))
    error = losses.std() / np.sqrt(5000)
    print(f"  mean negative log density at the truth, 5,000 pairs: {losses.mean():.2f} +- {error:.2f} nats")
    figures: dict[str, Any] = {
        "declared_summaries": posterior.declared_summaries,
        "seconds": took,
        "simulations": posterior.facts["simulations"],
        "loss": losses.mean(),
        "loss_error": error,
    }
    divergences = {name: forward_kl(posterior, name) for name in SETS}
    if EVIDENCE.exists():
        figures["gap"], figures["gap_error"] = gap_of(posterior)
        print(f"  gap to exact over the prior: {figures['gap']:.3f} +- {figures['gap_error']:.3f} nats")
    figures["kl"] = {name: kl for name, (kl, _) in divergences.items()}
    each = ", ".join(f"{name} {kl:.2f} +- {spread:.2f}" for name, (kl, spread) in divergences.items())
    print(f"  KL(exact || neural): mean {np.mean(list(figures['kl'].values())):.2f} nats; {each}")
    simulations = sf.simulate(ricker, 100_000, seed=1)
    for method in ("neural posterior", "rejection ABC", "ABC, linear adjustment"):
        found: dict[str, dict[str, Any]] = {}
        for name in SETS:
            y = EXACT[f"{name}/x_obs"].astype(float)
            if method == "neural posterior":
                draws = posterior.sample(y, 2000, seed=1)
            else:
                adjust = "linear" if "linear" in method else None
                draws = sf.rejection_abc(ricker, y, simulations=simulations, quantile=0.01, adjust=adjust)  # type: ignore[arg-type]
            found[name] = distances(name, draws.to_numpy(), rng)
        figures[method] = found
        scores = np.array([row["c2st"] for row in found.values()])
        offset, ratio = (
            np.array([list(row[of].values()) for row in found.values()]) for of in ("offset", "sd_ratio")
        )
        print(
            f"  {method}: largest offset of a mean {offset.max(axis=1).mean():.2f} exact sd, sd ratio "
            f"{ratio.min(axis=1).mean():.2f}.."
            f"{ratio.max(axis=1).mean():.2f}, C2ST {scores.mean():.2f} (means over {len(SETS)} data sets)"
        )
        print(
            f"    C2ST {', '.join(f'{name} {score:.2f}' for name, score in zip(SETS, scores, strict=True))}"
        )
        columns = zip(ricker.prior.names, offset.mean(axis=0), ratio.mean(axis=0), strict=True)
        print(f"    mean offset, sd ratio: {', '.join(f'{name} {o:.2f}, {r:.2f}' for name, o, r in columns)}")
    if as_json:
        print(json.dumps(figures))


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
        reference = multivariate_normal(means[0], covariance).rvs(4000, random_state=3).reshape(4000, d)
        simulations = sf.simulate(simulator, 20_000, seed=1)
        abc = sf.rejection_abc(simulator, y[0], simulations=simulations, quantile=0.05).to_numpy()
        scores = (
            c2st(reference, posterior.sample(y[0], 4000, seed=1).to_numpy()),
            c2st(reference[: len(abc)], abc),
        )
        print(
            f"Gaussian, d = {d}, 20,000 simulations, {seconds:.0f} s: mean log density {divergence:.3f} "
            f"nats below the exact one, C2ST {scores[0]:.2f} (rejection ABC {scores[1]:.2f})"
        )


if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.add_argument("problem", choices=("ricker", "gaussian"))
    parser.add_argument("--minutes", type=float, default=2.5, help="budget of the Ricker fit")
    parser.add_argument("--seed", type=int, default=1, help="of the Ricker fit")
    parser.add_argument(
        "--json", action="store_true", help="print the Ricker figures as one line of JSON too"
    )
    parser.add_argument(
        "--without-summaries",
        action="store_true",
        help="keep the summaries that the Ricker simulator declares out of the network's input",
    )
    options = parser.parse_args()
    if options.problem == "ricker":
        ricker_figures(options.minutes, options.seed, options.json, not options.without_summaries)
    else:
        gaussian_figures()
