"""Studies: methods on many data sets with known truth; tables, resuming, pages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.comparison import study as study_module
from sbi_flows.comparison.methods import ABC, ADJUSTED, EXACT, NEURAL
from sbi_flows.errors import BankMismatchError, CorruptFileError, SettingsError
from simulators.gaussian import make_gaussian


@pytest.fixture(scope="module")
def found(gaussian_posterior: sf.Posterior) -> sf.Study:
    return sf.study(gaussian_posterior, make_gaussian(2), observations=16, n=300, seed=1)


def test_each_method_has_a_row_for_each_data_set_and_parameter(found: sf.Study) -> None:
    assert found.methods == (NEURAL, ABC, ADJUSTED, EXACT)
    assert len(found.table) == 16 * 4 * 2
    assert len(found.answers) == 16 * 4
    assert set(found.table["parameter"]) == {"theta_1", "theta_2"}
    assert found.left_out == ()
    assert found.summary["observations"].tolist() == [16] * 4


def test_the_exact_posterior_scores_best_and_its_intervals_hold(found: sf.Study) -> None:
    """Coverage of 32 intervals at 90%: below 0.62 with a chance below 1e-5."""
    summary = found.summary.set_index("method")
    assert summary.loc[EXACT, "energy"] < summary.loc[ABC, "energy"]
    assert summary.loc[EXACT, "coverage_90"] > 0.62
    assert summary.loc[NEURAL, "c2st"] < summary.loc[ABC, "c2st"]
    assert summary.loc[NEURAL, "energy_difference"] == 0
    assert np.isnan(summary.loc[EXACT, "c2st"])


def test_tables_are_files(found: sf.Study, tmp_path: Path) -> None:
    paths = found.export(tmp_path / "paper")
    assert {path.name for path in paths} == {
        *("summary.csv", "answers.csv", "parameters.csv", "study.json"),
        *("scores.svg", "scores.pdf", "coverage.svg", "coverage.pdf"),
    }
    record = json.loads((tmp_path / "paper/study.json").read_text())
    assert len(record["parameters"]) == len(found.table)
    assert record["summary"][3]["c2st"] is None
    assert (tmp_path / "paper/scores.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "paper/scores.svg").read_text().startswith("<svg")
    with pytest.raises(SettingsError, match="svg, pdf"):
        found.export(tmp_path, figures=["eps"])


def test_the_page_shows_both_figures_and_every_method(found: sf.Study, tmp_path: Path) -> None:
    found.to_html(tmp_path / "study.html")
    page = (tmp_path / "study.html").read_text()
    assert page.count("<svg") == 2
    assert all(method in page for method in found.methods)


def test_a_study_resumes_and_is_no_other(gaussian_posterior: sf.Posterior, tmp_path: Path) -> None:
    simulator = make_gaussian(2)
    said: list[str] = []

    def stop(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            raise KeyboardInterrupt

    options = {"observations": 4, "n": 200, "methods": "neural", "store": tmp_path / "study"}
    with pytest.raises(KeyboardInterrupt):
        sf.study(gaussian_posterior, simulator, say=stop, **options)
    assert len(list((tmp_path / "study").iterdir())) == 2
    again = sf.study(gaussian_posterior, simulator, **options)
    whole = sf.study(gaussian_posterior, simulator, **{**options, "store": None})
    assert again.table.equals(whole.table)
    with pytest.raises(BankMismatchError, match="another study"):
        sf.study(gaussian_posterior, simulator, **options, seed=3)
    (tmp_path / "study/observation_000000.json").write_text("{")
    with pytest.raises(CorruptFileError, match="Remove it"):
        sf.study(gaussian_posterior, simulator, **options)


def test_what_a_method_raises_is_noted_and_the_others_go_on(
    gaussian_posterior: sf.Posterior, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = make_gaussian(2)
    simulator.exact_posterior = None
    simulator.log_likelihood = lambda theta, y, rng: np.full(3, np.nan)
    found = sf.study(gaussian_posterior, simulator, observations=2, n=200)
    assert EXACT not in found.methods
    assert {note.kind for note in found.left_out} == {"method left out"}
    assert len(found.left_out) == 2


def test_failed_simulations_are_counted_and_left_out(gaussian_posterior: sf.Posterior) -> None:
    plain = make_gaussian(2)

    def often(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        y = np.array(plain.function(theta, rng))
        y[rng.random(len(y)) < 0.3] = np.nan
        return y

    failing = sf.Simulator(often, plain.prior, event_shape=2)
    with pytest.warns(sf.errors.SimulationWarning, match="failed"):
        theta, y, failed = study_module._pairs(failing, 40, 5, {})
    assert (len(theta), len(y)) == (40, 40)
    assert failed > 0
    assert np.isfinite(y).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"observations": 1}, "observations"),
        ({"methods": ["neural", "bayes"]}, "no method 'bayes'"),
        ({"n_simulations": 0}, "n_simulations"),
        ({"cores": 2}, "no option cores"),
    ],
)
def test_bad_options_are_refused(
    gaussian_posterior: sf.Posterior, options: dict[str, object], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        sf.study(gaussian_posterior, make_gaussian(2), **options)  # type: ignore[arg-type]
