"""The two tasks with differential equations: the solver, SIR and Lotka-Volterra against SciPy's adaptive
solver.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.stats import kstest, norm

from simulators import lotka_volterra as predators
from simulators import sir as epidemic
from simulators.lotka_volterra import log_populations, lotka_volterra, lotka_volterra_log_likelihood
from simulators.runge_kutta import trajectories
from simulators.sir import infected_share, sir, sir_log_likelihood

F = NDArray[np.float64]
RNG = np.random.default_rng(0)


def scipy_share(theta: F) -> F:
    """I / N, by persons."""

    def slope(_: float, state: F) -> list[float]:
        newly = theta[0] * state[0] * state[1] / 1e6
        return [-newly, newly - theta[1] * state[1]]

    found = solve_ivp(slope, (0, 153), [1e6 - 1, 1], "DOP853", np.arange(10) * 17.0, rtol=1e-10, atol=1e-12)
    return np.asarray(found.y[1] / 1e6)


def scipy_log_populations(theta: F) -> F:
    """log X and log Y, integrated as logs, so that deep troughs keep their digits."""

    def slope(_: float, state: F) -> list[float]:
        return [theta[0] - theta[1] * np.exp(state[1]), theta[3] * np.exp(state[0]) - theta[2]]

    found = solve_ivp(slope, (0, 19), [np.log(30), 0], "DOP853", np.arange(10) * 2.1, rtol=1e-10, atol=1e-10)
    return np.clip(found.y.ravel(), np.log(1e-10), np.log(1e4))


def test_the_solver_is_of_fourth_order() -> None:
    """A pendulum on the unit circle: halving the step divides the error by 16, as far as rounding lets it be
    seen.
    """

    def slope(state: F) -> F:
        return np.stack([state[1], -state[0]])

    times = np.array([0.0, 1.0, 2.5])
    wanted = np.stack([np.cos(times), -np.sin(times)], axis=1)[:, :, None]
    errors = [
        np.abs(trajectories(slope, np.array([[1.0], [0.0]]), times, step) - wanted).max()
        for step in (0.1, 0.05, 0.025)
    ]
    assert errors[0] < 1e-5
    np.testing.assert_allclose(np.array(errors[:2]) / errors[1:], 16, rtol=0.1)


def test_a_row_of_the_solver_that_blows_up_is_nan_and_spares_the_others() -> None:
    """u' = u^2 from 1 is infinite at time 1."""
    path = trajectories(lambda u: u**2, np.array([[1.0, -1.0]]), np.array([0.0, 2.0, 3.0]), 0.01)
    assert np.isnan(path[:, 0, 0]).all()
    np.testing.assert_allclose(path[:, 0, 1], [-1, -1 / 3, -1 / 4], rtol=1e-6)


def test_the_epidemic_is_that_of_an_adaptive_solver() -> None:
    """60 draws of the prior, and its far corners: errors below 2e-5 in I / N and 0.002 of the binomial
    noise.
    """
    corners = np.exp(
        np.log([0.4, 0.125]) + 3.5 * np.array([[0.5, 0.2], [0.5, -0.2], [-0.5, 0.2], [-0.5, -0.2]])
    )
    theta = np.concatenate([sir.prior.sample(60, np.random.default_rng(1)), corners])
    wanted = np.array([scipy_share(row) for row in theta])
    error = np.abs(infected_share(sir.prior.as_mapping(theta)) - wanted)
    assert error.max() < 2e-5
    assert (error / np.sqrt(np.maximum(wanted, 1e-9) / 1000)).max() < 2e-3


def test_predators_and_prey_are_those_of_an_adaptive_solver() -> None:
    """60 draws of the prior, and far corners: errors of a log population below 1e-4, where the noise is
    0.1.
    """
    directions = np.array(
        [[1, 1, 1, 1], [1, -1, 1, -1], [-1, 1, -1, 1], [-1, -1, -1, -1], [1, -1, -1, 1], [1, 1, -1, -1]]
    )
    centre = np.array([-0.125, -3, -0.125, -3])
    theta = np.concatenate(
        [lotka_volterra.prior.sample(60, np.random.default_rng(2)), np.exp(centre + 1.5 * 0.5 * directions)]
    )
    wanted = np.array([scipy_log_populations(row) for row in theta])
    error = np.abs(log_populations(lotka_volterra.prior.as_mapping(theta)) - wanted)
    assert error.max() < 1e-4


def test_counts_of_the_epidemic_are_binomial() -> None:
    """Means and dispersions of 4,000 series, z-scores below 5: false alarm rate 6e-7 each."""
    theta, n = np.array([0.3, 0.12]), 4000
    counts = sir.run(np.repeat([theta], n, axis=0), np.random.default_rng(3)).astype(np.float64)
    p = scipy_share(theta)
    np.testing.assert_array_equal(counts, np.round(counts))
    variance = 1000 * p * (1 - p)
    large = variance > 0.02
    assert large.sum() >= 6
    assert (np.abs(counts.mean(axis=0) - 1000 * p)[large] < 5 * np.sqrt(variance[large] / n)).all()
    dispersion = counts[:, large].var(axis=0) / variance[large]
    assert (np.abs(dispersion - 1) < 5 * np.sqrt((2 + 1 / variance[large]) / n)).all()
    assert np.abs(np.corrcoef(counts[:, large].T)[np.triu_indices(large.sum(), 1)]).max() < 5 / np.sqrt(n)


def test_the_noise_of_both_species_is_log_normal() -> None:
    """Log residuals of 2,000 series are normal with sd 0.1 and uncorrelated: false alarm rate 1e-6 each."""
    theta, n = np.array([0.9, 0.05, 0.8, 0.06]), 2000
    y = lotka_volterra.run(np.repeat([theta], n, axis=0), np.random.default_rng(4))
    residuals = (np.log(y) - scipy_log_populations(theta)) / 0.1
    assert all(kstest(column, norm.cdf).pvalue > 1e-6 for column in residuals.T)
    assert np.abs(np.corrcoef(residuals.T)[np.triu_indices(20, 1)]).max() < 5.5 / np.sqrt(n)


def test_the_likelihood_of_the_epidemic_is_binomial() -> None:
    theta = np.array([[0.5, 0.12], [0.7, 0.1], [0.2, 0.15]])
    y = np.array([0.0, 0, 3, 60, 240, 170, 50, 12, 3, 1])
    wanted = [
        sum(
            math.log(math.comb(1000, int(k))) + k * math.log(p) + (1000 - k) * math.log1p(-p)
            for k, p in zip(y, scipy_share(row), strict=True)
        )
        for row in theta
    ]
    np.testing.assert_allclose(sir_log_likelihood(sir.prior.as_mapping(theta), y, RNG), wanted, rtol=1e-4)
    impossible = sir_log_likelihood(sir.prior.as_mapping(theta), np.r_[y[:9], 1001.0], RNG)
    assert (impossible == -np.inf).all()


def test_the_likelihood_of_predators_and_prey_is_log_normal() -> None:
    theta = np.array([[0.9, 0.05, 0.8, 0.06], [0.7, 0.04, 0.9, 0.05]])
    y = np.exp(scipy_log_populations(theta[0]) + 0.1 * np.random.default_rng(5).normal(size=20))
    wanted = [
        sum(
            -0.5 * ((math.log(v) - m) / 0.1) ** 2 - math.log(0.1 * v * math.sqrt(2 * math.pi))
            for v, m in zip(y, middle, strict=True)
        )
        for middle in map(scipy_log_populations, theta)
    ]
    mapping = lotka_volterra.prior.as_mapping(theta)
    np.testing.assert_allclose(lotka_volterra_log_likelihood(mapping, y, RNG), wanted, rtol=1e-4)
    assert (lotka_volterra_log_likelihood(mapping, np.r_[y[:19], 0.0], RNG) == -np.inf).all()


@pytest.mark.parametrize("value", [1e6, 1e150, 1e308])
def test_absurd_rates_give_nan_without_a_warning_and_spare_the_other_rows(value: float) -> None:
    """From a proposal far outside the prior; the likelihood is then zero."""
    for simulator, centre in ((sir, [0.4, 0.125]), (lotka_volterra, [0.9, 0.05, 0.9, 0.05])):
        theta = np.array([centre, centre])
        theta[1, -1] = value
        y = simulator.run(theta, np.random.default_rng(6))
        assert np.isnan(y[1]).all()
        assert np.isfinite(y[0]).all()
        assert simulator.log_likelihood is not None
        values = simulator.log_likelihood(simulator.prior.as_mapping(theta), simulator.data("1"), RNG)
        assert np.isfinite(values[0])
        assert values[1] == -np.inf


@pytest.mark.parametrize("value", [1e-300, 1e-8])
def test_vanishing_rates_give_finite_data(value: float) -> None:
    for simulator in (sir, lotka_volterra):
        assert np.isfinite(
            simulator.run(np.full((2, simulator.prior.d), value), np.random.default_rng(7))
        ).all()


def test_the_populations_are_held_between_their_bounds() -> None:
    """Prey without predators' appetite grow to e^40; predators that starve sink to e^-40."""
    theta = {
        "alpha": np.array([2.0]),
        "beta": np.array([1e-12]),
        "gamma": np.array([2.0]),
        "delta": np.array([1e-20]),
    }
    logs = log_populations(theta)[0]
    np.testing.assert_allclose(logs[[9, 19]], [np.log(1e4), np.log(1e-10)])


def test_times_are_those_published() -> None:
    np.testing.assert_allclose(epidemic.TIMES, [0, 17, 34, 51, 68, 85, 102, 119, 136, 153])
    np.testing.assert_allclose(predators.TIMES, np.linspace(0, 18.9, 10))
