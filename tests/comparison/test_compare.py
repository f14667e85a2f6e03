"""Methods side by side: the numbers of each, both exact methods, and notes on what cannot be run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.comparison.result import ABC, ADJUSTED, EXACT, NEURAL
from sbi_flows.comparison.verdict import FAR, beyond_chance
from sbi_flows.errors import SettingsError, ShapeError
from sbi_flows.notes import Note
from simulators.gaussian import make_gaussian, posterior_moments

Y = np.array([0.8, -0.3])


@pytest.fixture(scope="module")
def comparison(gaussian_posterior: sf.Posterior) -> sf.Comparison:
    return sf.compare(
        gaussian_posterior, Y, make_gaussian(2), truth={"theta_1": 0.5, "theta_2": -0.5}, n=1000, seed=1
    )


def test_the_table_has_a_row_for_each_method_and_parameter(comparison: sf.Comparison) -> None:
    table = comparison.table
    assert list(comparison.draws) == [NEURAL, ABC, ADJUSTED, EXACT]
    assert list(zip(table["method"], table["parameter"], strict=True)) == [
        (method, name) for method in comparison.draws for name in ("theta_1", "theta_2")
    ]
    mean, covariance = posterior_moments(Y)
    exact = table[table["method"] == EXACT]
    sd = np.sqrt(np.diag(covariance))
    assert (np.abs(exact["mean"].to_numpy() - mean) < 4.4 * sd / np.sqrt(1000)).all()
    assert (table["q05"] < table["mean"]).all()
    assert (table["seconds"] >= 0).all()
    assert table["truth"].tolist() == [0.5, -0.5] * 4
    assert table[table["method"] == NEURAL]["simulations"].iloc[0] == 4000


def test_distances_are_taken_from_the_exact_posterior_where_there_is_one(comparison: sf.Comparison) -> None:
    distances = comparison.distances
    assert distances["a"].tolist() == [EXACT] * 3
    assert distances["b"].tolist() == [NEURAL, ABC, ADJUSTED]
    assert distances["c2st"].between(0.4, 1.0).all()
    assert (distances["sliced_wasserstein"] > 0).all()


def test_a_c2st_of_few_draws_counts_only_beyond_chance() -> None:
    """sd 1 / sqrt(8 n) for equal distributions: 0.079 at n = 20, 0.0079 at n = 2000."""
    assert beyond_chance(0.75, 20) is None
    assert beyond_chance(0.81, 20) == 0.81
    assert beyond_chance(0.65, 2000) == 0.65


def test_the_report_is_one_file_with_all_figures(comparison: sf.Comparison, tmp_path: Path) -> None:
    comparison.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 5
    assert "http" not in page.replace("http://www.w3.org", "")
    for words in ("theta_1", EXACT, "sbi-flows fit gaussian -n 4000 --seed 3", comparison.verdict.text[1:]):
        assert words in page


def kinds(notes: tuple[Note, ...]) -> list[str]:
    return [note.kind for note in notes]


def test_without_a_likelihood_the_exact_column_is_left_out_and_said(
    bounded: sf.Simulator, bounded_posterior: sf.Posterior
) -> None:
    found = sf.compare(bounded_posterior, [0.5, 0.2, 0.1], bounded, n=300)
    assert EXACT not in found.draws
    assert kinds(found.left_out) == ["no exact method"]
    assert found.distances["a"].tolist() == [NEURAL] * 2


def test_too_few_simulations_for_abc_leave_it_out_and_say_so(
    bounded: sf.Simulator, bounded_posterior: sf.Posterior
) -> None:
    few = sf.simulate(bounded, 15, seed=1)
    found = sf.compare(bounded_posterior, [0.5, 0.2, 0.1], bounded, simulations=few, n=300)
    assert list(found.draws) == [NEURAL]
    assert "ABC left out" in kinds(found.left_out)


def test_another_simulator_is_refused(bounded_posterior: sf.Posterior) -> None:
    with pytest.raises(SettingsError, match="bounded"):
        sf.compare(bounded_posterior, [0.5, 0.2], make_gaussian(2))


def test_the_report_never_trusts_what_its_own_table_tells_apart(
    comparison: sf.Comparison, gaussian_posterior: sf.Posterior
) -> None:
    score = float(comparison.distances.set_index("b")["c2st"][NEURAL])
    assert comparison.verdict.ok == (score < FAR)
    assert comparison.predictive_check is not None
    assert comparison.predictive_check.p > 0.01
    far = sf.compare(gaussian_posterior, [9.0, -9.0], make_gaussian(2), n=500, seed=1)
    assert far.verdict.level == "do not trust"


def test_the_truth_is_one_row_of_any_leading_shape_inside_the_prior(gaussian_posterior: sf.Posterior) -> None:
    simulator = make_gaussian(2)
    sims = sf.simulate(simulator, 300, seed=1)
    found = sf.compare(
        gaussian_posterior,
        Y,
        simulator,
        simulations=sims,
        truth={"theta_1": np.array([0.5]), "theta_2": np.array([-0.5])},
        n=50,
    )
    assert found.table["truth"].tolist()[:2] == [0.5, -0.5]
    with pytest.raises(ShapeError, match="truth"):
        sf.compare(gaussian_posterior, Y, simulator, simulations=sims, truth=np.zeros((2, 2)))
    with pytest.raises(SettingsError, match="nan"):
        sf.compare(gaussian_posterior, Y, simulator, simulations=sims, truth=[0.0, np.nan])
    with pytest.raises(SettingsError, match="20"):
        sf.compare(gaussian_posterior, Y, simulator, simulations=sims, n=5)


def test_predictions_that_fail_are_said(gaussian_posterior: sf.Posterior) -> None:
    exact = make_gaussian(2)
    sims = sf.simulate(exact, 300, seed=1)

    @sf.simulator(exact.prior, event_shape=(2,))
    def leaky(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        y = np.stack([theta["theta_1"], theta["theta_2"]], axis=1) + rng.standard_normal(
            (len(theta["theta_1"]), 2)
        )
        y[theta["theta_1"] > 0.5] = np.nan
        return y

    said: list[str] = []
    found = sf.compare(gaussian_posterior, Y, leaky, simulations=sims, n=200, say=said.append)
    (note,) = (one for one in found.left_out if one.kind == "predictions not finite")
    assert 0 < note.values["failed"] < note.values["n"] == 1000
    assert f"left out: {note}" in said

    @sf.simulator(exact.prior, event_shape=(2,))
    def broken(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        raise RuntimeError("no licence")

    found = sf.compare(gaussian_posterior, Y, broken, simulations=sims, n=200)
    assert kinds(found.left_out).count("predictions left out") == len(found.draws)
    assert found.predictive_check is None
    assert "predictions" in found.verdict.text


def test_a_likelihood_that_fails_loses_nothing_else(gaussian_posterior: sf.Posterior) -> None:
    exact = make_gaussian(2)

    def wrong(theta: dict[str, np.ndarray], y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        raise RuntimeError("no licence")

    @sf.simulator(exact.prior, event_shape=(2,), log_likelihood=wrong)
    def other(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return np.stack([theta["theta_1"], theta["theta_2"]], axis=1) + rng.standard_normal(
            (len(theta["theta_1"]), 2)
        )

    found = sf.compare(gaussian_posterior, Y, other, simulations=sf.simulate(exact, 300, seed=1), n=200)
    assert EXACT not in found.draws
    (note,) = (one for one in found.left_out if one.kind == "exact left out")
    assert "RuntimeError: no licence (at theta_1 = " in note.values["reason"]
