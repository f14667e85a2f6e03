"""Does ABC's verdict see data that no simulation is like (case 29), and how often does it cry wolf?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, kstest, norm

import sbi_flows as sf
from sbi_flows.baselines.distance import Distance
from sbi_flows.baselines.likeness import Likeness, likeness
from sbi_flows.baselines.target import Target
from sbi_flows.baselines.verdict import data_verdict

Model = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def gaussian(a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return a[:, None] + rng.standard_normal((len(a), 5))


def constant(a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.column_stack([gaussian(a, rng)[:, :2], np.ones(len(a))])


def duplicated(a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return gaussian(a, rng)[:, [0, 0, 1]]


def nearly(a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x = gaussian(a, rng)[:, :1]
    return np.column_stack([x, x + 1e-3 * rng.standard_normal((len(a), 1))])


def squared(a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x = a + 0.3 * rng.standard_normal(len(a))
    return np.column_stack([x, x**2])


def counted(a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    counts = rng.poisson(3 * np.exp(a)[:, None], (len(a), 3)).astype(np.float64)
    return np.column_stack([counts, counts.sum(axis=1)])


def heavy(a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return a[:, None] + rng.standard_cauchy((len(a), 3))


def binary(a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (rng.random((len(a), 20)) < 1 / (1 + np.exp(-a[:, None]))).astype(np.float64)


def made(model: Model, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return model(rng.standard_normal(n), rng)


def judged(model: Model, y: np.ndarray, observed: object) -> Likeness:
    simulator = sf.simulator(sf.Prior(a=norm(0, 1)), event_shape=y.shape[1:])(
        lambda theta, rng: model(theta["a"], rng)
    )
    target = Target.of(simulator, observed, None, "a test")
    return likeness(target, Distance.of(target.summarise(y), target.summaries), y, 0.01)


@pytest.mark.parametrize(
    ("model", "observed", "level"),
    [
        (constant, [0.5, 0.4, 1], "trust"),
        (constant, [0.5, 0.4, 5], "do not trust"),
        (constant, [0.5, 0.4, -1e30], "do not trust"),
        (duplicated, [0.5, 0.5, 0.4], "trust"),
        (duplicated, [0.5, 1.0, 0.4], "do not trust"),
        (duplicated, [0.5, 0.5001, 0.4], "do not trust"),
        (nearly, [0.5, 0.5], "trust"),
        (nearly, [0.5, 0.6], "do not trust"),
        (squared, [0.5, 0.25], "trust"),
        (squared, [0.5, 1.5], "do not trust"),
        (counted, [3, 2, 4, 9], "trust"),
        (counted, [3, 2, 4, 10], "do not trust"),
        (counted, [-3, 2, 4, 3], "caution"),
        (counted, [2.5, 2, 4, 8.5], "caution"),
        (gaussian, [1e200, 0, 0, 0, 0], "do not trust"),
        (gaussian, [3.0, -3.0, 3.0, -3.0, 3.0], "do not trust"),
    ],
)
def test_data_that_no_simulation_is_like_are_called(model: Model, observed: list[float], level: str) -> None:
    assert data_verdict(judged(model, made(model, 4000, 1), observed)).level == level


@pytest.mark.parametrize("model", [gaussian, duplicated, counted, heavy, binary])
def test_simulated_data_are_called_no_more_often_than_stated(model: Model) -> None:
    """100 data sets against five sets of simulations: the p-value is not too small, by Kolmogorov-Smirnov and
    by the count of cautions, each at 1e-4. The data sets of one set of simulations share these.
    """
    found = []
    for seed in range(5):
        y = made(model, 2000, seed)
        found += [judged(model, y, one) for one in made(model, 20, 100 + seed)]
    assert kstest([one.p_value for one in found], "uniform", alternative="greater").pvalue > 1e-4
    assert not any(one.broken or one.unlike.any() for one in found)
    cautions = sum(data_verdict(one).level != "trust" for one in found)
    assert binom.sf(cautions - 1, len(found), 0.01) > 1e-4


def test_relations_are_not_judged_where_simulations_are_few_or_rare_events_break_them() -> None:
    few = made(gaussian, 8, 1)[:, :4]
    assert not judged(gaussian, few, [0.1, 0.2, 0.3, 0.9]).broken
    rare = np.column_stack([made(gaussian, 2000, 1), np.zeros((2000, 8))])
    rare[np.arange(8) * 7, 5 + np.arange(8)] = 1.0  # each in one simulation alone
    assert not judged(gaussian, rare, np.append(rare[5, :5], np.ones(8))).broken


def test_an_observation_far_away_does_not_hide_how_the_simulations_differ() -> None:
    found = judged(gaussian, made(gaussian, 2000, 1), [1e12, 0, 0, 0, 0])
    assert found.p_value < 0.001
    assert 1000 < found.times < np.inf


def test_what_is_not_observed_is_not_judged() -> None:
    y = made(duplicated, 4000, 1)
    assert data_verdict(judged(duplicated, y, [0.5, np.nan, 0.4])).ok
    assert not data_verdict(judged(duplicated, y, [0.5, 0.7, np.nan])).ok


def test_declared_summaries_do_not_hide_the_data() -> None:
    """The mean of all three is as usual; that two columns are equal in all simulations is still seen."""

    @sf.simulator(sf.Prior(a=norm(0, 1)), event_shape=(3,), summaries=lambda y: y.mean(axis=1, keepdims=True))
    def simulator(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return duplicated(theta["a"], rng)

    simulations = sf.simulate(simulator, 10_000, seed=1)
    draws = sf.rejection_abc(simulator, [0.5, 1.0, 0.4], simulations=simulations)
    assert draws.verdict.level == "do not trust"
    assert sf.rejection_abc(simulator, [0.5, 0.5, 0.4], simulations=simulations).verdict.ok
