"""`sbi-flows abc`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import sbi_flows as sf
from sbi_flows.baselines.settings import METHODS
from sbi_flows.cli import main


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["abc", *map(str, arguments)])


@pytest.fixture
def observed(tmp_path: Path) -> Path:
    path = tmp_path / "y.csv"
    path.write_text("0.3\n0.5\n")
    return path


@pytest.mark.parametrize("method", METHODS)
def test_draws_as_json_and_a_file_are_those_of_the_function(
    method: str, observed: Path, tmp_path: Path
) -> None:
    n = 12_000 if method == "synthetic_likelihood" else 2_500
    result = run(
        "gaussian",
        observed,
        "--method",
        method,
        "-n",
        str(n),
        "--seed",
        "3",
        "-o",
        tmp_path / "d.csv",
        "--json",
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    draws = sf.abc(sf.load_simulator("gaussian"), [0.3, 0.5], method=method, n_simulations=n, seed=3)  # type: ignore[arg-type]
    assert found["method"] == method
    assert found["simulations"] == draws.facts["simulations"]
    assert found["verdict"]["level"] == draws.verdict.level
    assert np.loadtxt(tmp_path / "d.csv", delimiter=",", skiprows=1) == pytest.approx(draws.to_numpy())


def test_a_store_resumes_and_a_bank_stands_for_the_first_generation(observed: Path, tmp_path: Path) -> None:
    options = ("gaussian", observed, "--method", "smc", "-n", "2500", "--store", tmp_path / "run")
    first, again = run(*options), run(*options)
    assert first.exit_code == again.exit_code == 0, first.output
    assert first.stdout == again.stdout
    sf.simulate(sf.load_simulator("gaussian"), 1_000, store=tmp_path / "sims.bank")
    result = run(
        "gaussian", observed, "--method", "pmc", "-n", "2500", "--simulations", tmp_path / "sims.bank"
    )
    assert result.exit_code == 0, result.output


def test_what_does_not_belong_together_is_refused(observed: Path, tmp_path: Path) -> None:
    result = run("gaussian", observed, "--method", "smc", "--quantile", "0.1")
    assert result.exit_code == 2
    assert "quantile= is a setting of 'rejection'" in " ".join(result.stderr.split())
    assert run("gaussian", observed, "--method", "magic").exit_code == 2
    assert run("gaussian", observed, "-o", tmp_path / "draws.txt").exit_code == 2
    assert run("gaussian", observed, "--alpha", "1.5").exit_code == 2
