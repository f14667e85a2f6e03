"""Rejection ABC against its limits in closed form, and what it must refuse."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, norm, uniform

import sbi_flows as sf
from sbi_flows.baselines.adjustment import ADJUSTMENTS
from sbi_flows.errors import (
    ObservationError,
    SettingsError,
    ShapeError,
    SimulatorContractError,
    TooFewSimulationsError,
)
from simulators.gaussian import make_gaussian, posterior_moments


def toy(d: int, n: int) -> tuple[sf.Simulator, sf.Simulations]:
    simulator = make_gaussian(d)
    return simulator, sf.simulate(simulator, n, seed=1)


def test_in_one_dimension_a_small_tolerance_gives_the_exact_posterior() -> None:
    """2,000 accepted of 200,000: Kolmogorov-Smirnov p > 1e-4 against the closed form."""
    simulator, simulations = toy(1, 200_000)
    draws = sf.rejection_abc(simulator, [0.7], simulations=simulations, quantile=0.01)
    mean, covariance = posterior_moments(np.array([0.7]))
    assert len(draws) == 2000
    assert kstest(draws["theta_1"], norm(mean[0], np.sqrt(covariance[0, 0])).cdf).pvalue > 1e-4


def test_plain_rejection_is_too_wide_in_ten_dimensions_and_the_adjustment_corrects_it() -> None:
    simulator, simulations = toy(10, 50_000)
    y = np.ones(10)
    mean, covariance = posterior_moments(y)
    plain = sf.rejection_abc(simulator, y, simulations=simulations, quantile=0.02)
    adjusted = sf.rejection_abc(simulator, y, simulations=simulations, quantile=0.02, adjust="linear")
    sd = np.sqrt(np.diag(covariance))
    assert (plain.summary()["sd"].to_numpy() / sd).min() > 1.05
    ratio = adjusted.summary()["sd"].to_numpy() / sd
    assert (np.abs(ratio - 1) < 0.15).all()
    assert np.abs((adjusted.summary()["mean"].to_numpy() - mean) / sd).max() < 0.2


def test_the_accepted_are_the_nearest_on_scaled_summaries() -> None:
    simulator, simulations = toy(2, 1000)
    y = np.array([0.3, -0.2])
    draws = sf.rejection_abc(simulator, y, simulations=simulations, quantile=0.05)
    mad = np.median(np.abs(simulations.y - np.median(simulations.y, axis=0)), axis=0)
    distance = np.linalg.norm((simulations.y - y) / mad, axis=1)
    nearest = np.argsort(distance)[:50]
    assert {tuple(row) for row in draws.values} == {tuple(row) for row in simulations.theta[nearest]}
    assert draws.facts["tolerance"] == pytest.approx(np.sort(distance)[49])
    assert draws.facts["accepted"] == 50


def test_adjusted_draws_stay_inside_the_prior_and_carry_epanechnikov_weights() -> None:
    @sf.simulator(sf.Prior(a=uniform(0, 1)), event_shape=(2,))
    def edge(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return theta["a"][:, None] + 0.3 * rng.standard_normal((len(theta["a"]), 2))

    simulations = sf.simulate(edge, 20_000, seed=1)
    draws = sf.rejection_abc(edge, [1.3, 1.2], simulations=simulations, quantile=0.05, adjust="linear")
    assert edge.prior.inside(draws.values).all()
    assert draws.weights is not None
    assert draws.weights.sum() == pytest.approx(1)
    assert draws.weights[0] > draws.weights[-1] >= 0
    assert draws.ess < len(draws)
    assert set(draws.to_numpy().ravel()) <= set(draws.values.ravel())


def test_failed_rows_and_useless_summaries_are_left_out_and_named() -> None:
    def summaries(y: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.column_stack([y[:, 0], np.ones(len(y)), np.where(y[:, 0] > 2, np.nan, y[:, 1])])

    @sf.simulator(sf.Prior(a=norm(0, 1)), event_shape=(2,), summaries=summaries)
    def partial(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        y = theta["a"][:, None] + 0.3 * rng.standard_normal((len(theta["a"]), 2))
        y[theta["a"] < -2] = np.nan
        return y

    simulations = sf.simulate(partial, 5000, seed=1)
    draws = sf.rejection_abc(partial, [0.5, 0.5], simulations=simulations, quantile=0.05)
    assert draws.facts["simulations"] == 5000
    usable = simulations.flat_y[simulations.ok]
    failed, lost = 5000 - len(usable), int((usable[:, 0] > 2).sum())
    assert f"{failed} simulations that failed" in draws.facts["left_out"]
    assert f"{lost} simulations with summaries" in draws.facts["left_out"]
    assert "1 summaries" in draws.facts["left_out"]
    assert draws.facts["summaries"] == 2


def test_an_observation_far_from_all_simulations_is_not_to_be_trusted() -> None:
    simulator, simulations = toy(2, 5000)
    assert sf.rejection_abc(simulator, [0.1, 0.2], simulations=simulations, quantile=0.02).verdict.ok
    far = sf.rejection_abc(simulator, [50.0, 0.2], simulations=simulations, quantile=0.02).verdict
    assert far.level == "do not trust"
    assert far.quantile == 1


def test_wrong_input_is_refused() -> None:
    simulator, simulations = toy(2, 1000)
    with pytest.raises(SettingsError, match="quantile .* got 0"):
        sf.rejection_abc(simulator, [0, 0], simulations=simulations, quantile=0)
    with pytest.raises(SettingsError, match="cubic"):
        sf.rejection_abc(simulator, [0, 0], simulations=simulations, adjust="cubic")  # type: ignore[arg-type]
    with pytest.raises(TooFewSimulationsError, match="10 of 1,000"):
        sf.rejection_abc(simulator, [0, 0], simulations=simulations, quantile=0.01)
    with pytest.raises(ShapeError, match=r"\(3,\)"):
        sf.rejection_abc(simulator, [0, 0, 0], simulations=simulations, quantile=0.1)
    with pytest.raises(ShapeError, match="Simulate again"):
        sf.rejection_abc(make_gaussian(3), [0, 0, 0], simulations=simulations, quantile=0.1)


def test_accepting_everything_is_the_prior_and_not_trusted() -> None:
    simulator = make_gaussian(2)
    simulations = sf.simulate(simulator, 1000, seed=1)

    def level(entry: float, quantile: float) -> str:
        y = [entry, entry]
        return sf.rejection_abc(simulator, y, simulations=simulations, quantile=quantile).verdict.level

    assert level(0.1, 1) == "do not trust"
    assert level(0.1, 0.1) == "trust"
    assert level(900.0, 0.6) == "do not trust"


@pytest.mark.parametrize(("quantile", "level"), [(0.05, "trust"), (0.19, "trust"), (0.4, "caution")])
def test_accepting_a_large_share_is_no_more_than_caution(quantile: float, level: str) -> None:
    simulator = make_gaussian(2)
    simulations = sf.simulate(simulator, 5000, seed=1)
    verdict = sf.rejection_abc(simulator, [0.1, 0.2], simulations=simulations, quantile=quantile).verdict
    assert verdict.level == level
    assert ("Simulate more" in verdict.text) == (level == "caution")


def test_epsilon_accepts_all_within_it_and_nearest_as_many_as_asked() -> None:
    simulator, simulations = toy(2, 5000)
    y = np.array([0.3, -0.2])
    all_of_them = sf.rejection_abc(simulator, y, simulations=simulations, quantile=1.0)
    mad = np.median(np.abs(simulations.y[:2500] - np.median(simulations.y[:2500], axis=0)), axis=0)
    near = sf.rejection_abc(simulator, y, simulations=simulations, nearest=77)
    assert len(near) == near.facts["accepted"] == 77
    within = sf.rejection_abc(simulator, y, simulations=simulations, epsilon=near.facts["tolerance"])
    assert within.values.tobytes() == near.values.tobytes() == all_of_them.values[:77].tobytes()
    assert near.facts["tolerance"] == pytest.approx(
        np.sort(np.linalg.norm((simulations.y - y) / mad, axis=1))[76], rel=0.1
    )
    wide = sf.rejection_abc(simulator, y, simulations=simulations, epsilon=0.5, adjust="linear")
    assert wide.facts["tolerance"] == 0.5
    assert wide.weights is not None
    assert wide.weights[-1] > 0


def test_rules_of_acceptance_that_cannot_be_used_are_refused() -> None:
    simulator, simulations = toy(2, 1000)
    with pytest.raises(SettingsError, match="quantile and epsilon"):
        sf.rejection_abc(simulator, [0, 0], simulations=simulations, quantile=0.1, epsilon=1.0)
    for wrong in (0, -1.0, float("inf"), float("nan"), "1", True):
        with pytest.raises(SettingsError, match="epsilon must be"):
            sf.rejection_abc(simulator, [0, 0], simulations=simulations, epsilon=wrong)  # type: ignore[arg-type]
    for bad in (0, 2.5, "many", True):
        with pytest.raises(SettingsError, match="nearest must be"):
            sf.rejection_abc(simulator, [0, 0], simulations=simulations, nearest=bad)  # type: ignore[arg-type]
    with pytest.raises(TooFewSimulationsError, match="1,000 simulations"):
        sf.rejection_abc(simulator, [0, 0], simulations=simulations, nearest=2000)
    with pytest.raises(TooFewSimulationsError, match="an epsilon of 0.001 accepts 0 of 1,000") as said:
        sf.rejection_abc(simulator, [0, 0], simulations=simulations, epsilon=0.001)
    enough = float(str(said.value).split("about ")[1].split()[0])
    assert len(sf.rejection_abc(simulator, [0, 0], simulations=simulations, epsilon=1.5 * enough)) >= 20


def test_a_summary_that_varies_in_few_simulations_alone_still_counts() -> None:
    """Of 20,000 simulations 4 are not 0 there, none of them in the sample that gives the units."""
    rng = np.random.default_rng(1)
    theta = rng.standard_normal((20_000, 1))
    y = np.column_stack([theta + 0.1 * rng.standard_normal(theta.shape), np.zeros(20_000)])
    y[[3, 5000, 10_001, 19_999], 1] = 1.0
    simulations = sf.Simulations.from_arrays(sf.Prior(a=norm(0, 1)), theta, y)
    draws = sf.rejection_abc(y_obs=[0.0, 0.0], simulations=simulations)
    assert draws.facts["summaries"] == 2
    assert draws.facts["left_out"] == ""


def test_data_of_which_nothing_varies_are_refused() -> None:
    theta = np.random.default_rng(1).standard_normal((500, 1))
    simulations = sf.Simulations.from_arrays(sf.Prior(a=norm(0, 1)), theta, np.ones((500, 2)))
    with pytest.raises(SimulatorContractError, match="none of the summaries varies"):
        sf.rejection_abc(y_obs=[1.0, 1.0], simulations=simulations, quantile=0.1)


def test_an_observation_without_finite_summaries_is_refused() -> None:
    @sf.simulator(sf.Prior(a=norm(0, 1)), event_shape=(1,), summaries=lambda y: np.log(np.maximum(y, 0)))
    def logs(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return np.exp(theta["a"][:, None])

    simulations = sf.simulate(logs, 500, seed=1)
    with np.errstate(divide="ignore"), pytest.raises(ObservationError, match="1 of the 1 summaries"):
        sf.rejection_abc(logs, [-1.0], simulations=simulations, quantile=0.1)


def test_failed_simulations_are_counted() -> None:
    @sf.simulator(sf.Prior(a=norm(0, 1)), event_shape=(1,))
    def failing(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        y = theta["a"][:, None] + 0.3 * rng.standard_normal((len(theta["a"]), 1))
        y[rng.random(len(y)) < 0.04] = np.nan
        return y

    simulations = sf.simulate(failing, 5000, seed=1)
    failed = 5000 - int(simulations.ok.sum())
    draws = sf.rejection_abc(failing, [0.3], simulations=simulations)
    assert draws.facts["simulations"] == 5000
    assert f"{failed} simulations that failed" in draws.facts["left_out"]


def test_a_wrong_posterior_is_told_from_that_of_abc() -> None:
    """Kolmogorov-Smirnov at 1e-4, 2,000 draws: the exact posterior passes, one 1.3 times as wide, one as
    narrow, and one 0.2 sd away do not.
    """
    simulator, simulations = toy(1, 200_000)
    mean, covariance = posterior_moments(np.array([0.7]))
    sd = float(np.sqrt(covariance[0, 0]))
    for adjust in ADJUSTMENTS:
        draws = sf.rejection_abc(simulator, [0.7], simulations=simulations, quantile=0.01, adjust=adjust)
        values = draws.to_numpy()[:, 0]

        def p(shift: float, times: float, values: np.ndarray = values) -> float:
            return float(kstest(np.unique(values), norm(mean[0] + shift * sd, times * sd).cdf).pvalue)

        assert p(0, 1) > 1e-4
        assert max(p(0, 1.3), p(0, 1 / 1.3), p(0.2, 1)) < 1e-4
