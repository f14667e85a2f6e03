"""The stochastic Gompertz map with Poisson observations (Dennis et al. 2006, Ecol. Monogr. 76:323).

    N_{t+1} = N_t exp(a (log k - log N_t) + sigma xi_t),  xi_t ~ N(0, 1),  x_t ~ Poisson(N_t),  t = 1..T

with N_0 = k, so x_1 is seen after the first transition. theta = (a, k, sigma): rate of return, population at
rest in observed individuals, standard deviation of the environmental noise. log N is an autoregression of
order one around log k with coefficient 1 - a: density dependence that is linear in log N, where that of
Ricker's map is linear in N. The map is never chaotic; for a > 1 it overshoots.

Two simulators, rivals of those of `simulators.ricker` for the same counts: `gompertz` (T = 100) of `ricker`,
and `gompertz_tits` (T = 27) of `great_tits`.

The priors. Of `gompertz_tits`, k ~ LogUniform(6, 3600) covers the counts at which the prior of `great_tits`
lets the population rest, and sigma ~ U(0.05, 0.7) is the same noise. Of `gompertz`, k ~ LogUniform(4, 100)
covers the resting counts rho log_r of `ricker`, and sigma ~ U(0.05, 2) reaches the spread of its chaotic
counts. For both a ~ U(0.1, 1.9): within it, the population returns to k.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import loguniform, uniform

from sbi_flows import Prior, Simulator, simulator
from simulators.ricker import GREAT_TITS, PARTICLES, poisson_filter, ricker_summaries

F = NDArray[np.float64]

CLASSIC_THETA = {"a": 0.8, "k": 30.0, "sigma": 0.8}
CLASSIC_PRIOR = Prior(a=uniform(0.1, 1.8), k=loguniform(4, 100), sigma=uniform(0.05, 1.95))
TITS_PRIOR = Prior(a=uniform(0.1, 1.8), k=loguniform(6, 3600), sigma=uniform(0.05, 0.65))
_ROWS_AT_ONCE = 100


def simulate_gompertz(
    theta: Mapping[str, F], rng: np.random.Generator, steps: int = 100
) -> NDArray[np.float32]:
    """n series of counts, (n, steps), for theta name -> (n,)."""
    a, log_k, sigma = theta["a"], np.log(theta["k"]), theta["sigma"]
    log_population = log_k.copy()
    counts = np.empty((len(a), steps), dtype=np.float32)
    for t in range(steps):
        log_population = log_population + a * (log_k - log_population) + sigma * rng.standard_normal(len(a))
        counts[:, t] = rng.poisson(np.exp(log_population))
    return counts


def gompertz_log_likelihood(
    theta: Mapping[str, F], y: NDArray[np.floating], rng: np.random.Generator, particles: int = PARTICLES
) -> F:
    """log of an unbiased estimate of p(y | theta) in nats, (n,), for one series y (T,), by the
    particle filter of Ricker's map. Steps at which y is NaN were not observed.
    """
    columns = np.stack([np.atleast_1d(theta[name]) for name in ("a", "k", "sigma")], axis=1)
    series = np.asarray(y, dtype=np.float64)
    pieces = [columns[start : start + _ROWS_AT_ONCE] for start in range(0, len(columns), _ROWS_AT_ONCE)]
    return np.concatenate([_filter(piece, series, rng, particles) for piece in pieces])


def _filter(theta: F, y: F, rng: np.random.Generator, particles: int) -> F:
    a, k, sigma = (column[:, None] for column in theta.T)
    log_k = np.log(k)

    def move(log_population: F, noise: F) -> F:
        return np.asarray(log_population + a * (log_k - log_population) + sigma * noise)

    return poisson_filter(move, np.repeat(log_k, particles, axis=1), np.ones_like(k), y, rng)


def make_gompertz(
    name: str = "gompertz",
    steps: int = 100,
    prior: Prior = CLASSIC_PRIOR,
    observed: Mapping[str, F] | None = None,
) -> Simulator:
    """A Gompertz simulator of `steps` counts, with any prior over a, k and sigma."""

    def gompertz(theta: Mapping[str, F], rng: np.random.Generator) -> NDArray[np.float32]:
        return simulate_gompertz(theta, rng, steps)

    gompertz.__name__ = name
    wrap = simulator(
        prior,
        event_shape=(steps,),
        summaries=ricker_summaries,
        log_likelihood=gompertz_log_likelihood,
        observed=observed,
    )
    return wrap(gompertz)


def classic_gompertz(seed: int = 0, steps: int = 100) -> F:
    """A series drawn at theta = (0.8, 30, 0.8)."""
    theta = {name: np.array([value]) for name, value in CLASSIC_THETA.items()}
    return np.asarray(simulate_gompertz(theta, np.random.default_rng(seed), steps)[0], dtype=np.float64)


gompertz = make_gompertz(observed={"classic": classic_gompertz()})
gompertz_tits = make_gompertz(
    "gompertz_tits",
    len(GREAT_TITS),
    prior=TITS_PRIOR,
    observed={"wytham_wood": np.array(GREAT_TITS, dtype=np.float64)},
)
