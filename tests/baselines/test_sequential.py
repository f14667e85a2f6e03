"""SMC-ABC and population Monte Carlo ABC: generations, regions, reasons to stop, options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.baselines.distance import Distance
from sbi_flows.baselines.region import Region
from sbi_flows.errors import SettingsError, TooFewSimulationsError
from simulators.gaussian import make_gaussian, posterior_moments

BOTH = pytest.mark.parametrize("method", ["smc", "pmc"])


def run(method: str, simulator: sf.Simulator, y: Any, n: int, seed: int = 1, **settings: Any) -> sf.Draws:
    given = sf.ABCSettings(**settings)
    return sf.abc(simulator, y, method=method, n_simulations=n, seed=seed, settings=given)  # type: ignore[arg-type]


@BOTH
@pytest.mark.parametrize("distance", ["adaptive", "fixed"])
def test_the_tolerance_falls_and_the_records_agree_with_the_draws(method: str, distance: str) -> None:
    draws = run(method, make_gaussian(2), [0.2, 0.6], 12_000, particles=300, distance=distance)
    records = draws.facts["generations"]
    tolerances = [row["relative_tolerance"] for row in records]
    assert len(records) > 3
    assert all(np.diff(tolerances) < 0)
    assert [row["generation"] for row in records] == list(range(len(records)))
    assert all(np.diff([row["simulations"] for row in records]) > 0)
    assert all(0 < row["acceptance"] <= 1 for row in records)
    assert records[-1]["ess"] == pytest.approx(draws.ess)
    assert records[-1]["distinct"] == len(draws)
    if distance == "fixed":
        assert tolerances == [row["tolerance"] for row in records]


@BOTH
def test_the_variance_converges_with_the_tolerance(method: str) -> None:
    """At a fixed tolerance: too wide by what the tolerance adds, and less of it at a quarter of that."""
    y = np.array([0.4])
    _, covariance = posterior_moments(y)
    excess = []
    for epsilon in (1.6, 0.4):
        draws = run(method, make_gaussian(1), y, 60_000, particles=1000, distance="fixed", epsilon=epsilon)
        assert draws.facts["stopped"].kind == "tolerance reached"
        assert draws.facts["tolerance"] == epsilon
        excess.append(draws.summary()["sd"].iloc[0] / np.sqrt(covariance[0, 0]) - 1)
    assert excess[0] > 0.2
    assert abs(excess[1]) < 0.12


@BOTH
def test_two_modes_are_both_kept(method: str) -> None:
    """y = a^2 + noise: the share of positive draws is 1/2, within 4.5 errors."""

    @sf.simulator(sf.Prior(a=norm(0, 2)), event_shape=(1,))
    def square(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return theta["a"][:, None] ** 2 + 0.2 * rng.standard_normal((len(theta["a"]), 1))

    draws = run(method, square, [4.0], 15_000, particles=500)
    assert draws.weights is not None
    share = float(draws.weights @ (draws.values[:, 0] > 0))
    assert abs(share - 0.5) < 4.5 * 0.5 / np.sqrt(draws.ess)
    assert abs(np.abs(draws.values[:, 0]) - 2).mean() < 0.2


@BOTH
def test_discrete_data_that_are_met_end_the_run(method: str) -> None:
    """Poisson counts with a Gamma posterior: y = 3 of a rate in (0, 10)."""

    @sf.simulator(sf.Prior(rate=uniform(0, 10)), event_shape=(1,))
    def counts(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return rng.poisson(theta["rate"][:, None], (len(theta["rate"]), 1)).astype(float)

    draws = run(method, counts, [3], 60_000, particles=1000)
    assert draws.facts["stopped"].kind in ("data met", "tolerance stays")
    assert draws.facts["tolerance"] == 0
    mean, sd = 4.0, 2.0  # of Gamma(4, 1), but for the cut at 10
    assert abs(draws.summary()["mean"].iloc[0] - mean) < 0.1 + 4.5 * sd / np.sqrt(draws.ess)


@BOTH
def test_a_low_acceptance_rate_ends_the_run_with_the_generation_before(method: str) -> None:
    draws = run(method, make_gaussian(2), [0.2, 0.6], 50_000, particles=200, least_acceptance=0.2)
    stopped = draws.facts["stopped"]
    assert stopped.kind == "acceptance too low"
    assert stopped.values["dropped"] == len(draws.facts["generations"])
    assert draws.facts["simulations"] < 50_000


def test_several_data_sets_at_each_particle() -> None:
    y = np.array([0.4])
    mean, covariance = posterior_moments(y)
    draws = run("smc", make_gaussian(1), y, 60_000, particles=300, data_sets=5)
    sd = float(np.sqrt(covariance[0, 0]))
    assert abs(draws.summary()["mean"].iloc[0] - mean[0]) < (0.06 + 4.5 / np.sqrt(draws.ess)) * sd
    assert draws.facts["simulations"] <= 60_000


def test_pmc_completes_a_generation_with_the_simulations_that_are_left() -> None:
    """The last record ends at the budget, and no generation is said to be dropped."""
    found = [run("pmc", make_gaussian(1), [0.4], n, particles=200) for n in range(3_000, 5_000, 250)]
    cut = [draws for draws in found if draws.facts["stopped"].values["dropped"] is None]
    assert cut
    assert all(draws.facts["generations"][-1]["simulations"] == draws.facts["simulations"] for draws in cut)


def test_a_region_is_the_part_inside_all_of_its_tolerances() -> None:
    target = np.zeros(2)
    wide, tall = Distance(target, np.array([2.0, 1.0])), Distance(target, np.array([1.0, 2.0]))
    region = Region().within(wide, 1.0).within(tall, 1.0)
    rows = np.array([[0.9, 0.1], [1.5, 0.0], [0.0, 1.5], [np.nan, 0.0]])
    assert region.inside(rows).tolist() == [True, False, False, False]
    assert region.within(tall, 0.5).tolerances == (1.0, 0.5)
    assert Region().inside(rows).tolist() == [True, True, True, False]
    again = Region.of(region.arrays(), target)
    assert again.inside(rows).tolist() == region.inside(rows).tolist()


@BOTH
def test_gaps_of_the_observation_are_left_out_of_the_simulations(method: str) -> None:
    draws = run(method, make_gaussian(2), [np.nan, 0.6], 6_000, particles=200)
    assert draws.facts["summaries"] == 1
    assert np.isfinite(draws.values).all()


@BOTH
def test_adjusted_particles_are_nearer_to_the_posterior(method: str) -> None:
    """At a tolerance that widens the posterior by half, a linear adjustment, exact here, takes that back."""
    y = np.array([0.4])
    mean, covariance = posterior_moments(y)
    sd = float(np.sqrt(covariance[0, 0]))
    given = {"particles": 1000, "distance": "fixed", "epsilon": 1.6}
    plain = run(method, make_gaussian(1), y, 30_000, **given)
    moved = run(method, make_gaussian(1), y, 30_000, adjust="linear", **given)
    assert moved.origin.endswith("linear adjustment")
    assert plain.summary()["sd"].iloc[0] / sd > 1.2
    found = moved.summary().iloc[0]
    assert abs(found["sd"] / sd - 1) < 0.05 + 4.5 / np.sqrt(2 * moved.ess)
    assert abs(found["mean"] - mean[0]) < (0.05 + 4.5 / np.sqrt(moved.ess)) * sd
    assert moved.weights is not None
    assert moved.weights.sum() == pytest.approx(1)


def test_an_adjustment_of_several_data_sets_or_few_particles_is_refused() -> None:
    with pytest.raises(SettingsError, match="data_sets=1"):
        run("smc", make_gaussian(1), [0.4], 5_000, adjust="linear", data_sets=2)
    with pytest.raises(TooFewSimulationsError, match="neural adjustment needs 100"):
        run("smc", make_gaussian(1), [0.4], 2_000, adjust="neural", particles=30)
