"""A comparison from end to end, against two Gaussian models in closed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.errors import ObservationError, SimulationWarning

from .conftest import QUICK, SMALL, WITHOUT_EVIDENCE, Y
from .gaussians import MODELS, POINTS, constant, line, log_evidence

EXACT = float(np.diff(log_evidence(Y))[0, 0])


def row(choice: sf.ModelComparison, by: str, model: str = "line") -> Any:
    table = choice.table
    return table[(table["by"] == by) & (table["model"] == model)].iloc[0]


def again(**given: Any) -> sf.ModelComparison:
    asked = {"n_simulations": 500, "seed": 1, "settings": WITHOUT_EVIDENCE, **given}
    return sf.compare_models(asked.pop("models", MODELS), asked.pop("y_obs", Y), **asked)


def test_every_method_finds_the_bayes_factor(choice: sf.ModelComparison) -> None:
    """The evidence within 4.5 of its own errors; networks within 0.5 nats, as small as they are; ABC accepts
    200 of 3,000 in 8 dimensions, which favours the model that is less spread out, and has the right sign.
    """
    evidence = row(choice, "evidence")
    assert abs(evidence["log_bayes_factor"] - EXACT) < 4.5 * evidence["log_bayes_factor_error"]
    assert evidence["log_bayes_factor_error"] < 0.1
    assert abs(row(choice, "classifier")["log_bayes_factor"] - EXACT) < 0.5
    assert -0.5 < row(choice, "ABC")["log_bayes_factor"] < EXACT + 0.5
    assert 0 < row(choice, "ABC, logistic")["log_bayes_factor"] < EXACT + 2


def test_posteriors_that_are_passed_are_proposed_from(choice: sf.ModelComparison, said: list[str]) -> None:
    assert not any("fitting a small posterior" in text for text in said)
    assert any("likelihoods of 'line'" in text for text in said)


def test_what_is_found_is_said(choice: sf.ModelComparison) -> None:
    assert choice.verdict.ok, choice.verdict
    assert set(choice.model_verdicts) == {"constant", "line"}
    assert sum(choice.probabilities.values()) == pytest.approx(1)
    assert repr(choice).startswith("ModelComparison(constant 0.")
    assert "log_bayes_factor" in choice._repr_html_()
    assert set(choice.table["by"]) == {"classifier", "ABC", "ABC, logistic", "evidence"}
    assert {note.kind for note in choice.notes} >= {
        "classifier trained",
        "classifier scaled",
        "ABC of models",
    }
    curve = choice.calibration
    assert (curve["low"] <= curve["predicted"]).all()
    assert (curve["predicted"] <= curve["high"]).all()
    assert choice.calibration_test.level == "trust"
    assert choice.calibration_test.n == 600


def test_the_page_holds_the_answer(choice: sf.ModelComparison, tmp_path: Path) -> None:
    choice.to_html(tmp_path / "models.html")
    page = (tmp_path / "models.html").read_text()
    assert page.count("<svg") == 3
    for text in (
        "constant",
        "line",
        "evidence",
        "Is the classifier calibrated?",
        choice.verdict.level.capitalize(),
    ):
        assert text in page
    assert "<script" not in page


def test_prior_probabilities_enter_by_bayes_alone(choice: sf.ModelComparison) -> None:
    """The same simulations and networks: every factor is the same number, every probability follows."""
    other = sf.compare_models(
        MODELS,
        Y,
        n_simulations=1500,
        seed=1,
        settings=sf.ModelChoiceSettings(networks=SMALL, evidence=False),
        prior_probabilities={"line": 0.9, "constant": 0.1},
    )
    for by in ("classifier", "ABC", "ABC, logistic"):
        before, after = row(choice, by), row(other, by)
        assert after["log_bayes_factor"] == before["log_bayes_factor"]
        assert logit(after["probability"]) == pytest.approx(before["log_bayes_factor"] + np.log(9), abs=1e-9)


def test_other_data_are_answered_without_simulating(choice: sf.ModelComparison) -> None:
    y = np.stack([Y, np.zeros(POINTS), 40 + np.arange(POINTS) ** 3])
    found = choice.predict(y)
    first = found[found["observation"] == 0].set_index("model")
    assert first.loc["line", "probability"] == pytest.approx(choice.probabilities["line"])
    assert found[found["observation"] == 2]["looks_like"].tolist() == ["do not trust"] * 2
    assert len(choice.predict(Y)) == 2
    with pytest.raises(ObservationError):
        choice.predict(np.where(np.arange(POINTS) == 1, np.nan, Y))


def test_data_of_no_model_are_called() -> None:
    found = again(y_obs=np.array([9.0, -9, 9, -9, 9, -9, 9, -9]))
    assert found.verdict.level == "do not trust"
    assert "No model looks like the data" in found.verdict.text


def test_the_bytes_depend_on_the_seed_alone() -> None:
    one, other = again(), again(workers=2)
    assert one.table.equals(other.table)
    assert one.verdict == other.verdict
    assert not again(seed=2).table.equals(one.table)


def test_the_order_of_the_models_changes_only_the_order() -> None:
    """Simulations are the same; networks differ in what they start from."""
    other = again(models={"line": line, "constant": constant})
    banks = other.models.names
    assert banks == ("line", "constant")
    assert other.table["against"].iloc[0] == "line"


def test_given_simulations_and_pairs_made_elsewhere_need_no_simulator() -> None:
    banks = {name: sf.simulate(model, 500, seed=4 + i) for i, (name, model) in enumerate(MODELS.items())}
    by_simulator = again(simulations=banks)
    alone = again(models=dict.fromkeys(MODELS), simulations=banks, settings=QUICK)
    assert alone.probabilities == by_simulator.probabilities
    (note,) = (note for note in alone.notes if note.kind == "evidence left out")
    assert "log_likelihood" in note


def test_unequal_numbers_of_simulations_do_not_move_the_factor() -> None:
    """Of one of three simulations each: a factor of log 3 would be seen, and is not there."""
    sizes = {"constant": 600, "line": 1800}
    banks = {name: sf.simulate(MODELS[name], n, seed=7) for name, n in sizes.items()}
    found = again(simulations=banks)
    for method in ("classifier", "ABC, logistic"):
        assert abs(row(found, method)["log_bayes_factor"] - EXACT) < 0.8
    assert found.calibration_test.level == "trust"


def test_missing_values_are_left_out_of_the_simulations_too(choice: sf.ModelComparison) -> None:
    """Without all slopes: only the middle was observed, which says nothing about the line."""
    y = np.where(np.abs(np.linspace(-1, 1, POINTS)) < 0.2, Y, np.nan)
    found = again(y_obs=y, n_simulations=1000)
    assert "gaps of the observation" in {note.kind for note in found.notes}
    assert abs(row(found, "classifier")["log_bayes_factor"]) < 0.35
    assert len(found.predict(y)) == 2
    with pytest.raises(ObservationError, match="other gaps"):
        found.predict(Y)


@sf.simulator(sf.Prior(m=norm(0, 1)), event_shape=(POINTS,))
def failing(theta: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    """A constant that fails for large m."""
    y = np.asarray(theta["m"])[:, None] + rng.standard_normal((len(theta["m"]), POINTS))
    return np.where(np.asarray(theta["m"])[:, None] > 0.5, np.nan, y)


def test_a_model_that_fails_often_is_a_reason_for_caution() -> None:
    with pytest.warns(SimulationWarning):
        found = again(models={"line": line, "failing": failing})
    assert found.verdict.level != "trust"
    assert "failed" in found.verdict.text
    assert any(note.kind == "model failed" and note.values["model"] == "failing" for note in found.notes)


def test_a_likelihood_that_raises_leaves_the_rest() -> None:
    def broken(theta: Any, y: Any, rng: Any) -> Any:
        raise ZeroDivisionError("by zero")

    one = sf.Simulator(line.function, line.prior, event_shape=(POINTS,), log_likelihood=broken)
    found = again(models={"constant": constant, "line": one}, settings=QUICK)
    assert "evidence" not in found.methods
    (note,) = (note for note in found.notes if note.kind == "evidence left out")
    assert "ZeroDivisionError: by zero" in note


def test_a_posterior_whose_predictions_are_unlike_the_data_is_called(choice: sf.ModelComparison) -> None:
    """Alternating data of the size of the noise: the prior makes such sizes, no posterior predicts the
    order.
    """
    assert set(choice.predictions.rows) == {"constant", "line"}
    assert choice.predictions.checks["line"].p > 0.001
    y = 3.0 * (-1.0) ** np.arange(POINTS)
    other = again(y_obs=y, posteriors=dict(choice.models.posteriors), settings=QUICK)
    assert {check.p <= 0.001 for check in other.predictions.checks.values()} == {True}
    assert other.verdict.level == "do not trust"


@pytest.mark.slow
def test_without_posteriors_small_ones_are_fitted_and_their_cost_is_said_first() -> None:
    said: list[str] = []
    found = again(settings=QUICK, say=said.append)
    evidence = row(found, "evidence")
    assert abs(evidence["log_bayes_factor"] - EXACT) < 4.5 * evidence["log_bayes_factor_error"]
    (first, _) = (text for text in said if "fitting a small posterior" in text)
    assert "'constant'" in first
    assert "rows of training" in first


def test_minutes_are_obeyed_in_words_not_in_a_stopwatch() -> None:
    """No time is asserted: what is made by the clock is an answer of the same form."""
    found = sf.compare_models(MODELS, Y, minutes=0.05, seed=1, settings=WITHOUT_EVIDENCE)
    assert set(found.probabilities) == {"constant", "line"}


@sf.simulator(sf.Prior(m=norm(0, 1)), data={"a": sf.Vector(), "b": sf.Series()})
def of_two(theta: dict[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Two arrays."""
    m = theta["m"][:, None]
    return {"a": m + rng.standard_normal((len(m), 3)), "b": m + rng.standard_normal((len(m), 12))}


@sf.simulator(sf.Prior(m=norm(0, 3)), data={"a": sf.Vector(), "b": sf.Series()})
def of_two_wide(theta: dict[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The same with a wider prior: a model of its own."""
    m = theta["m"][:, None]
    return {"a": m + rng.standard_normal((len(m), 3)), "b": m + rng.standard_normal((len(m), 12))}


@pytest.mark.slow
def test_the_bayes_factor_is_within_a_tenth_of_a_nat_of_closed_form_and_calibrated() -> None:
    """Mean absolute error over 1,000 data sets of either model, 8,000 simulations of each."""
    networks = sf.FitSettings(size="small", members=2, train=sf.TrainSettings(epochs=30, batch_size=128))
    found = again(n_simulations=8000, settings=sf.ModelChoiceSettings(networks=networks, evidence=False))
    y = np.concatenate([sf.simulate(model, 500, seed=9 + i).y for i, model in enumerate(MODELS.values())])
    factors = found.predict(y).query("model == 'line'")["log_bayes_factor"].to_numpy()
    assert np.abs(factors - np.diff(log_evidence(y))[:, 0]).mean() < 0.12
    assert found.calibration_test.level == "trust"
    assert all(curve.inside for curve in found.calibration_test.curves)


@pytest.mark.slow
def test_data_of_several_arrays_are_compared_as_well() -> None:
    """y ~ N(0, I + s^2 1 1'): at a mean of 0, the narrow prior is the better model."""
    y = {"a": np.zeros(3), "b": np.zeros(12)}
    found = again(models={"narrow": of_two, "wide": of_two_wide}, y_obs=y, n_simulations=1000)
    exact = -0.5 * (np.log1p(15 * 9) - np.log1p(15))
    assert abs(row(found, "classifier", "wide")["log_bayes_factor"] - exact) < 0.6
    assert found.probabilities["narrow"] == pytest.approx(expit(-exact), abs=0.12)
