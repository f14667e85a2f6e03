"""The verbs, end to end on a small simulator of the user's own. Every mistake: exit code 2, the kind of
error, and the value or option to change.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import sbi_flows as sf
from sbi_flows.cli import main

MODEL = """
import numpy as np
from scipy.stats import uniform
import sbi_flows as sf

prior = sf.Prior(rate=uniform(0.5, 5), size=uniform(1, 4))

@sf.simulator(prior, event_shape=(6,))
def counts(theta, rng):
    return rng.poisson((theta["rate"] * theta["size"])[:, None], (len(theta["rate"]), 6)).astype(float)

@sf.simulator(prior)
def too_few_rows(theta, rng):
    return np.zeros((3, 6))

@sf.simulator(prior, event_shape=(6,))
def always_raises(theta, rng):
    raise RuntimeError("the reservoir is empty")
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def one_line(text: str) -> str:
    """Text without the line breaks that a terminal needs."""
    return " ".join(text.split())


def refusal(*arguments: object) -> str:
    """What a mistake prints, without line breaks."""
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    return one_line(done.output)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file, observed data and a posterior made by the command line."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "model.py").write_text(MODEL)
    (folder / "observed.csv").write_text("count\n9\n7\n11\n8\n10\n6\n")
    sizes = ("-n", 1000, "--seed", 3, "--size", "small", "--members", 2)
    done = run("fit", f"{folder}/model.py:counts", *sizes, "-o", folder / "p.safetensors")
    assert done.exit_code == 0, done.output
    return folder


def test_list_names_the_installed_plugins() -> None:
    names = [entry["name"] for entry in json.loads(run("list", "--json").stdout)]
    assert {"ricker", "great_tits", "gaussian", "two_moons", "bernoulli_glm"} <= set(names)
    assert "classic" in run("list").stdout


def test_fit_says_what_it_chose_and_why(folder: Path) -> None:
    done = run("fit", f"{folder}/model.py:counts", "-n", 250, "-o", folder / "q.safetensors")
    notes = sf.load(folder / "q.safetensors").notes
    assert len(notes) > 3
    assert [note for note in notes if note not in one_line(done.output)] == []
    assert repr(sf.load(folder / "q.safetensors")) in done.stdout


def test_simulate_makes_a_bank_that_fit_takes(folder: Path) -> None:
    bank = folder / "bank"
    done = run("simulate", f"{folder}/model.py:counts", "-n", 150, "-o", bank, "--seed", 4, "--json")
    made = json.loads(done.stdout)
    assert (made["n"], made["in_bank"], made["status"]) == (150, 1000, {"ok": 1000})
    again = run("simulate", f"{folder}/model.py:counts", "-n", 250, "-o", bank, "--seed", 4)
    assert "1,000 ok" in again.stdout
    assert "250 were asked for" in again.stdout
    fitted = run(
        *("fit", f"{folder}/model.py:counts", "--simulations", bank, "--size", "small", "--members", 2),
        *("-o", folder / "b.safetensors", "--json"),
    )
    assert json.loads(fitted.stdout)["simulation_seed"] == 4
    assert "valid_loss_first_member" in json.loads(fitted.stdout)
    assert "valid_loss" not in json.loads(fitted.stdout)
    other = run("simulate", f"{folder}/model.py:counts", "-n", 10, "-o", bank, "--seed", 5)
    assert other.exit_code == 2
    assert "BankMismatchError" in other.output
    assert "seed: 4" in one_line(other.output)


def test_simulate_with_workers_gives_the_same_bytes(folder: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        done = run(
            "simulate", f"{folder}/model.py:counts", "-n", 3000, "-o", folder / name, "--workers", workers
        )
        assert done.exit_code == 0, done.output
    files = [
        {p.relative_to(folder / name): p.read_bytes() for p in (folder / name).rglob("*.safetensors")}
        for name in ("one", "two")
    ]
    assert files[0] == files[1]
    assert len(files[0]) == 3


def test_infer_prints_a_summary_and_a_verdict_and_writes_the_draws(folder: Path) -> None:
    given = ("infer", folder / "p.safetensors", folder / "observed.csv")
    done = run(*given, "-n", 300, "-o", folder / "draws.csv", "--seed", 1)
    assert done.exit_code == 0, done.output
    assert "verdict: trust" in done.output
    written = np.loadtxt(folder / "draws.csv", delimiter=",", skiprows=1)
    expected = sf.load(folder / "p.safetensors").sample([9, 7, 11, 8, 10, 6], 300, seed=1).to_numpy()
    assert np.array_equal(written, expected)
    as_json = json.loads(run(*given, "-o", folder / "draws.nc", "--json").stdout)
    assert as_json["verdict"]["ok"] is True
    assert [row["parameter"] for row in as_json["summary"]] == ["rate", "size"]


def test_check_tests_the_posterior_and_writes_a_page(folder: Path) -> None:
    page = folder / "check.html"
    options = ("--simulator", f"{folder}/model.py:counts", "-n", 200, "-o", page)
    done = run("check", folder / "p.safetensors", *options, "--json")
    found = json.loads(done.stdout)
    assert [row["quantity"] for row in found["quantities"]][:3] == ["rate", "size", "log q"]
    assert {row["quantity"] for row in found["table"]} >= {"rate", "log q"}
    assert "y_obs" not in {row["quantity"] for row in found["table"]}
    assert (done.exit_code == 1) == (found["verdict"]["level"] == "do not trust")
    assert "counts" in page.read_text()


def test_check_at_an_observation_tests_there_too(folder: Path) -> None:
    options = ("--simulator", f"{folder}/model.py:counts", "-n", 200, "--observed", folder / "observed.csv")
    found = json.loads(run("check", folder / "p.safetensors", *options, "--json").stdout)
    assert "y_obs" in {row["quantity"] for row in found["table"]}
    assert found["observed"] == str(folder / "observed.csv")


def test_recalibrate_writes_what_is_better_and_nothing_else(folder: Path) -> None:
    new = folder / "new.safetensors"
    options = ("--simulator", f"{folder}/model.py:counts", "-n", 500, "--n-check", 200, "-o", new)
    done = run("recalibrate", folder / "p.safetensors", *options, "--json")
    found = json.loads(done.stdout)
    assert (done.exit_code == 0) == found["better"] == new.exists()
    assert found["before"]["n"] == found["after"]["n"] == 200
    if found["better"]:
        [said] = [note for note in sf.load(new).notes if note.kind == "recalibrated"]
        assert said.values["pairs"] == 500


@pytest.mark.slow
def test_a_learning_curve_says_whether_more_would_help(folder: Path) -> None:
    done = run("learning-curve", f"{folder}/model.py:counts", "-n", 400, "--sizes", "100,200,400", "--json")
    found = json.loads(done.stdout)
    assert [row["simulations"] for row in found["table"]] == [100, 200, 400]
    assert "400 simulations" in found["text"]


def test_compare_writes_the_report(folder: Path) -> None:
    options = ("--simulator", f"{folder}/model.py:counts", "-o", folder / "r.html")
    done = run("compare", folder / "p.safetensors", folder / "observed.csv", *options)
    assert done.exit_code == 0, done.output
    assert "rejection ABC" in done.output
    page = (folder / "r.html").read_text()
    assert page.count("<svg") == 5
    assert "log_likelihood" in page


def test_the_draws_of_several_observations_are_told_apart(folder: Path) -> None:
    np.save(folder / "two.npy", [[9.0, 7, 11, 8, 10, 6], [1.0, 2, 0, 1, 3, 2]])
    done = run("infer", folder / "p.safetensors", folder / "two.npy", "-n", 10, "-o", folder / "two.csv")
    assert done.exit_code == 0, done.output
    table = np.loadtxt(folder / "two.csv", delimiter=",", skiprows=1)
    assert table[:, 0].tolist() == [0] * 10 + [1] * 10
    refused = run("infer", folder / "p.safetensors", folder / "two.npy", "-o", folder / "two.nc")
    assert refused.exit_code == 2
    assert "Write .csv" in one_line(refused.output)


def test_every_verb_has_help_and_a_seed() -> None:
    for verb in main.commands:
        shown = run(verb, "--help")
        assert shown.exit_code == 0
        assert verb == "list" or "--seed" in shown.output
        assert verb == "demo" or "--json" in shown.output


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("absent.csv", None, "no such file"),
        ("words.csv", "count\n9\nseven\n11\n8\n10\n6\n", "line 3: found 'seven'"),
        ("long.csv", "9\n7\n11\n8\n10\n6\n5\n", "(7,)"),
        ("nan.csv", "9\n7\nnan\n8\n10\n6\n", "NaN"),
        ("empty.csv", "", "no numbers"),
        ("ragged.csv", "1,2\n3\n", "1 columns where line 1 has 2"),
        ("data.txt", "1\n", ".csv or .npy"),
    ],
)
def test_observed_data_that_cannot_be_used(folder: Path, name: str, text: str | None, words: str) -> None:
    if text is not None:
        (folder / name).write_text(text)
    assert words in refusal("infer", folder / "p.safetensors", folder / name)


@pytest.mark.parametrize("values", ["9\n-7\n11\n8\n10\n6\n", "9\n7.5\n11\n8\n10\n6\n"])
def test_negative_or_fractional_counts_are_a_warning_in_the_verdict(folder: Path, values: str) -> None:
    (folder / "odd.csv").write_text(values)
    done = run("infer", folder / "p.safetensors", folder / "odd.csv", "-n", 50)
    assert done.exit_code == 0
    assert "negative or fractional" in one_line(done.output)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ("fit rickr -o {}/x", "PluginError", "'rickr'"),
        ("fit rickr -o {}/x", "PluginError", "bernoulli_glm, bernoulli_glm_raw, gaussian"),
        ("fit no.such.module:sim -o {}/x", "PluginError", "no.such.module"),
        ("fit {}/none.py:sim -o {}/x", "PluginError", "no such file"),
        ("fit {}/model.py:nothing -o {}/x", "PluginError", "always_raises, counts, too_few_rows"),
        ("fit {}/model.py:too_few_rows -n 500 -o {}/x", "SimulatorContractError", "(3, 6)"),
        ("fit {}/model.py:always_raises -n 500 -o {}/x", "TooManyFailuresError", "the reservoir is empty"),
        ("fit {}/model.py:counts -n 40 -o {}/x", "Invalid value for '-n'", "40"),
        (
            "fit {}/model.py:counts -n 100 --minutes 1 -o {}/x",
            "SettingsError",
            "-n, --minutes and --simulations",
        ),
        ("fit {}/model.py:counts --simulations {}/nobank -o {}/x", "StorageError", "nobank"),
        ("fit ricker -o /no/such/folder/x", "SettingsError", "/no/such/folder"),
        ("fit ricker -n -5 -o {}/x", "Invalid value for '-n'", "-5"),
        ("infer {}/none.safetensors {}/observed.csv", "StorageError", "posterior"),
        ("infer {}/observed.csv {}/observed.csv", "CorruptFileError", "observed.csv"),
        ("infer {}/p.safetensors {}/observed.csv -o {}/draws.pdf", "SettingsError", ".nc or .csv"),
        ("infer {} {}/observed.csv", "Invalid value for 'POSTERIOR'", "directory"),
        ("infer {}/p.safetensors {}", "Invalid value for 'OBSERVED'", "directory"),
        ("check {}", "Invalid value for 'POSTERIOR'", "directory"),
        ("check {}/p.safetensors", "SettingsError", "--simulator"),
        ("check {}/p.safetensors --simulator gaussian", "SettingsError", "gaussian"),
        (
            "check {}/p.safetensors --observed {}/none.csv --simulator {}/model.py:counts",
            "ObservationError",
            "none.csv",
        ),
        (
            "compare {}/p.safetensors {}/observed.csv --simulator ricker -o {}/r.html",
            "SettingsError",
            "ricker",
        ),
        ("compare {}/p.safetensors {} -o {}/r.html", "Invalid value for 'OBSERVED'", "directory"),
        ("recalibrate {}/p.safetensors -o /no/such/folder/x", "SettingsError", "/no/such/folder"),
        ("recalibrate {}/p.safetensors -n 100 -o {}/x", "Invalid value for '-n'", "100"),
        ("learning-curve {}/model.py:counts -n 300 --sizes a,b", "SettingsError", "'a,b'"),
        ("learning-curve {}/model.py:counts -n 300 --sizes 1,2", "SettingsError", "'1,2'"),
        (
            "learning-curve {}/model.py:counts -n 300 --simulations {}/nobank",
            "SettingsError",
            "-n and --simulations",
        ),
    ],
)
def test_every_mistake_names_its_kind_and_what_to_change(
    folder: Path, arguments: str, error: str, words: str
) -> None:
    text = refusal(*arguments.replace("{}", str(folder)).split())
    assert error in text
    assert words in text
