"""Bets of a regression against q. If q is the posterior, or too narrow, alarms are as rare as stated; a
posterior that its network limits is found, with the size of the fault.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from sbi_flows.diagnostics.resolution import Simulated, crossed_resolution, evidence_near, resolution

from .known import PROBLEMS

F = np.ndarray
LEAST = math.log(1e4)


def narrow(m: int, rng: np.random.Generator, *, noise: float = 1e-3, bend: float = 0.0) -> tuple[F, F]:
    """theta ~ U(0, 1), y = theta + bend theta^2 + noise e."""
    theta = rng.random((m, 1))
    return theta, theta + bend * theta**2 + noise * rng.standard_normal((m, 1))


def limited(theta: F, width: float, rng: np.random.Generator, n: int = 32, noise: float = 1e-3) -> F:
    """Draws of a network that resolves no more than `width`: calibrated over the prior, since its means err
    as much as it says, by a smooth function of the data.
    """
    missed = math.sqrt(2 * (width**2 - noise**2)) * np.sin(theta[:, 0] / (3 * width))
    return theta[:, None] + missed[:, None, None] + width * rng.standard_normal((len(theta), n, 1))


@pytest.mark.parametrize("name", PROBLEMS)
def test_if_q_is_the_posterior_alarms_are_no_more_frequent_than_stated(name: str) -> None:
    """20 repeats. At 1e-4 two alarms have probability 2e-6; at one observation, at 1%, four have 4e-5."""
    known, rng = PROBLEMS[name](), np.random.default_rng(1)
    called = called_here = 0
    for _ in range(20):
        theta, y = known.joint(300, rng)
        draws = known.sample(y, 32, rng)
        found = crossed_resolution(Simulated(theta[1:], [y[1:]]), draws[1:], "ab")
        called += any(one.evidence >= LEAST + math.log(2) for one in found)
        log_e = np.stack([one.log_e for one in found], axis=1)
        here = evidence_near(log_e, y[1:].astype(float), y[:1].astype(float))
        called_here += bool((here >= math.log(2 / 0.01)).any())
        assert all(one.p <= 1 for one in found)
    assert called <= 1
    assert called_here <= 3


def test_bets_have_mean_one_whatever_the_regression_predicts() -> None:
    """A regression that is nearly right, and bets on every row against the exact posterior, at a narrower
    width: the mean of e over 20,000 rows is 1 to 4 standard errors.
    """
    rng = np.random.default_rng(2)
    theta, y = narrow(21_000, rng, noise=0.1)
    draws = y[:, None] + 0.1 * rng.standard_normal((len(y), 20, 1))
    inside = (y[:, 0] > 0.3) & (y[:, 0] < 0.7)
    theta, y, draws = theta[inside], y[inside], draws[inside]
    known = Simulated(y[:500] + 0.03 * rng.standard_normal((500, 1)), [y[:500]])
    (found,) = resolution(known, Simulated(theta[500:], [y[500:]]), draws[500:], "a")
    e = np.exp(found.log_e)
    assert found.bets > 0.9
    assert abs(e.mean() - 1) < 4 * e.std() / math.sqrt(len(e))
    assert found.evidence < 0


@pytest.mark.parametrize(("width", "times"), [(3.0, 3), (10.0, 10), (1e3, 1e3)])
@pytest.mark.parametrize("bend", [0.0, 0.5])
def test_a_posterior_that_its_network_limits_is_found_with_its_size(
    width: float, times: float, bend: float
) -> None:
    """In each of 10 repeats. The factor is a median over bets, and the curvature adds to the errors."""
    noise = 1e-4
    for seed in range(10):
        rng = np.random.default_rng(seed)
        known, tested = (narrow(m, rng, noise=noise, bend=bend) for m in (500, 100))
        draws = limited(tested[0], width * noise, rng, noise=noise)
        (found,) = resolution(
            Simulated(known[0], [known[1]]), Simulated(tested[0], [tested[1]]), draws, ["a"]
        )
        assert found.evidence > LEAST
        assert times / 2 < found.factor < 3 * times


@pytest.mark.parametrize("width", [0.25, 0.5, 0.9])
def test_a_posterior_that_is_too_narrow_is_not_called_limited(width: float) -> None:
    """Other tests find it. No bet is made where the regression is as wide as q."""
    rng = np.random.default_rng(3)
    theta = rng.standard_normal((1000, 1))
    y = theta + 0.5 * rng.standard_normal(theta.shape)
    draws = 0.8 * y[:, None] + width * math.sqrt(0.2) * rng.standard_normal((1000, 32, 1))
    (found,) = crossed_resolution(Simulated(theta, [y]), draws, ["a"])
    assert found.evidence < LEAST
    assert found.bets < 0.1


def test_an_over_wide_posterior_is_called_limited() -> None:
    rng = np.random.default_rng(4)
    theta, y = narrow(1000, rng, noise=0.01)
    draws = y[:, None] + 0.04 * rng.standard_normal((len(y), 32, 1))
    (found,) = crossed_resolution(Simulated(theta, [y]), draws, ["a"])
    assert found.evidence > LEAST
    assert 3 < found.factor < 5
    assert found.p < 1e-4


def test_one_narrow_parameter_among_wide_ones_is_the_one_that_is_named() -> None:
    rng = np.random.default_rng(5)
    mix = rng.standard_normal((3, 5))
    theta = rng.standard_normal((1200, 3))
    y = (theta + np.array([1e-4, 0.5, 0.5]) * rng.standard_normal(theta.shape)) @ mix
    seen = y @ np.linalg.pinv(mix)
    draws = np.array([1, 0.8, 0.8]) * seen[:, None] + np.array([0.05, 0.447, 0.447]) * rng.standard_normal(
        (1200, 32, 3)
    )
    first, *others = crossed_resolution(Simulated(theta, [y]), draws, "abc")
    assert first.evidence > LEAST
    assert first.factor > 100
    assert all(one.evidence < LEAST for one in others)


def test_in_many_dimensions_a_regression_that_sees_nothing_accuses_nobody() -> None:
    """theta = |y_1 y_2| up to noise, among 200 columns: q knows, regression on neighbours does not."""
    rng = np.random.default_rng(6)
    y = rng.standard_normal((600, 200))
    theta = np.abs(y[:, :1] * y[:, 1:2]) + 0.1 * rng.standard_normal((600, 1))
    draws = np.abs(y[:, :1] * y[:, 1:2])[:, None] + 0.1 * rng.standard_normal((600, 32, 1))
    (found,) = crossed_resolution(Simulated(theta, [y]), draws, ["a"])
    assert (found.bets, found.evidence, found.factor) == (0, 0, 1)


def test_the_evidence_near_an_observation_is_that_of_its_neighbours() -> None:
    """q is limited where y < 0.3 only."""
    rng = np.random.default_rng(7)
    theta = rng.random((1000, 1))
    noise = np.where(theta < 0.3, 1e-4, 0.1)
    y = theta + noise * rng.standard_normal(theta.shape)
    draws = y[:, None] + 0.1 * rng.standard_normal((1000, 32, 1))
    known, tested = np.arange(1000) < 700, np.arange(1000) >= 700
    both = Simulated(theta, [y])
    (found,) = resolution(both.rows(known), both.rows(tested), draws[tested], ["a"])
    evidence = evidence_near(found.log_e[:, None], y[tested], np.array([[0.05], [0.15], [0.6], [0.9]]))
    assert (evidence[:2] > math.log(100)).all()
    assert (evidence[2:] < math.log(100)).all()


def test_features_that_do_not_vary_few_rows_and_draws_that_are_not_finite() -> None:
    rng = np.random.default_rng(8)
    theta, y = narrow(200, rng)
    draws = limited(theta, 0.1, rng)
    without = crossed_resolution(Simulated(theta, [np.ones((200, 2))]), draws, ["a"])
    few = crossed_resolution(Simulated(theta[:40], [y[:40]]), draws[:40], ["a"])
    assert [one.evidence for one in (*without, *few)] == pytest.approx([0, 0])
    many = rng.standard_normal((90, 60))
    crowded = crossed_resolution(Simulated(many, [many]), np.zeros((90, 32, 60)), ["a"] * 60)
    assert {one.bets for one in crowded} == {0.0}
    beside = Simulated(theta, [np.column_stack([y, np.ones(200)]), np.empty((200, 0))])
    (found,) = crossed_resolution(beside, draws, ["a"])
    assert found.evidence > LEAST
    draws[::3, 0], draws[1::3] = np.nan, np.inf
    (found,) = crossed_resolution(Simulated(theta, [y]), draws, ["a"])
    assert np.isfinite([*found.log_e, found.factor]).all()


def test_skewed_positive_parameters_are_compared_as_logarithms() -> None:
    """theta log-normal over four decades, log y = log theta + noise: windows of a few rows span the tail."""
    rng = np.random.default_rng(9)
    log_theta = 2 * rng.standard_normal((800, 1))
    y = log_theta + 1e-3 * rng.standard_normal(log_theta.shape)
    draws = np.exp(y[:, None] + 0.1 * rng.standard_normal((800, 32, 1)))
    (found,) = crossed_resolution(Simulated(np.exp(log_theta), [y]), draws, ["a"])
    assert found.bets == 1
    assert found.factor > 30
