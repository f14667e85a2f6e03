"""A model in a file whose summaries the network sees: the verbs need the model again, and say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sbi_flows as sf
from tests.test_cli import one_line, refusal, run

MODEL = """
import numpy as np
from scipy.stats import uniform
import sbi_flows as sf

prior = sf.Prior(rate=uniform(0.5, 5), size=uniform(1, 4))

def two(y):
    return np.stack([y.mean(axis=1), y.std(axis=1)], axis=1)

def counted(theta, rng):
    return rng.poisson((theta["rate"] * theta["size"])[:, None], (len(theta["rate"]), 6)).astype(float)

counts = sf.simulator(prior, event_shape=(6,), summaries=two)(counted)
others = sf.simulator(prior, event_shape=(6,), summaries=lambda y: 2 * two(y))(counted)
"""
QUICK = ("-n", 800, "--seed", 3, "--size", "small", "--members", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("summaries")
    (folder / "model.py").write_text(MODEL)
    (folder / "observed.csv").write_text("count\n9\n7\n11\n8\n10\n6\n")
    done = run("fit", f"{folder}/model.py:counts", *QUICK, "-o", folder / "p.safetensors")
    assert done.exit_code == 0, done.output
    assert "2 declared summaries join y as input" in one_line(done.output)
    return folder


def test_the_verbs_take_the_model_again(folder: Path) -> None:
    again = ("--simulator", f"{folder}/model.py:counts")
    done = run("infer", folder / "p.safetensors", folder / "observed.csv", *again, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verdict"]["level"] == "trust"
    checked = run("check", folder / "p.safetensors", *again, "-n", 100, "--json")
    assert json.loads(checked.stdout)["n"] == 100
    page = folder / "r.html"
    compared = run("compare", folder / "p.safetensors", folder / "observed.csv", *again, "-n", 50, "-o", page)
    assert compared.exit_code == 0, compared.output
    assert "which sees the data and 2 declared summaries" in page.read_text()
    new = folder / "q.safetensors"
    done = run("recalibrate", folder / "p.safetensors", *again, "-n", 500, "--n-check", 100, "-o", new)
    assert done.exit_code == (0 if new.exists() else 1), done.output
    if new.exists():
        assert sf.load(new, simulator=sf.load_simulator(again[1])).recalibrated


@pytest.mark.parametrize(
    "verb", ["infer {p} {y}", "check {p}", "compare {p} {y} -o {r}", "recalibrate {p} -o {q}"]
)
def test_without_it_or_with_another_they_say_what_to_pass(folder: Path, verb: str) -> None:
    files = {"p": "p.safetensors", "y": "observed.csv", "r": "s.html", "q": "t.safetensors"}
    words = verb.format(**{name: folder / file for name, file in files.items()}).split()
    said = refusal(*words)
    assert "SummariesError" in said
    assert "--simulator path/to/file.py:attribute" in said
    other = refusal(*words, "--simulator", f"{folder}/model.py:others")
    assert "not those that this posterior was trained with" in other


def test_the_switch_makes_a_file_that_needs_no_model(folder: Path) -> None:
    path = folder / "without.safetensors"
    done = run("fit", f"{folder}/model.py:counts", *QUICK, "--no-declared-summaries", "-o", path)
    assert "declared_summaries=False" in one_line(done.output)
    assert run("infer", path, folder / "observed.csv").exit_code == 0
    assert sf.load(path).declared_summaries == 0


def test_a_plugin_is_found_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "tits.safetensors"
    assert run("fit", "great_tits", *QUICK, "-o", path).exit_code == 0
    observed = tmp_path / "y.csv"
    observed.write_text("\n".join(str(int(v)) for v in sf.load_simulator("great_tits").data("wytham_wood")))
    done = run("infer", path, observed, "--json")
    assert done.exit_code == 0, done.output
    assert sf.load(path).declared_summaries > 0
