"""What a new user may get wrong is said in words, before anything is simulated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.comparison.models.request import checked_models, checked_number
from sbi_flows.errors import ObservationError, SettingsError, ShapeError
from simulators.gaussian import make_gaussian

from .gaussians import MODELS, POINTS, constant, line

Y = np.zeros(POINTS)


def checked(models: Any = MODELS, y: Any = Y, **given: Any) -> Any:
    return checked_models(
        models, y, *(given.get(name) for name in ("simulations", "posteriors", "prior_probabilities"))
    )


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"models": {"line": line}}, SettingsError, ["two models or more", "got 1"]),
        ({"models": [constant, line]}, SettingsError, ["got list"]),
        ({"models": {1: constant, 2: line}}, SettingsError, ["named by texts"]),
        ({"models": {"a": constant, "b": "line"}}, SettingsError, ["model 'b'", "got str"]),
        ({"models": {"a": constant, "b": None}}, SettingsError, ["model 'b'", "simulations="]),
        (
            {"models": {"a": constant, "b": make_gaussian(3)}},
            ShapeError,
            ["same data", "'a'", "(8,)", "'b'", "(3,)"],
        ),
        ({"y": None}, SettingsError, ["y_obs="]),
        ({"y": np.zeros(9)}, ShapeError, ["(9,)", "(8,)"]),
        ({"y": np.zeros((3, POINTS))}, SettingsError, ["one observation", "these are 3", ".predict(y)"]),
        ({"y": np.full(POINTS, np.inf)}, ObservationError, ["infinite"]),
        ({"y": np.full(POINTS, np.nan)}, ObservationError, ["no observed value"]),
        ({"prior_probabilities": {"constant": 1.0}}, SettingsError, ["each of 'constant', 'line'"]),
        ({"prior_probabilities": {"constant": 0.5, "line": 0.6}}, SettingsError, ["sum to 1", "1.1"]),
        ({"prior_probabilities": {"constant": 0.0, "line": 1.0}}, SettingsError, ["positive"]),
        ({"prior_probabilities": [0.5, 0.5]}, SettingsError, ["by the names", "list"]),
        ({"prior_probabilities": {"curve": 1.0}}, SettingsError, ["'curve'", "the models are"]),
        ({"simulations": {"line": 3}}, SettingsError, ["simulations['line']", "int"]),
        ({"posteriors": {"line": "line.safetensors"}}, SettingsError, ["posteriors['line']", "sf.load"]),
    ],
)
def test_bad_input_is_refused_in_words(given: Any, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        checked(**given)
    assert [word for word in words if word not in str(caught.value)] == []


def test_simulations_of_another_prior_are_refused() -> None:
    other = sf.Simulator(constant.function, sf.Prior(m=norm(0, 2)), event_shape=(POINTS,))
    bank = sf.simulate(other, 100, seed=1)
    with pytest.raises(sf.errors.PriorError, match="drawn from"):
        checked(simulations={"constant": bank})


@pytest.mark.parametrize(
    ("n", "minutes", "words"),
    [(10, None, "100"), (1000, 1.0, "not both"), (None, 0, "positive"), (2.5, None, "integer")],
)
def test_budgets_are_checked(n: Any, minutes: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        checked_number(n, minutes, checked())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"networks": "small"}, "FitSettings"),
        ({"networks": sf.FitSettings(flow="maf")}, "no flow"),
        ({"abc_quantile": 0}, "abc_quantile"),
        ({"evidence": 1}, "True or False"),
        ({"evidence_draws": 3}, "1000"),
        ({"evidence_ess": 3}, "100"),
        ({"simulate": 7}, "SimulateSettings"),
    ],
)
def test_settings_are_checked(given: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        sf.ModelChoiceSettings(**given)


def test_an_unknown_option_and_wrong_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="worker"):
        sf.compare_models(MODELS, Y, worker=2)  # type: ignore[call-arg]
    with pytest.raises(SettingsError, match="ModelChoiceSettings"):
        sf.compare_models(MODELS, Y, settings=sf.FitSettings())  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="seed"):
        sf.compare_models(MODELS, Y, seed=-1)


def test_what_is_missing_in_the_observation_makes_the_network_see_gaps() -> None:
    y = Y.copy()
    assert not checked(y=y).events.missing
    y[2] = np.nan
    assert checked(y=y).events.missing


def test_a_shorter_series_is_filled_up() -> None:
    assert np.isnan(checked(y=np.zeros(5)).observed).sum() == POINTS - 5
