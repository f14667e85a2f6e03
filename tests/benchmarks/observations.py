"""How often corrupted data are flagged, and how often clean simulated data are.

    python -m tests.benchmarks.observations [--minutes 2 | --posterior ricker.safetensors] [-m 1000]

Ricker series (T = 100), with theta from the prior and the classic theta, corrupted by: an added trend (two sd
over the length), doubled variance around the mean, a detector stuck for 20 steps in the middle at zero or at
its last value, negative-binomial instead of Poisson counts (variance twice the mean), and another growth
model, unlike anything that the critic of a posterior is trained on. Flagged: the verdict at the observation
is not "trust", or is "do not trust"; stated rates 1% and 0.1%. Badly predicted: the posterior predictive
check of `sf.compare` has p <= 1%, which happens to data from the model less often than that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import sbi_flows as sf
from sbi_flows.comparison.verdict import UNLIKELY
from sbi_flows.diagnostics.predictive import check_predictive
from simulators.ricker import CLASSIC_THETA
from tests.benchmarks.sections import parser_of

F = np.ndarray
STUCK = slice(40, 60)


def trend(y: F) -> F:
    return np.round(y + 2 * y.std(axis=1, keepdims=True) * np.linspace(0, 1, y.shape[1]))


def doubled_variance(y: F) -> F:
    mean = y.mean(axis=1, keepdims=True)
    return np.maximum(np.round(mean + np.sqrt(2) * (y - mean)), 0)


def stuck_at_zero(y: F) -> F:
    corrupted = y.copy()
    corrupted[:, STUCK] = 0
    return corrupted


def stuck_at_value(y: F) -> F:
    corrupted = y.copy()
    corrupted[:, STUCK] = corrupted[:, STUCK.start, None]
    return corrupted


def negative_binomial(theta: F, rng: np.random.Generator, dispersion: float = 2.0, steps: int = 100) -> F:
    """Counts with mean rho N_t and variance `dispersion` times that: Poisson with a gamma rate."""
    r, sigma, rho = np.exp(theta[:, 0]), theta[:, 1], theta[:, 2]
    population, y = np.ones(len(theta)), np.empty((len(theta), steps))
    for t in range(steps):
        population = r * population * np.exp(-population + sigma * rng.standard_normal(len(theta)))
        y[:, t] = rng.poisson(
            rng.gamma(np.maximum(rho * population, 1e-12) / (dispersion - 1), dispersion - 1)
        )
    return y


def delayed_regulation(theta: F, rng: np.random.Generator, share: float = 0.3, steps: int = 100) -> F:
    """Poisson counts of N_{t+1} = r N_t exp(-N_t - share N_{t-1} + xi_t): another growth model, which none of
    the critic's corruptions resembles.
    """
    r, sigma, rho = np.exp(theta[:, 0]), theta[:, 1], theta[:, 2]
    before, population, y = np.zeros(len(theta)), np.ones(len(theta)), np.empty((len(theta), steps))
    for t in range(steps):
        growth = r * np.exp(-population - share * before + sigma * rng.standard_normal(len(theta)))
        before, population = population, population * growth
        y[:, t] = rng.poisson(rho * population)
    return y


CORRUPTED: dict[str, Callable[[F], F]] = {
    "added trend": trend,
    "doubled variance": doubled_variance,
    "stuck at zero, 20 steps": stuck_at_zero,
    "stuck at its value, 20 steps": stuck_at_value,
}


def flagged(posterior: sf.Posterior, y: F) -> tuple[float, float]:
    """The shares of data sets whose verdict is not "trust", and is "do not trust"."""
    levels = np.array([verdict.level for verdict in posterior.verdicts(y)])
    return float((levels != "trust").mean()), float((levels == "do not trust").mean())


def badly_predicted(posterior: sf.Posterior, simulator: sf.Simulator, y: F) -> float:
    """The share of data sets whose posterior predictive check has p <= 1%."""
    called = 0
    for i, draws in enumerate(posterior.sample(y, 1000, seed=1).values):
        predicted = np.asarray(simulator.run(draws, np.random.default_rng(i)), dtype=float)
        called += check_predictive(y[i], predicted, simulator.declared_summaries).p <= UNLIKELY
    return called / len(y)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--posterior", help="a fit of ricker, instead of fitting one")
    parser.add_argument(
        "--predictive",
        type=int,
        default=200,
        help="data sets of each kind for the posterior predictive check",
    )
    parser.add_argument("-m", type=int, default=1000, help="data sets of each kind; in distribution 5,000")
    options = parser.parse_args()
    ricker = sf.load_simulator("ricker")
    posterior = (
        sf.load(options.posterior)
        if options.posterior
        else sf.fit(ricker, minutes=options.minutes, seed=1, say=None)
    )
    rng = np.random.default_rng(2)
    made = sf.simulate(ricker, 5000, seed=20261).y
    print(
        f"{'in distribution, 5,000':46} flagged {flagged(posterior, made)[0]:.4f}   do not trust "
        f"{flagged(posterior, made)[1]:.4f}"
    )
    classic = np.tile(list(CLASSIC_THETA.values()), (options.m, 1))
    for where, theta in {"prior": ricker.prior.sample(options.m, rng), "classic theta": classic}.items():
        y = np.asarray(ricker.run(theta, rng), dtype=float)
        badly = badly_predicted(posterior, ricker, y[: options.predictive])
        print(f"{where:13} {'clean':32} badly predicted {badly:.4f}", flush=True)
        kinds = {name: corrupt(y) for name, corrupt in CORRUPTED.items()}
        kinds |= {
            "negative binomial, dispersion 2": negative_binomial(theta, rng),
            "another growth model": delayed_regulation(theta, rng),
        }
        for name, corrupted in kinds.items():
            any_flag, refused = flagged(posterior, corrupted)
            badly = badly_predicted(posterior, ricker, corrupted[: options.predictive])
            print(
                f"{where:13} {name:32} flagged {any_flag:.4f}   do not trust {refused:.4f}   badly "
                f"predicted {badly:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
