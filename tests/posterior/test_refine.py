"""The front door of refining: which method, what is refused, what is said."""

from __future__ import annotations

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.errors import ObservationError, SettingsError, ShapeError
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
    ],
)
def test_options_out_of_range_are_refused(gaussian_posterior: sf.Posterior, wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        gaussian_posterior.refine(Y, toy(), **wrong)  # type: ignore[arg-type]


def test_settings_are_checked() -> None:
    for wrong in ({"ess": 0}, {"ess": 0.5}, {"chains": 1}, {"simulate": 3}):
        with pytest.raises(SettingsError):
            sf.RefineSettings(**wrong)  # type: ignore[arg-type]
