"""Draws of one network at small budgets: none so far away that they decide the standard deviation.

The yardstick is robust: the median, and the interquartile range as a standard deviation (divided by 1.349).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.stats import kurtosis, uniform

import sbi_flows as sf
from sbi_flows.flows.recipes import FlowKind
from tests.benchmarks.references import TASKS

pytestmark = pytest.mark.slow

PRIOR = sf.Prior(growth=uniform(0.5, 3.5), coupling=uniform(0.1, 0.8), noise=uniform(0.05, 0.45))
QUICK = sf.TrainSettings(epochs=25, batch_size=64, weight_decay=0.3)


@sf.simulator(PRIOR, event_shape=(30, 2))
def coupled(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Two coupled log populations over 30 time steps."""
    r, k, sigma = theta["growth"], theta["coupling"], theta["noise"]
    first, second = np.zeros((2, len(r)))
    steps = []
    for _ in range(30):
        e, f = sigma * rng.standard_normal((2, len(r)))
        first, second = (
            np.clip(r / 3 + 0.6 * first - k * np.tanh(second) + e, -20, 20),
            np.clip(0.5 + k * first + 0.3 * second - 0.5 * np.tanh(first) + f, -20, 20),
        )
        steps.append(np.stack([first, second], axis=1))
    return np.stack(steps, axis=1)


def of_draws(posterior: sf.Posterior, y: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The kurtosis, and the sd over that implied by the 5% and 95% points, in unconstrained coordinates: the
    largest among the parameters, for each data set.
    """
    found = []
    for draws in posterior.sample(y, n, seed=3).to_numpy():
        z, _ = posterior.prior.to_unconstrained(draws)
        low, high = np.quantile(z, [0.05, 0.95], axis=0)
        wide = z.std(axis=0) / ((high - low) / 3.29)
        found.append((kurtosis(z, fisher=False).max(), wide.max()))
    kurtoses, ratios = np.array(found).T
    return kurtoses, ratios


@pytest.mark.parametrize("flow", ["nsf", "spline_coupling", "maf"])
def test_the_standard_deviation_is_that_of_the_interval(flow: FlowKind) -> None:
    """4,000 simulations of (30, 2) numbers, 8,000 draws for each of 20 data sets.

    For Gaussian draws the ratio is 1, with a standard error of 0.014 for one parameter and one data set, so
    the largest of three, averaged over 20 data sets, stays below 1.03 but once in 10,000 times; kurtosis is
    3, with a standard error of 0.055. These posteriors are not Gaussian, since the summaries lose some of
    the data: 2 to 4 in 1,000 of 1,500 held-out truths lie beyond 6 robust standard deviations. A tenth
    more, and kurtosis 9, leave room for that. Splines with pinned ends gave more than 1.15, and kurtosis
    15.
    """
    settings = sf.FitSettings(flow=flow, members=1)
    posterior = sf.fit(coupled, n_simulations=4000, seed=1, settings=settings, say=None)
    kurtoses, ratios = of_draws(posterior, sf.simulate(coupled, 20, seed=777).y, 8000)
    assert ratios.mean() < 1.1
    assert np.median(kurtoses) < 9


@cache
def fitted(task: str) -> tuple[np.ndarray, np.ndarray]:
    simulator = sf.load_simulator(task)
    settings = sf.FitSettings(flow="nsf", members=1, size="small", train=QUICK)
    posterior = sf.fit(simulator, n_simulations=1000, seed=1, settings=settings, say=None)
    return of_draws(posterior, sf.simulate(simulator, 20, seed=99).y, 4000)


@pytest.mark.parametrize("task", TASKS)
def test_kurtosis_on_the_public_tasks(task: str) -> None:
    """1,000 simulations, 4,000 draws for each of 20 data sets, the most kurtotic parameter of each.

    Exact posteriors have 3 where they are Gaussian, 4.2 where the data say nothing of a uniform parameter
    (logistic), and at most 5.9 in the mixture of two Gaussians whose sds are 1 and 0.1; its standard error
    for 4,000 draws is 0.08, 0.3 and 0.2. So a median of 9 is 10 standard errors from all of them. Splines
    with pinned ends had medians of 49, 12 and 13 on gaussian_mixture, sir and lotka_volterra. A single data
    set has no such limit, because its posterior and its summary may be far from these: the largest is 24.
    """
    kurtoses, _ = fitted(task)
    assert np.median(kurtoses) < 9
