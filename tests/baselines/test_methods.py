"""What every method of `sf.abc` promises."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.baselines.settings import BELONGS, METHODS
from sbi_flows.errors import (
    BankMismatchError,
    ObservationError,
    SettingsError,
    SimulationWarning,
    TooManyFailuresError,
)
from simulators.gaussian import make_gaussian, posterior_moments

BUDGET = {"rejection": 20_000, "smc": 15_000, "pmc": 15_000, "synthetic_likelihood": 60_000}
SMALL = {"rejection": 2_000, "smc": 2_500, "pmc": 2_500, "synthetic_likelihood": 7_000}
QUICK = {"synthetic_likelihood": sf.ABCSettings(pilot=200)}
AGAIN = [method for method in METHODS if method != "rejection"]
Theta = dict[str, np.ndarray]


@sf.simulator(sf.Prior(a=uniform(0, 1), b=norm(0, 1)), event_shape=(2,))
def edge(theta: Theta, rng: np.random.Generator) -> np.ndarray:
    """The posterior of a lies against the end of its prior."""
    return np.stack([theta["a"], theta["b"]], axis=1) + 0.3 * rng.standard_normal((len(theta["a"]), 2))


@sf.simulator(sf.Prior(a=uniform(0, 1), b=norm(0, 1)), event_shape=(2,))
def failing(theta: Theta, rng: np.random.Generator) -> np.ndarray:
    """One row in twenty has no value, wherever theta is."""
    y = np.stack([theta["a"], theta["b"]], axis=1) + 0.3 * rng.standard_normal((len(theta["a"]), 2))
    y[rng.random(len(y)) < 0.05, 0] = np.nan
    return y


def quick(method: str, simulator: sf.Simulator = edge, y: Any = (0.9, 0.4), **options: Any) -> sf.Draws:
    given = {"n_simulations": SMALL[method], "seed": 1, "settings": QUICK.get(method), **options}
    return sf.abc(simulator, y, method=method, **given)  # type: ignore[arg-type]


def same(one: sf.Draws, other: sf.Draws) -> bool:
    """Whether two answers are the same bytes; how long they took may differ."""
    facts = [
        {name: value for name, value in draws.facts.items() if name != "seconds"} for draws in (one, other)
    ]
    weights = [b"" if draws.weights is None else draws.weights.tobytes() for draws in (one, other)]
    return (
        one.values.tobytes() == other.values.tobytes()
        and weights[0] == weights[1]
        and one.verdict == other.verdict
        and facts[0] == facts[1]
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_posterior_of_the_toy_is_found(method: str) -> None:
    """Mean within 4.5 of its errors, and 0.06 sd, of the closed form; sd within as much, and 8%."""
    y = np.array([0.7])
    mean, covariance = posterior_moments(y)
    draws = sf.abc(make_gaussian(1), y, method=method, n_simulations=BUDGET[method], seed=2)  # type: ignore[arg-type]
    sd, ess = float(np.sqrt(covariance[0, 0])), float(draws.facts.get("ess", draws.ess))
    found = draws.summary().iloc[0]
    assert abs(found["mean"] - mean[0]) < (0.06 + 4.5 / np.sqrt(ess)) * sd
    assert abs(found["sd"] / sd - 1) < 0.08 + 4.5 / np.sqrt(2 * ess)
    assert draws.facts["simulations"] <= BUDGET[method]


@pytest.mark.parametrize("method", METHODS)
def test_draws_lie_inside_the_prior_and_weights_sum_to_one(method: str) -> None:
    draws = quick(method, y=(1.2, 0.4))
    assert edge.prior.inside(draws.values).all()
    assert draws.names == ("a", "b")
    if draws.weights is not None:
        assert draws.weights.sum() == pytest.approx(1)
        assert (draws.weights >= 0).all()
    assert draws["a"].mean() > 0.6


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_alone_decides_the_draws(method: str) -> None:
    first = quick(method)
    assert same(first, quick(method))
    assert not same(first, quick(method, seed=2))


@pytest.mark.parametrize("observed", [[0.5, 0.4, 5.0, 0.4], [0.5, 0.4, 1.0, 0.8], [90.0, 0.4, 1.0, 0.4]])
@pytest.mark.parametrize("method", METHODS)
def test_data_that_no_simulation_can_give_are_not_trusted(method: str, observed: list[float]) -> None:
    """A column that is always 1, two that are always equal, and a value far away."""

    @sf.simulator(edge.prior, event_shape=(4,))
    def related(theta: Theta, rng: np.random.Generator) -> np.ndarray:
        y = edge.function(theta, rng)
        return np.concatenate([y, np.ones((len(y), 1)), y[:, 1:]], axis=1)

    draws = quick(method, related, observed, n_simulations=1_200 + 2 * SMALL[method])
    assert draws.verdict.level == "do not trust", draws.verdict


@pytest.mark.parametrize("method", ["smc", "synthetic_likelihood"])
def test_workers_do_not_change_the_draws(method: str) -> None:
    settings = sf.ABCSettings(
        simulate=sf.SimulateSettings(block_size=100), **({"pilot": 200} if method != "smc" else {})
    )
    alone, several = (quick(method, settings=settings, workers=workers) for workers in (1, 2))
    assert same(alone, several)
    with ThreadPoolExecutor(2) as executor:
        assert same(alone, quick(method, settings=settings, executor=executor, workers=2))


@pytest.mark.parametrize("method", METHODS)
def test_failed_simulations_are_rejected_counted_and_change_nothing_else(method: str) -> None:
    settings = sf.SimulateSettings(warn_failures=0.01)
    given = sf.ABCSettings(simulate=settings, **({"pilot": 200} if method in QUICK else {}))
    with pytest.warns(SimulationWarning, match="nonfinite"):
        draws = quick(method, failing, n_simulations=2 * SMALL[method], settings=given)
    assert np.isfinite(draws.values).all()
    ess = float(draws.facts.get("ess", draws.ess))
    exact = 0.4 / 1.09
    assert abs(draws.summary().loc["b", "mean"] - exact) < (0.15 + 4.5 / np.sqrt(ess)) * 0.29
    lost, made = draws.facts["failures"]["nonfinite"], draws.facts["simulations"]
    made += lost if method == "rejection" else 0  # where it is those that can be used
    assert set(draws.facts["failures"]) == {"nonfinite"}
    assert abs(lost - 0.05 * made) < 4.5 * np.sqrt(0.05 * 0.95 * made)


@pytest.mark.parametrize("method", METHODS)
def test_too_many_failures_end_the_run(method: str) -> None:
    with pytest.raises(TooManyFailuresError, match="max_failures=0.01"):
        quick(method, failing, max_failures=0.01)


class Stop(Exception):
    pass


@pytest.mark.parametrize("method", AGAIN)
def test_a_run_that_was_stopped_resumes_to_the_same_draws(method: str, tmp_path: Path) -> None:
    whole, calls = quick(method), 0

    def progress(done: int, total: int, text: str) -> None:
        nonlocal calls
        calls += 1
        if calls in (2, 7, 12):
            raise Stop

    for _ in range(3):
        with pytest.raises(Stop):
            quick(method, store=tmp_path / "run", progress=progress)
    assert same(whole, quick(method, store=tmp_path / "run"))
    assert same(whole, quick(method, store=tmp_path / "run"))


@pytest.mark.parametrize("method", AGAIN)
def test_a_store_of_another_run_is_refused(method: str, tmp_path: Path) -> None:
    quick(method, store=tmp_path / "run")
    with pytest.raises(BankMismatchError, match="seed: 1 there, 2 here"):
        quick(method, store=tmp_path / "run", seed=2)
    with pytest.raises(BankMismatchError, match="observed"):
        quick(method, store=tmp_path / "run", y=(0.1, 0.1))


@pytest.mark.parametrize("method", AGAIN)
def test_a_damaged_generation_is_made_again(method: str, tmp_path: Path) -> None:
    whole = quick(method, store=tmp_path / "run")
    last = sorted((tmp_path / "run").glob("*.generation"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.warns(SimulationWarning, match="made again"):
        assert same(whole, quick(method, store=tmp_path / "run"))


@pytest.mark.parametrize("method", ["rejection", "smc", "pmc"])
def test_minutes_end_a_run_inside_a_generation(method: str) -> None:
    minutes = 1 / 300 if method == "rejection" else 1 / 60
    draws = sf.abc(edge, (0.9, 0.4), method=method, minutes=minutes, seed=1)  # type: ignore[arg-type]
    assert edge.prior.inside(draws.values).all()
    assert draws.facts["stopped"].kind == "budget spent"
    assert draws.facts["stopped"].values["what"] == "minutes"


def test_generations_by_the_clock_are_those_by_simulations() -> None:
    particles = sf.ABCSettings(particles=100)
    by_number = sf.abc(edge, (0.9, 0.4), method="smc", n_simulations=100_000, seed=1, settings=particles)
    by_clock = sf.abc(edge, (0.9, 0.4), method="smc", minutes=1 / 60, seed=1, settings=particles)
    common = min(len(draws.facts["generations"]) for draws in (by_number, by_clock)) - 1
    assert by_clock.facts["generations"][:common] == by_number.facts["generations"][:common]


@pytest.mark.parametrize("method", AGAIN)
def test_simulations_that_are_there_stand_for_the_first(method: str) -> None:
    simulations = sf.simulate(edge, 1_000, seed=4)
    draws = quick(method, simulations=simulations)
    assert same(draws, quick(method, simulations=simulations))
    assert not same(draws, quick(method))


@pytest.mark.parametrize("method", AGAIN)
def test_what_failed_before_is_not_counted_again(method: str) -> None:
    def partial(y: np.ndarray) -> np.ndarray:
        return np.where(y > 2, np.nan, y)

    settings = sf.ABCSettings(summaries=partial, **({"pilot": 200} if method in QUICK else {}))
    simulations = sf.simulate(edge, 1_000, seed=4)
    draws = quick(method, simulations=simulations, settings=settings)
    assert set(draws.facts["failures"]) <= {"summaries not finite"}
    assert all(count > 0 for count in draws.facts["failures"].values())


@pytest.mark.parametrize("method", METHODS)
def test_settings_of_other_methods_are_refused(method: str) -> None:
    values: dict[str, Any] = {
        "quantile": 0.1,
        "adjust": "linear",
        "epsilon": 1.0,
        "distance": "fixed",
        "covariance": "plug-in",
        "alpha": 0.5,
        "least_acceptance": 0.01,
    }
    for name, owners in BELONGS.items():
        if method not in owners:
            settings = sf.ABCSettings(**{name: values.get(name, 100)})
            with pytest.raises(SettingsError, match=f"{name}= is a setting of '{owners[0]}'"):
                quick(method, settings=settings)


@pytest.mark.parametrize("method", METHODS)
def test_summaries_of_ones_own_take_the_place_of_the_declared(method: str) -> None:
    def second(y: np.ndarray) -> np.ndarray:
        return y[:, 1:]

    settings = sf.ABCSettings(summaries=second, **({"pilot": 200} if method in QUICK else {}))
    draws = quick(method, settings=settings)
    assert draws.facts["summaries"] == 1
    assert abs(draws["a"].mean() - 0.5) < 0.15  # nothing is known of a


def test_what_cannot_be_used_is_refused_in_words() -> None:
    with pytest.raises(SettingsError, match="method must be one of 'rejection', 'smc', 'pmc'"):
        sf.abc(edge, (0.9, 0.4), method="SMC")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="particles must be an integer from 20"):
        sf.ABCSettings(particles=3)
    with pytest.raises(SettingsError, match="distance must be 'adaptive' or 'fixed'"):
        sf.ABCSettings(distance="euclidean")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="needs distance='fixed'"):
        quick("smc", settings=sf.ABCSettings(epsilon=0.1))
    with pytest.raises(SettingsError, match="are too few: a generation of 100 particles"):
        quick("pmc", n_simulations=150)
    with pytest.raises(SettingsError, match="are too few: a pilot"):
        quick("synthetic_likelihood", n_simulations=1_000)
    with pytest.raises(SettingsError, match="settings must be sf.ABCSettings"):
        quick("smc", settings={"particles": 100})
    with pytest.raises(SettingsError, match="no option cores"):
        quick("smc", cores=2)
    with pytest.raises(SettingsError, match="pass y_obs"):
        quick("smc", y=None)
    with pytest.raises(ObservationError, match="not finite"):
        quick("smc", settings=sf.ABCSettings(summaries=lambda y: np.full((len(y), 1), np.nan)))
    simulations = sf.simulate(edge, 500, seed=1)
    with pytest.raises(SettingsError, match="not both"):
        quick("rejection", simulations=simulations)
    with pytest.raises(SettingsError, match="needs the simulator"):
        sf.abc(y_obs=[0.5, 0.5], method="smc", simulations=simulations, n_simulations=2000)
