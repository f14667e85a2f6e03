"""Mistakes that once gave a wrong answer without a word, each now refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from scipy.stats import lognorm, norm, pareto, uniform
from torch import ones
from torch.distributions import Dirichlet

import sbi_flows as sf
from sbi_flows.errors import (
    BankMismatchError,
    InputError,
    ObservationError,
    PriorError,
    SettingsError,
    ShapeError,
    SimulatorContractError,
    TooFewSimulationsError,
)
from sbi_flows.npe.settings import training_for
from sbi_flows.problem.observed import read_observed
from simulators.gaussian import make_gaussian
from simulators.ricker import ricker

from .conftest import QUICK

Theta = dict[str, np.ndarray]
PRIOR = sf.Prior(a=uniform(0, 1), b=norm(0, 1))


def model(sign: float = 1.0, prior: sf.Prior = PRIOR) -> sf.Simulator:
    @sf.simulator(prior, event_shape=(2,))
    def linear(theta: Theta, rng: np.random.Generator) -> np.ndarray:
        return sign * np.stack([theta["a"], theta["b"]], axis=1) + 0.1 * rng.standard_normal(
            (len(theta["a"]), 2)
        )

    return linear


def test_the_checkpoint_of_another_simulator_is_refused(tmp_path: Path) -> None:
    sf.fit(model(), n_simulations=500, seed=1, settings=QUICK, say=None, checkpoint=tmp_path / "c")
    with pytest.raises(BankMismatchError, match="rows"):
        sf.fit(model(-1.0), n_simulations=500, seed=1, settings=QUICK, say=None, checkpoint=tmp_path / "c")


def test_simulations_from_another_prior_are_refused() -> None:
    simulations = sf.simulate(model(), 500, seed=1)
    wide = model(prior=sf.Prior(a=uniform(0, 2), b=norm(0, 1)))
    for use in (
        lambda: sf.fit(wide, simulations=simulations, say=None),
        lambda: sf.rejection_abc(wide, [0, 0], simulations=simulations),
    ):
        with pytest.raises(PriorError, match="Prior"):
            use()


def test_a_bank_is_not_extended_by_a_simulator_that_has_changed(tmp_path: Path) -> None:
    for vectorized in (True, False):

        def build(offset: float, vectorized: bool = vectorized) -> sf.Simulator:
            @sf.simulator(PRIOR, vectorized=vectorized, event_shape=(1,))
            def shifted(theta: Any, rng: np.random.Generator) -> np.ndarray:
                return np.reshape(
                    theta["a"] + offset + rng.standard_normal(np.shape(theta["a"])),
                    (-1, 1) if vectorized else (1,),
                )

            return shifted

        path = tmp_path / str(vectorized)
        sf.simulate(build(0.0), 40, seed=1, store=path)
        with pytest.raises(BankMismatchError, match="simulator has changed"):
            sf.simulate(build(100.0), 2040, seed=1, store=path)
        assert len(sf.simulate(build(0.0), 2040, seed=1, store=path)) == 2040


def test_masked_data_and_absurd_numbers_are_refused(bounded_posterior: sf.Posterior) -> None:
    with pytest.raises(ObservationError, match="1 NaN"):
        bounded_posterior.sample(np.ma.masked_array([0.5, 0.2, 0.1], [True, False, False]), 10)
    with pytest.raises(ObservationError, match="too large"):
        bounded_posterior.sample([1.7e308, -1.7e308, 0.0], 10)
    with pytest.raises(ObservationError, match="too large"):
        bounded_posterior.sample([1e306, 0.2, 0.3], 10)


def test_a_table_of_theta_is_read_by_the_names_of_its_columns(bounded_posterior: sf.Posterior) -> None:
    y = [0.5, 0.2, 0.1]
    expected = bounded_posterior.log_prob([[0.2, 1.5]], y)
    assert np.array_equal(bounded_posterior.log_prob(pandas.DataFrame({"b": [1.5], "a": [0.2]}), y), expected)
    with pytest.raises(ShapeError, match="a, b.* a, c"):
        bounded_posterior.log_prob(pandas.DataFrame({"a": [0.2], "c": [1.5]}), y)


@pytest.mark.parametrize("sign", ["NA", "", "-", "n/a"])
def test_a_missing_first_value_is_not_taken_for_a_header(tmp_path: Path, sign: str) -> None:
    (tmp_path / "y.csv").write_text(f"{sign},1\n" + "3,4\n")
    np.testing.assert_array_equal(read_observed(tmp_path / "y.csv"), [[np.nan, 1], [3, 4]])
    (tmp_path / "y.csv").write_text("?,1\n3,4\n")
    with pytest.raises(ObservationError, match="line 1"):
        read_observed(tmp_path / "y.csv")


def test_names_that_would_collide_are_refused() -> None:
    with pytest.raises(PriorError, match=r"w\[0\]"):
        sf.Prior(**{"w": Dirichlet(ones(3)), "w[0]": norm(0, 1)})
    assert sf.Prior(**{"self": norm(0, 1), "n": norm(0, 1)}).names == ("self", "n")


def test_a_vectorised_simulator_that_takes_one_draw_only_is_named() -> None:
    @sf.simulator(PRIOR)
    def scalar_only(theta: Theta, rng: np.random.Generator) -> np.ndarray:
        return np.array([[1.0 if theta["a"] > 0.5 else 0.0]])

    with pytest.raises(SimulatorContractError, match="vectorized=False"):
        sf.simulate(scalar_only, 100)


def test_a_simulator_of_a_module_pickles_by_reference() -> None:
    from simulators import ricker as module

    wrapped = sf.simulator(ricker.prior, event_shape=(100,))(module.simulate_ricker)
    module.simulate_ricker = wrapped
    try:
        assert pickle.loads(pickle.dumps(wrapped)) is wrapped
    finally:
        module.simulate_ricker = wrapped.function


def test_arguments_of_the_wrong_kind_are_named(bounded: sf.Simulator) -> None:
    wrong: Any
    for wrong in ({"epochs": 3}, sf.TrainSettings()):
        with pytest.raises(SettingsError, match="sf.FitSettings"):
            sf.fit(bounded, n_simulations=400, settings=wrong, say=None)
    with pytest.raises(SettingsError, match="train"):
        sf.FitSettings(train={"epochs": 3})  # type: ignore[arg-type]
    for wrong in ("ricker.bank", np.zeros((3, 2))):
        with pytest.raises(SettingsError, match="sf.read_bank"):
            sf.fit(bounded, simulations=wrong, say=None)
    for wrong in ("2", True, float("nan"), 0, np.float32(-1)):
        with pytest.raises(SettingsError, match="minutes"):
            sf.fit(bounded, minutes=wrong, say=None)
    for wrong in (["maf", 3], [], "mafia", None):
        with pytest.raises(SettingsError, match="flow"):
            sf.FitSettings(flow=wrong)
    for wrong in (2.0, True, "2", np.float64(2), 0):
        with pytest.raises(SettingsError, match="members"):
            sf.FitSettings(members=wrong)
    with pytest.raises(SettingsError, match="max_failures"):
        sf.simulate(bounded, 10, max_failures=float("nan"))


def test_integers_of_numpy_are_taken_and_kept_as_int() -> None:
    given: Any = np.int64(2)
    settings = sf.FitSettings(members=given, layers=given, width=given, summary_features=given)
    assert settings == sf.FitSettings(members=2, layers=2, width=2, summary_features=2)
    assert {type(getattr(settings, name)) for name in ("members", "layers", "width", "summary_features")} == {
        int
    }
    assert '"members": 2' in json.dumps(settings.to_json())


def test_too_little_time_is_called_that(bounded: sf.Simulator) -> None:
    """More is simulated in the least time that anything takes than the clock allows."""
    with pytest.raises((SettingsError, TooFewSimulationsError), match="minutes"):
        sf.fit(bounded, minutes=1e-6, say=None)
    for n in (0, -5):
        assert training_for(n, timed=True) == training_for(1, timed=True)


def test_wrong_arguments_that_a_new_user_tried(
    bounded: sf.Simulator, bounded_posterior: sf.Posterior
) -> None:
    sims = sf.simulate(bounded, 300, seed=1)
    with pytest.raises(SettingsError, match="simulator"):
        sf.learning_curve(bounded, None)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="sf.FitSettings"):
        sf.learning_curve(bounded, sims, settings="x")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="truth: theta"):
        sf.compare(bounded_posterior, [0.5, 0.2, 0.1], bounded, truth="x")
    with pytest.raises(InputError, match="log_likelihood.* 5"):
        sf.simulator(bounded.prior, log_likelihood=5)(bounded.function)  # type: ignore[arg-type]
    with pytest.raises(ObservationError, match="dates"):
        bounded_posterior.verdicts(np.array(["2020-01-01"] * 3, dtype="M8[D]"))
    assert sf.__version__.count(".") >= 1


@pytest.mark.parametrize("size", [1e160, 1e300])
def test_an_observation_beyond_floating_point_is_refused(
    bounded_posterior: sf.Posterior, size: float
) -> None:
    with pytest.raises(ObservationError, match="too large"):
        bounded_posterior.sample(np.array([0.5, 0.2, 0.1]) * size, 10)


@pytest.mark.parametrize("size", [1e30, 1e90])
def test_draws_for_the_largest_observation_are_inside_the_prior(
    bounded: sf.Simulator, bounded_posterior: sf.Posterior, size: float
) -> None:
    draws = bounded_posterior.sample(np.array([0.5, 0.2, 0.1]) * size, 500)
    assert draws.verdict.level == "do not trust"
    assert bounded.prior.inside(draws.to_numpy()).all()


def test_an_observation_beyond_all_bounds_is_compared_and_not_trusted(
    bounded: sf.Simulator, bounded_posterior: sf.Posterior
) -> None:
    report = sf.compare(bounded_posterior, np.array([0.5, 0.2, 0.1]) * 1e90, bounded, n=200, say=None)
    assert report.verdict.level == "do not trust"
    assert any("too far from all simulations" in text for text in report.left_out)


@pytest.mark.parametrize("theta", ["x", [10**400, 1], {"a": "x", "b": 1.0}, [[1.0], [1.0, 2.0]]])
def test_a_theta_that_is_not_made_of_numbers_is_named(theta: Any) -> None:
    prior = sf.Prior(a=norm(), b=norm())
    with pytest.raises(ShapeError, match="theta"):
        prior.log_prob(theta)


def test_integers_beyond_floating_point_are_not_an_observation(bounded_posterior: sf.Posterior) -> None:
    with pytest.raises(ObservationError, match="numbers"):
        bounded_posterior.sample([10**400, 1, 1], 10)


@pytest.mark.parametrize("distribution", [lognorm(300), pareto(0.01), norm(0, 1e150)])
def test_a_prior_beyond_floating_point_is_refused(distribution: Any) -> None:
    with pytest.raises(PriorError, match="prior a"):
        sf.Prior(a=distribution)


def test_the_prior_that_is_passed_to_load_is_compared_with_that_of_the_file(
    bounded_posterior: sf.Posterior, tmp_path: Path
) -> None:
    path = tmp_path / "p.safetensors"
    bounded_posterior.save(path)
    marginals = {name: marginal.distribution for name, marginal in bounded_posterior.prior.marginals.items()}  # type: ignore[attr-defined]
    assert sf.load(path, prior=sf.Prior(**marginals)).facts == bounded_posterior.facts
    again = {"a": uniform(loc=0, scale=1), "b": uniform(loc=-2, scale=4)}
    assert sf.load(path, prior=sf.Prior(**again)).facts == bounded_posterior.facts
    name = next(iter(marginals))
    with pytest.raises(PriorError, match=f"{name} uniform.*{name} norm"):
        sf.load(path, prior=sf.Prior(**{**marginals, name: norm(3, 4)}))


def test_what_is_told_needs_a_function(gaussian_posterior: sf.Posterior) -> None:
    gaussian: Any = make_gaussian(2)
    for call in (
        lambda: sf.fit(gaussian, n_simulations=500, say=3),  # type: ignore[arg-type]
        lambda: sf.compare(gaussian_posterior, [0.0, 0.0], gaussian, say=3),  # type: ignore[arg-type]
        lambda: sf.study(gaussian_posterior, gaussian, say=3),  # type: ignore[arg-type]
        lambda: sf.compare_models({"a": gaussian, "b": gaussian}, [0.0, 0.0], say=3),  # type: ignore[arg-type]
    ):
        with pytest.raises(SettingsError, match="say must be a function"):
            call()
