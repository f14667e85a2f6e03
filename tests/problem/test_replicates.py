"""Sets of replicates that share parameters: one run of the simulator, any number in the range, any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.errors import SettingsError, ShapeError

PRIOR = sf.Prior(a=uniform(0, 1), b=norm(0, 1))
QUICK = sf.FitSettings(
    width=16, layers=2, summary_features=8, members=1, flow="maf", train=sf.TrainSettings(epochs=2)
)


def log_likelihood(theta: Any, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(norm(theta["a"][:, None], 1).logpdf(y).sum(axis=1))


@sf.simulator(PRIOR, log_likelihood=log_likelihood)
def three(theta: Any, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(theta["a"][:, None] + rng.standard_normal((len(theta["a"]), 3)))


@pytest.fixture(scope="module")
def posterior() -> sf.Posterior:
    """A quick fit of one to four replicates."""
    return sf.fit(sf.replicates(three, 1, 4), n_simulations=400, settings=QUICK, say=None)


def test_a_set_is_most_events_of_one_theta_from_one_run() -> None:
    plots = sf.replicates(three, 2, 5)
    theta, rng = PRIOR.sample(6, np.random.default_rng(0)), np.random.default_rng(1)
    y = plots.run(theta, rng)
    wanted = three.run(np.repeat(theta, 5, axis=0), np.random.default_rng(1)).reshape(6, 5, 3)
    np.testing.assert_array_equal(y, wanted)
    assert plots.event_shape == (5, 3)
    assert plots.prior is PRIOR
    assert plots.events.tables[0].kind == sf.Set(of=sf.Vector())


def test_one_draw_at_a_time_and_scalars_have_replicates_too() -> None:
    @sf.simulator(PRIOR, vectorized=False)
    def one(theta: Any, rng: np.random.Generator) -> float:
        return float(theta["a"] + rng.standard_normal())

    assert sf.simulate(sf.replicates(one, 1, 3), 10, seed=1).y.shape == (10, 3)


def test_the_log_likelihood_of_a_set_is_the_sum_over_the_members_that_are_there() -> None:
    plots, rng = sf.replicates(three, 1, 4), np.random.default_rng(0)
    y = rng.standard_normal((4, 3))
    y[2:] = np.nan
    theta = {"a": np.array([0.1, 0.9]), "b": np.zeros(2)}
    assert plots.log_likelihood is not None
    wanted = log_likelihood(theta, y[0], rng) + log_likelihood(theta, y[1], rng)
    np.testing.assert_allclose(plots.log_likelihood(theta, y, rng), wanted, rtol=1e-12)
    assert sf.replicates(sf.Simulator(three.function, PRIOR), 1, 2).log_likelihood is None


def test_any_number_of_replicates_in_any_order(posterior: sf.Posterior) -> None:
    y = np.random.default_rng(2).standard_normal((4, 3))
    whole = posterior.sample(y, 50, seed=1).values
    np.testing.assert_allclose(posterior.sample(y[::-1], 50, seed=1).values, whole, atol=1e-6)
    two = posterior.sample(y[:2], 50, seed=1).values
    for given in (list(y[:2]), y[:2].tolist(), np.concatenate([y[:2], np.full((2, 3), np.nan)])):
        np.testing.assert_array_equal(posterior.sample(given, 50, seed=1).values, two)
    assert not np.allclose(whole, two)
    assert posterior.sample(y[:1], 50).values.shape == (50, 2)
    assert posterior.sample([y[:2], y], 50).values.shape == (2, 50, 2)


def test_too_many_replicates_and_one_that_is_no_set_are_refused(posterior: sf.Posterior) -> None:
    with pytest.raises(ShapeError, match=r"make 5 members.*sf.lengths\(4, 5\)"):
        posterior.sample(np.zeros((5, 3)), 10)
    with pytest.raises(ShapeError, match=r"shape \(3,\).*\(4, 3\)"):
        posterior.sample(np.zeros(3), 10)


def test_a_stack_says_that_parameters_are_not_shared(posterior: sf.Posterior) -> None:
    text = "2 observations, each with parameters of its own; replicates that share parameters"
    assert text in repr(posterior.sample(np.zeros((2, 4, 3)), 10))
    assert "replicates" not in repr(posterior.sample(np.zeros((4, 3)), 10))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sf.replicates(three.function, 1, 3), r"takes a simulator.*got function"),
        (lambda: sf.replicates(three, 3, 1), "most must be an integer of at least 3, got 1"),
        (lambda: sf.replicates(three, 0, 1), "least must be a positive integer, got 0"),
        (lambda: sf.replicates(sf.replicates(three, 1, 2), 1, 2), "already makes sets"),
        (
            lambda: sf.replicates(sf.Simulator(lambda theta, rng: {"y": theta["a"]}, PRIOR), 1, 2),
            "here y is a mapping of y",
        ),
    ],
)
def test_what_has_no_replicates_is_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        make()
