"""Parameters that depend on one another on the command line: the model's file brings the prior again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.test_cli import one_line, refusal, run

MODEL = """
import numpy as np
from scipy.stats import uniform
import sbi_flows as sf

prior = sf.Prior(young=uniform(0, 1), adult=lambda p: uniform(p["young"], 1 - p["young"]))

@sf.simulator(prior)
def survival(theta, rng):
    both = np.stack([theta["young"], theta["adult"]], axis=1)
    return both + 0.1 * rng.standard_normal(both.shape)
"""
QUICK = ("--seed", 3, "--size", "small", "--members", 1)


def test_the_verbs_take_the_prior_from_the_models_file(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "observed.csv").write_text("young,adult\n0.3,0.5\n")
    model, file = f"{tmp_path}/model.py:survival", tmp_path / "p.safetensors"
    done = run("simulate", model, "-n", 1000, "-o", tmp_path / "bank", "--json")
    assert done.exit_code == 0, done.output
    done = run("fit", model, "--simulations", tmp_path / "bank", *QUICK, "-o", file)
    assert done.exit_code == 0, done.output
    data = (file, tmp_path / "observed.csv")
    assert "On the command line: --simulator" in one_line(refusal("infer", *data))
    draws = tmp_path / "draws.csv"
    done = run("infer", *data, "--simulator", model, "-n", 500, "-o", draws, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verdict"]["level"]
    young, adult = np.loadtxt(draws, delimiter=",", skiprows=1).T
    assert ((young > 0) & (young < adult) & (adult < 1)).all()
