"""Regression adjustment: towards the exact posterior, and each regression against what it estimates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.baselines.adjustment import ADJUSTMENTS, Adjustment, adjusted, epanechnikov
from sbi_flows.baselines.networks import fit_networks
from sbi_flows.baselines.regression import fit_linear, fit_ridge
from sbi_flows.errors import ObservationError, TooFewSimulationsError
from simulators.gaussian import make_gaussian, posterior_moments

GAUSSIAN = make_gaussian(2)
Y = np.array([0.8, -0.5])


@pytest.fixture(scope="module")
def simulations() -> sf.Simulations:
    return sf.simulate(GAUSSIAN, 40_000, seed=1)


def off(simulations: sf.Simulations, quantile: float, adjust: Adjustment | None) -> tuple[float, float]:
    """Of the worst parameter: the error of the mean in exact sd, and |sd / exact sd - 1|."""
    mean, covariance = posterior_moments(Y)
    sd = np.sqrt(np.diag(covariance))
    found = sf.rejection_abc(GAUSSIAN, Y, simulations=simulations, quantile=quantile, adjust=adjust).summary()
    errors = np.abs(found["mean"].to_numpy() - mean) / sd
    return float(errors.max()), float(np.abs(found["sd"].to_numpy() / sd - 1).max())


def test_plain_draws_come_nearer_to_the_exact_posterior_as_the_tolerance_falls(
    simulations: sf.Simulations,
) -> None:
    """From a bias of 0.6 and 0.3 sd to what 400 draws leave: 5 standard errors are 0.25 and 0.18."""
    coarse, fine = off(simulations, 0.5, None), off(simulations, 0.01, None)
    assert coarse[0] > 0.3
    assert coarse[1] > 0.2
    assert fine[0] < 0.25
    assert fine[1] < 0.18


@pytest.mark.parametrize("adjust", ADJUSTMENTS)
def test_an_adjustment_is_nearer_at_a_coarse_tolerance_than_plain_draws(
    simulations: sf.Simulations, adjust: Adjustment
) -> None:
    """Exact here is linear with one sd: 5 standard errors of 4,000 draws with weights are 0.09 and 0.06."""
    mean, sd = off(simulations, 0.1, adjust)
    assert mean < 0.09
    assert sd < 0.08


@pytest.mark.slow
def test_the_neural_adjustment_follows_a_spread_that_changes_with_the_data() -> None:
    """y = a + exp(a) e / 2, at y = -1.5 and the nearest half: linear draws keep the average spread."""

    @sf.simulator(sf.Prior(a=norm(0, 1)), event_shape=(1,))
    def widening(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return (theta["a"] + 0.5 * np.exp(theta["a"]) * rng.standard_normal(len(theta["a"])))[:, None]

    bank = sf.simulate(widening, 10_000, seed=1)
    grid = np.linspace(-6, 6, 4001)
    for y in (1.0, -0.5):
        weight = norm.pdf(grid) * norm.pdf(y, grid, 0.5 * np.exp(grid))
        weight /= weight.sum()
        mean = weight @ grid
        sd = np.sqrt(weight @ np.square(grid - mean))

        def error(adjust: Adjustment, at: float = y, wanted: float = sd) -> float:
            found = sf.rejection_abc(widening, [at], simulations=bank, quantile=0.5, adjust=adjust)
            return abs(float(found.summary()["sd"].iloc[0]) / wanted - 1)

        assert error("neural") < 0.08
        assert error("linear") > error("neural")


@pytest.mark.parametrize("adjust", ADJUSTMENTS)
def test_adjusted_draws_stay_inside_the_prior_and_are_the_same_bytes_again(adjust: Adjustment) -> None:
    rng = np.random.default_rng(1)
    prior = sf.Prior(a=uniform(0, 1))
    theta = rng.uniform(size=(300, 1))
    offsets = theta - 1.2 + 0.1 * rng.standard_normal((300, 1))
    distances = np.abs(offsets[:, 0])
    kernel = epanechnikov(distances, float(distances.max()))
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    one, two = (adjusted(prior, theta, offsets, kernel, adjust, 3) for _ in range(2))
    assert prior.inside(one).all()
    assert one.tobytes() == two.tobytes()
    assert (np.random.get_state()[1] == before).all()  # type: ignore[union-attr]


def test_ridge_is_least_squares_where_that_is_sure_and_stays_near_the_mean_where_it_is_not() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2000, 3))
    z = x @ np.array([[1.0], [-2], [0]]) + 0.1 * rng.standard_normal((2000, 1))
    weights = rng.uniform(size=2000)
    exact, found = fit_linear(x, z, weights), fit_ridge(x, z, weights)
    assert found.coefficients == pytest.approx(exact.coefficients, abs=1e-3)
    many, noise = rng.standard_normal((60, 50)), rng.standard_normal((60, 1))
    even = np.ones(60)
    assert np.abs(fit_ridge(many, noise, even).coefficients).max() < 0.3
    assert np.abs(fit_linear(many, noise, even).coefficients).max() > 0.3


def test_ridge_takes_equal_and_constant_columns() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((500, 1))
    found = fit_ridge(np.column_stack([x, x, np.ones(500)]), 2 * x, np.ones(500))
    assert found.coefficients[:, 0] == pytest.approx([1, 1, 0], abs=1e-3)


@pytest.mark.slow
def test_networks_learn_a_curved_mean_and_the_spread() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(-2, 2, (3000, 1))
    sd = np.exp(0.5 * x)
    z = np.square(x) + sd * rng.standard_normal((3000, 1))
    networks = fit_networks(x, z, np.ones(3000), 1, members=2, spreads=True)
    at = np.array([[-1.0], [0], [1]])
    mean, log_sd = networks(at)
    assert mean[:, 0] == pytest.approx([1, 0, 1], abs=0.3)
    assert log_sd[:, 0] == pytest.approx([-0.5, 0, 0.5], abs=0.25)


def test_what_cannot_be_adjusted_is_said() -> None:
    with pytest.raises(ObservationError, match="adjust=None"):
        epanechnikov(np.full(20, np.inf), np.inf)
    with pytest.raises(ObservationError, match="adjust=None"):
        epanechnikov(np.ones(20), 1.0)
    bank = sf.simulate(GAUSSIAN, 1000, seed=1)
    with pytest.raises(TooFewSimulationsError, match="100 are needed"):
        sf.rejection_abc(GAUSSIAN, Y, simulations=bank, nearest=60, adjust="neural")
