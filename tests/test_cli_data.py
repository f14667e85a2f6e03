"""Gaps, named channels and several arrays on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import sbi_flows as sf
from tests.test_cli import one_line, refusal, run

MODEL = """
import numpy as np
from scipy.stats import uniform
import sbi_flows as sf

prior = sf.Prior(rate=uniform(0.5, 5), ratio=uniform(1, 4))

def poisson(mean, rng, *shape):
    return rng.poisson(mean.reshape(-1, *(1 for _ in shape)), (len(mean), *shape)).astype(float)

@sf.simulator(prior, data=sf.Series(channels=("young", "adults")), missing=True)
def birds(theta, rng):
    channels = poisson(theta["rate"], rng, 8), poisson(theta["rate"] * theta["ratio"], rng, 8)
    y = np.stack(channels, axis=2)
    y[rng.random(y.shape) < 0.1] = np.nan
    return y

@sf.simulator(prior, data=sf.Vector(columns=("low", "high")))
def pair(theta, rng):
    exact = np.stack([theta["rate"], theta["rate"] * theta["ratio"]], axis=1)
    return exact + rng.random(exact.shape)

@sf.simulator(prior, data={"counts": sf.Series(), "map": sf.Grid()})
def two(theta, rng):
    return {"counts": poisson(theta["rate"], rng, 6), "map": poisson(theta["ratio"], rng, 3, 4)}

@sf.simulator(prior, data=sf.Series())
def counts(theta, rng):
    return poisson(theta["rate"] * theta["ratio"], rng, 6)
"""
SMALL = ("-n", 200, "--members", 1, "--size", "small", "--json")
MAP = np.arange(12.0).reshape(3, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulators, data, and a posterior of each of three."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "model.py").write_text(MODEL)
    for name in ("birds", "pair", "two"):
        fitted(folder, name, f"{name}.safetensors")
    (folder / "counts.csv").write_text("n\n3\n2\n4\n1\n0\n5\n")
    (folder / "gaps.csv").write_text("n\n3\n\n4\nNA\n0\n5\n")
    np.save(folder / "map.npy", MAP)
    np.savetxt(folder / "map.csv", MAP, delimiter=",")
    return folder


def fitted(folder: Path, name: str, output: str, *options: object) -> sf.Posterior:
    done = run("fit", f"{folder}/model.py:{name}", *SMALL, *options, "-o", folder / output)
    assert done.exit_code == 0, done.output
    return sf.load(folder / output)


def summary(*arguments: object) -> object:
    done = run("infer", *arguments, "-n", 50, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["summary"]


def test_channels_are_found_by_name_and_other_names_are_refused(folder: Path) -> None:
    young, adults = [3, 2, "", 4, 1, 0, 2, 3], [6, 8, 7, "NA", 9, 5, 4, 7]
    tables = {
        "right.csv": ["young,adults", *(f"{a},{b}" for a, b in zip(young, adults, strict=True))],
        "swapped.csv": ["adults,young", *(f"{b},{a}" for a, b in zip(young, adults, strict=True))],
        "other.csv": ["young,old", *(f"{a},{b}" for a, b in zip(young, adults, strict=True))],
        "none.csv": [f"{a},{b}" for a, b in zip(young, adults, strict=True)],
    }
    for name, lines in tables.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    posterior = folder / "birds.safetensors"
    right = summary(posterior, folder / "right.csv")
    assert summary(posterior, folder / "swapped.csv") == right
    assert summary(posterior, folder / "none.csv") == right
    text = refusal("infer", posterior, folder / "other.csv")
    assert "young, old; wanted young, adults" in text
    assert "Rename" in text


def test_a_header_names_the_entries_of_a_vector_too(folder: Path) -> None:
    posterior = folder / "pair.safetensors"
    (folder / "pair.csv").write_text("high,low\n7,2\n")
    (folder / "column.csv").write_text("value\n2\n7\n")
    (folder / "stack.csv").write_text("high,low\n7,2\n9,3\n")
    assert summary(posterior, folder / "pair.csv") == summary(posterior, folder / "column.csv")
    draws = sf.load(posterior).sample([[2, 7], [3, 9]], 50, seed=0)
    found = run("infer", posterior, folder / "stack.csv", "-n", 50, "-o", folder / "draws.csv")
    assert found.exit_code == 0, found.output
    written = np.loadtxt(folder / "draws.csv", delimiter=",", skiprows=1)[:, 1:]
    np.testing.assert_array_equal(written, draws.values.reshape(-1, 2))


def test_a_mapping_is_a_file_for_each_array_in_any_order(folder: Path) -> None:
    posterior = folder / "two.safetensors"
    counts, as_csv = f"counts={folder}/counts.csv", f"map={folder}/map.csv"
    assert summary(posterior, counts, f"map={folder}/map.npy") == summary(posterior, as_csv, counts)
    simulator = ("--simulator", f"{folder}/model.py:two")
    done = run("compare", posterior, counts, as_csv, *simulator, "-o", folder / "report.html")
    assert done.exit_code == 0, done.output
    page = (folder / "report.html").read_text()
    assert "Observed map map of 3 x 4 places" in page
    assert "sbi-flows compare two.safetensors counts=counts.csv map=map.csv" in page
    observed = ("--observed", counts, "--observed", as_csv)
    done = run("check", posterior, "-n", 200, *observed, *simulator, "--json", "-o", folder / "check.html")
    assert done.exit_code in (0, 1), done.output
    assert json.loads(done.stdout)["observed"] == [counts, as_csv]


@pytest.mark.parametrize(
    ("posterior", "files", "words"),
    [
        ("two", ["counts.csv"], "counts=counts.csv map=map.csv; got"),
        ("two", ["counts=counts.csv"], "give a file for each"),
        ("two", ["counts=counts.csv", "maps=map.csv"], "give a file for each"),
        ("two", ["counts=map.csv", "map=counts.csv"], "'counts'"),
        ("two", ["counts=counts.csv", "map=absent.csv"], "absent.csv: there is no such file"),
        (
            "two",
            ["counts=gaps.csv", "map=map.csv"],
            "sbi-flows fit ... --like counts=gaps.csv --like map=map.csv",
        ),
        ("pair", ["counts=counts.csv"], "one array, without a name"),
        ("pair", [], "Missing argument"),
    ],
)
def test_files_that_do_not_fit_are_refused_in_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch, posterior: str, files: list[str], words: str
) -> None:
    monkeypatch.chdir(folder)
    assert words in refusal("infer", f"{posterior}.safetensors", *files)


def test_a_fit_is_trained_for_gaps_lengths_or_the_pattern_of_a_file(folder: Path) -> None:
    posterior = fitted(folder, "counts", "range.safetensors", "--gaps", 0, 0.3, "--lengths", 2, 6)
    assert posterior.observe is not None
    wanted = [sf.lengths(2, 6).to_json(), sf.gaps((0, 0.3)).to_json()]
    assert posterior.observe.to_json() == wanted
    summary(folder / "range.safetensors", folder / "gaps.csv")
    like = fitted(folder, "counts", "like.safetensors", "--like", folder / "gaps.csv")
    assert like.observe is not None
    assert like.observe.parts[0].there.tolist() == [[True, False, True, False, True, True]]  # type: ignore[attr-defined]
    done = run("infer", folder / "like.safetensors", folder / "gaps.csv", folder / "gaps.csv", "-n", 20)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--gaps 0.3 0", "in order"),
        ("--gaps 0 1", "Invalid value for '--gaps'"),
        ("--gaps 0.3", "Invalid value for '--gaps'"),
        ("--lengths 12 30", "makes 6 steps"),
        ("--lengths 5 2", "at least 5"),
        ("--like absent.csv", "no such file"),
        ("--like gaps.csv --gaps 0 0.3", "not both"),
        ("--like x=gaps.csv", "give the file alone"),
    ],
)
def test_patterns_that_do_not_fit_are_refused_in_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: str, words: str
) -> None:
    monkeypatch.chdir(folder)
    assert words in refusal("fit", "model.py:counts", *SMALL, *options.split(), "-o", "x.safetensors")


def test_the_output_is_never_a_file_of_the_data(folder: Path) -> None:
    counts = folder / "counts.csv"
    text = refusal(
        "infer", folder / "two.safetensors", f"counts={counts}", f"map={folder}/map.csv", "-o", counts
    )
    assert "would be lost" in text
    text = refusal("fit", f"{folder}/model.py:counts", "--like", counts, "-o", counts)
    assert "would be lost" in text


def test_a_file_whose_own_name_holds_a_sign_of_equality_is_read(folder: Path) -> None:
    (folder / "a=b.csv").write_text("low,high\n2,7\n")
    (folder / "plain.csv").write_text("low,high\n2,7\n")
    posterior = folder / "pair.safetensors"
    assert summary(posterior, folder / "a=b.csv") == summary(posterior, folder / "plain.csv")


def test_list_says_what_the_data_are_and_help_says_how_they_are_given() -> None:
    assert "y of shape" in run("list").stdout
    assert all("shape" in entry["data"] for entry in json.loads(run("list", "--json").stdout) if entry["ok"])
    shown = one_line(run("fit", "--help").output)
    for option in ("--gaps LEAST MOST", "--lengths LEAST MOST", "--like [NAME=]FILE"):
        assert option in shown
    for verb in ("infer", "compare"):
        assert "counts=counts.csv map=map.npy" in one_line(run(verb, "--help").output)
