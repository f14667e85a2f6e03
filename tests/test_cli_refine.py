"""The verb refine, on the Gaussian plug-in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import sbi_flows as sf
from tests.exact.gaussian_toy import EVIDENCE, MEAN, SD
from tests.test_cli import refusal, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, gaussian_posterior: sf.Posterior) -> Path:
    folder = tmp_path_factory.mktemp("refine")
    gaussian_posterior.save(folder / "p.safetensors")
    (folder / "observed.csv").write_text("y\n0.8\n-0.3\n")
    np.save(folder / "two.npy", np.zeros((2, 2)))
    return folder


def test_refine_prints_a_summary_and_a_verdict_and_writes_the_draws(folder: Path) -> None:
    given = ("refine", folder / "p.safetensors", folder / "observed.csv", "-n", 1000)
    more = ("--method", "likelihood", "--workers", 1, "-o", folder / "draws.csv", "--json")
    done = run(*given, *more)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["verdict"]["level"] == "trust"
    assert found["origin"] == "exact, importance sampling"
    assert found["log_evidence"] == pytest.approx(EVIDENCE, abs=4.5 * found["log_evidence_error"])
    draws = np.loadtxt(folder / "draws.csv", delimiter=",", skiprows=1)
    assert draws.shape == (1000, 2)
    assert (np.abs(draws.mean(axis=0) - MEAN) < 4.5 * SD * np.sqrt(1 / 1000 + found["error"] ** 2)).all()
    again = run(*given)
    assert again.exit_code == 0
    assert "closed form" in again.output


def test_a_budget_that_is_too_small_is_said(folder: Path) -> None:
    given = ("refine", folder / "p.safetensors", folder / "observed.csv", "--method", "likelihood")
    done = run(*given, "--budget", 100, "--workers", 1, "--json")
    found = json.loads(done.stdout)
    assert found["evaluations"] <= 100
    assert found["verdict"]["level"] == "do not trust"


def test_mistakes_exit_with_2_and_say_what_to_change(folder: Path) -> None:
    file, observed = folder / "p.safetensors", folder / "observed.csv"
    assert "one observation at a time" in refusal("refine", file, folder / "two.npy")
    assert "--method" in refusal("refine", file, observed, "--method", "exact")
    assert ".nc or .csv" in refusal("refine", file, observed, "-o", folder / "draws.pdf")
    assert "--minutes" in refusal("refine", file, observed, "--minutes", 0)
