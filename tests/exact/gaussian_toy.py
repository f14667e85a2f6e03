"""The Gaussian toy with known posterior and evidence, likelihoods of it, and proposals that are wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, norm

import sbi_flows as sf
from sbi_flows.exact.exact import Exact, sample_exact
from sbi_flows.exact.settings import Wanted
from simulators.gaussian import design, make_gaussian, posterior_moments

F = NDArray[np.float64]
Y = np.array([0.8, -0.3])
MEAN, COVARIANCE = posterior_moments(Y)
SD = np.sqrt(np.diag(COVARIANCE))
EVIDENCE = float(multivariate_normal(np.zeros(2), design(2) @ design(2).T + 0.25 * np.eye(2)).logpdf(Y))


def toy(log_likelihood: Callable[..., Any] | None = None, noise: float = 0.0) -> sf.Simulator:
    """The toy without its closed form. noise: sd of log-normal noise of mean one on the likelihood."""
    clean = make_gaussian(2)

    def noisy(theta: Mapping[str, F], y: F, rng: np.random.Generator) -> F:
        assert clean.log_likelihood is not None
        extra = noise * rng.standard_normal(len(theta["theta_1"])) - noise**2 / 2
        return np.asarray(clean.log_likelihood(theta, y, rng) + extra)

    return sf.Simulator(clean.function, clean.prior, event_shape=(2,), log_likelihood=log_likelihood or noisy)


def noisy(theta: Mapping[str, F], y: F, rng: np.random.Generator) -> F:
    """With log-normal noise of mean one and variance 0.25 in logs."""
    extra = 0.5 * rng.standard_normal(len(theta["theta_1"])) - 0.125
    stacked = np.stack([theta["theta_1"], theta["theta_2"]], axis=1)
    return np.asarray(norm.logpdf(y, stacked @ design(2).T, 0.5).sum(axis=1) + extra)


def raising(theta: Mapping[str, F], y: F, rng: np.random.Generator) -> F:
    """At some theta."""
    if (theta["theta_1"] > 0.5).any():
        raise RuntimeError("no licence")
    return np.zeros(len(theta["theta_1"]))


def _simulate(theta: Mapping[str, F], rng: np.random.Generator) -> F:
    stacked = np.stack([theta["theta_1"], theta["theta_2"]], axis=1)
    return np.asarray(stacked @ design(2).T + 0.5 * rng.standard_normal(stacked.shape))


PRIOR = sf.Prior(theta_1=norm(0, 1), theta_2=norm(0, 1))


@sf.simulator(PRIOR, event_shape=(2,), log_likelihood=noisy)
def noisy_toy(theta: Mapping[str, F], rng: np.random.Generator) -> F:
    """The toy where another process can import it."""
    return _simulate(theta, rng)


@sf.simulator(PRIOR, event_shape=(2,), log_likelihood=raising)
def raising_toy(theta: Mapping[str, F], rng: np.random.Generator) -> F:
    """The same with a likelihood that raises."""
    return _simulate(theta, rng)


@dataclass(frozen=True)
class Normal:
    """A proposal that is N(mean, covariance) over theta."""

    mean: F
    covariance: F

    def sample(self, n: int, rng: np.random.Generator) -> F:
        theta = multivariate_normal(self.mean, self.covariance).rvs(n, random_state=rng).reshape(n, 2)
        return np.asarray(PRIOR.to_unconstrained(theta)[0])

    def log_prob(self, z: F) -> F:
        theta = PRIOR.from_unconstrained(z)
        found = multivariate_normal(self.mean, self.covariance).logpdf(theta).reshape(len(z))
        return np.asarray(found - PRIOR.to_unconstrained(theta)[1])


RIGHT = Normal(MEAN, COVARIANCE)


def sampled(simulator: sf.Simulator, q: Any = RIGHT, y: F = Y, **wanted: Any) -> Exact:
    """4,000 draws with seed 1, unless `wanted` says otherwise."""
    given = {"n": 4000, "ess": 8000.0, "evaluations": 200_000, "seed": 1, "place": {"workers": 1}, **wanted}
    return sample_exact(simulator, y, q, Wanted(**given))


def moments(found: Exact) -> tuple[F, F]:
    """Weighted means and sd."""
    weights = np.full(len(found.theta), 1 / len(found.theta)) if found.weights is None else found.weights
    mean = weights @ found.theta
    return mean, np.sqrt(weights @ np.square(found.theta - mean))
