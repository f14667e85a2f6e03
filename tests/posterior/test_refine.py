"""The front door of refining: which method, what is refused, what is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.errors import ObservationError, SettingsError, ShapeError, SimulatorContractError
from sbi_flows.simulation.from_arrays import GIVEN
from simulators.gaussian import make_gaussian, posterior_moments
from tests.exact.gaussian_toy import EVIDENCE, MEAN, SD, Y, toy


def test_a_likelihood_gives_exact_draws_and_the_evidence(gaussian_posterior: sf.Posterior) -> None:
    """Means within 4.5 standard errors: false-alarm rate 1e-5."""
    draws = gaussian_posterior.refine(Y, toy(noise=0.3), n=2000, seed=1, workers=1)
    assert draws.values.shape == (2000, 2)
    assert draws.origin == "exact, importance sampling"
    assert draws.verdict.ok
    assert draws.facts["exact"]
    error = SD * np.sqrt(draws.facts["error"] ** 2 + 1 / 2000)
    assert (np.abs(draws.summary()["mean"].to_numpy() - MEAN) < 4.5 * error).all()
    assert abs(draws.facts["log_evidence"] - EVIDENCE) < 4.5 * draws.facts["log_evidence_error"]
    assert draws.facts["evaluations"] <= 50 * 4000
    again = gaussian_posterior.refine(Y, toy(noise=0.3), n=2000, seed=1, workers=1)
    np.testing.assert_array_equal(draws.values, again.values)


def test_a_closed_form_is_taken_first_and_the_likelihood_where_it_is_asked_for(
    gaussian_posterior: sf.Posterior,
) -> None:
    closed = gaussian_posterior.refine(Y, make_gaussian(2), n=2000, seed=1)
    assert closed.origin == "exact, closed form"
    assert closed.verdict.ok
    mean, _ = posterior_moments(Y)
    assert (np.abs(closed.values.mean(axis=0) - mean) < 4.5 * SD / np.sqrt(2000)).all()
    asked = gaussian_posterior.refine(Y, make_gaussian(2), method="likelihood", n=500, seed=1, workers=1)
    assert asked.origin == "exact, importance sampling"


def test_the_installed_plug_in_is_found_by_its_name(gaussian_posterior: sf.Posterior) -> None:
    assert gaussian_posterior.refine(Y, n=100).origin == "exact, closed form"


def test_data_of_another_model_are_said_though_the_draws_are_exact(gaussian_posterior: sf.Posterior) -> None:
    draws = gaussian_posterior.refine([7.0, -7.0], toy(), n=1000, seed=1, workers=1)
    assert draws.facts["exact"]
    assert draws.verdict.level == "do not trust"
    assert draws.verdict.text.startswith("Exact up to Monte Carlo error")
    assert "training distribution" in draws.verdict.text


def test_what_does_not_fit_is_refused_in_words(
    gaussian_posterior: sf.Posterior, bounded: sf.Simulator, bounded_posterior: sf.Posterior
) -> None:
    with pytest.raises(SettingsError, match="one observation at a time"):
        gaussian_posterior.refine(np.zeros((3, 2)), toy())
    with pytest.raises(ShapeError):
        gaussian_posterior.refine(np.zeros(3), toy())
    with pytest.raises(ObservationError):
        gaussian_posterior.refine([np.inf, 0.0], toy())
    with pytest.raises(SettingsError, match="'closed form', 'likelihood', 'rounds'"):
        gaussian_posterior.refine(Y, toy(), method="exact")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="needs the exact_posterior"):
        gaussian_posterior.refine(Y, toy(), method="closed form")
    with pytest.raises(SettingsError, match="needs the log_likelihood"):
        bounded_posterior.refine([0.5, 0.2, 0.1], bounded, method="likelihood")
    with pytest.raises(SettingsError, match="not an installed plug-in"):
        bounded_posterior.refine([0.5, 0.2, 0.1])
    with pytest.raises(SettingsError, match="bounded"):
        bounded_posterior.refine([0.5, 0.2, 0.1], toy())
    with pytest.raises(SettingsError, match="no option cores"):
        gaussian_posterior.refine(Y, toy(), cores=2)  # type: ignore[call-arg]
    with pytest.raises(SettingsError, match="time_limit"):
        gaussian_posterior.refine(Y, toy(), time_limit=3.0)


def closed(**parts: Any) -> sf.Simulator:
    """The plug-in, its closed form replaced."""
    clean = make_gaussian(2)
    return sf.Simulator(clean.function, clean.prior, event_shape=(2,), **parts)


def test_a_closed_form_that_breaks_its_contract_is_refused_and_a_constant_one_is_not_trusted(
    gaussian_posterior: sf.Posterior,
) -> None:
    def nothing(y: Any, n: int, rng: np.random.Generator) -> Any:
        return np.full((n, 2), np.nan)

    with pytest.raises(SimulatorContractError, match="nan"):
        gaussian_posterior.refine(Y, closed(exact_posterior=nothing), n=10)
    draws = gaussian_posterior.refine(
        Y, closed(exact_posterior=lambda y, n, rng: np.full((n, 2), 0.5)), n=10, seed=1
    )
    assert draws.verdict.level == draws.verdicts[0].level == "do not trust"
    assert "all equal" in draws.verdict.text


def test_a_simulator_of_another_name_is_said_in_the_verdict_and_at_once(
    gaussian_posterior: sf.Posterior,
) -> None:
    said: list[str] = []
    clean = make_gaussian(2)

    def another(theta: Any, rng: np.random.Generator) -> Any:
        return clean.function(theta, rng)

    other = sf.Simulator(another, clean.prior, event_shape=(2,), log_likelihood=clean.log_likelihood)
    draws = gaussian_posterior.refine(Y, other, n=100, seed=1, workers=1, say=said.append)
    trained = gaussian_posterior.facts["simulator"]
    assert f"trained on {trained!r}, and these draws are of 'another'" in draws.verdict.text
    assert said[0].kind == "other simulator"  # type: ignore[attr-defined]
    assert draws.verdict == draws.verdicts[0]
    elsewhere = replace(gaussian_posterior, facts={**gaussian_posterior.facts, "simulator": GIVEN})
    for posterior, simulator in ((gaussian_posterior, make_gaussian(2)), (elsewhere, other)):
        found = posterior.refine(Y, simulator, n=100, seed=1, workers=1)
        assert "was trained on" not in found.verdict.text


def test_the_effective_size_of_the_table_is_no_larger_than_that_of_the_verdict(
    gaussian_posterior: sf.Posterior,
) -> None:
    draws = gaussian_posterior.refine(Y, toy(), n=300, n_simulations=1, seed=1, workers=1)
    assert draws.facts["ess"] == 1
    assert draws.ess == 1
    assert (draws.summary()["ess"] == 1).all()
    assert draws.verdict.level == "do not trust"


@pytest.mark.parametrize(
    ("method", "given", "other"),
    [
        ("closed form", {"n_simulations": 1000}, "'likelihood' or method='rounds'"),
        ("closed form", {"minutes": 1.0}, "'likelihood' or method='rounds'"),
        ("closed form", {"store": "never made"}, "'rounds'"),
        ("closed form", {"time_limit": 1.0}, "'rounds'"),
        ("closed form", {"settings": sf.RefineSettings(ess=100)}, "'likelihood'"),
        ("likelihood", {"store": "never made"}, "'rounds'"),
        ("likelihood", {"max_failures": 0.5}, "'rounds'"),
        ("likelihood", {"settings": sf.RefineSettings(rounds=2)}, "'rounds'"),
        ("likelihood", {"settings": sf.RefineSettings(fit=sf.FitSettings())}, "'rounds'"),
        ("likelihood", {"settings": sf.RefineSettings(simulate=sf.SimulateSettings())}, "'rounds'"),
        ("rounds", {"settings": sf.RefineSettings(ess=100)}, "'likelihood'"),
        ("rounds", {"settings": sf.RefineSettings(chains=4)}, "'likelihood'"),
    ],
)
def test_options_that_the_method_has_no_use_for_are_refused(
    gaussian_posterior: sf.Posterior, method: Any, given: dict[str, Any], other: str
) -> None:
    (name,) = given if "settings" not in given else ("RefineSettings",)
    with pytest.raises(SettingsError, match=f"{name}.*no part in method='{method}'.*method={other}"):
        gaussian_posterior.refine(Y, make_gaussian(2), method=method, **given)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 0},
        {"n": 2.5},
        {"n": 10**12},
        {"n_simulations": 0},
        {"minutes": 0},
        {"minutes": np.nan},
        {"seed": -1},
        {"settings": 3},
        {"workers": 0},
        {"executor": 3},
        {"say": 3},
    ],
)
def test_options_out_of_range_are_refused(gaussian_posterior: sf.Posterior, wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        gaussian_posterior.refine(Y, toy(), **wrong)  # type: ignore[arg-type]


def test_settings_are_checked() -> None:
    for wrong in ({"ess": 0}, {"ess": 0.5}, {"chains": 1}, {"simulate": 3}):
        with pytest.raises(SettingsError):
            sf.RefineSettings(**wrong)  # type: ignore[arg-type]
