"""The verb `models`: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from sbi_flows.cli import main

TOY = """
import numpy as np
import sbi_flows as sf
from scipy.stats import norm

def _made(sd):
    @sf.simulator(sf.Prior(m=norm(0, sd)), event_shape=(4,))
    def model(theta, rng):
        return theta["m"][:, None] + rng.standard_normal((len(theta["m"]), 4))
    return model

narrow, wide = _made(1.0), _made(4.0)

@sf.simulator(sf.Prior(m=norm(0, 1)), event_shape=(5,))
def longer(theta, rng):
    return theta["m"][:, None] + rng.standard_normal((len(theta["m"]), 5))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "toy.py").write_text(TOY)
    np.savetxt(tmp_path / "y.csv", [0.1, -0.2, 0.3, 0.0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(words: str) -> Result:
    return CliRunner().invoke(main, ["models", *words.split()])


@pytest.mark.slow
def test_a_page_and_one_json_object(here: Path) -> None:
    given = "narrow=toy.py:narrow wide=toy.py:wide y.csv -n 300 -o page.html --json"
    done = ran(f"{given} --prior narrow=0.4 --prior wide=0.6")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    assert set(found["probabilities"]) == {"narrow", "wide"}
    assert {"by", "model", "probability", "error", "log_bayes_factor"} <= set(found["table"][0])
    assert found["verdict"]["level"] in ("trust", "caution", "do not trust")
    assert set(found["models"]) == {"narrow", "wide"}
    assert {"predicted", "observed", "low", "high"} <= set(found["calibration"]["curves"][0])
    assert (here / "page.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("narrow=toy.py:narrow wide=toy.py:wide", "ObservationError no file .csv observed.csv"),
        ("narrow=toy.py:narrow y.csv", "SettingsError two models"),
        ("a=toy.py:narrow a=toy.py:wide y.csv", "SettingsError 'a' is named twice"),
        ("a=toy.py:narrow b=toy.py:longer y.csv", "ShapeError 'a' (4,) 'b' (5,)"),
        ("a=toy.py:narrow b=toy.py:nobody y.csv", "PluginError nobody"),
        ("a=toy.py:narrow b= y.csv", "SettingsError NAME=VALUE 'b='"),
        ("a=toy.py:narrow b=toy.py:wide y.csv --prior a=much", "SettingsError --prior a=much number"),
        ("a=toy.py:narrow b=toy.py:wide y.csv --prior c=1", "SettingsError 'c' 'a', 'b'"),
        ("a=toy.py:narrow b=toy.py:wide y.csv -n 200 --minutes 1", "SettingsError one of n_simulations"),
        ("a=toy.py:narrow b=toy.py:wide y.csv -o page.txt", "SettingsError .html page.txt"),
        ("a=toy.py:narrow b=toy.py:wide y.csv -o toy.py", "SettingsError toy.py"),
        ("a=toy.py:narrow b=toy.py:wide nothing.csv", "ObservationError nothing.csv"),
        ("a=toy.py:narrow b=toy.py:wide y.csv --simulations a=toy.py", "SettingsError toy.py is a file"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_simulated(here: Path, words: str, said: str) -> None:
    done = ran(words)
    assert done.exit_code == 2, done.output
    kind, *rest = said.split()
    assert kind in done.stderr
    flat = " ".join(done.stderr.split())
    assert [word for word in rest if word not in flat] == []


def test_compare_points_here() -> None:
    assert "models" in CliRunner().invoke(main, ["compare", "--help"]).output
    help_of = CliRunner().invoke(main, ["models", "--help"]).output
    for option in ("-n", "--minutes", "--prior", "--simulations", "--evidence", "--json", "--seed"):
        assert option in help_of
