"""What a user at a prompt is told: options and not arguments, the line, the likely slip, what is kept, and
what a bank holds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sbi_flows as sf
from sbi_flows.calibration import check, learning_curve, recalibrate
from sbi_flows.cli.observed_files import NamedFile, observation
from sbi_flows.cli.reading import Reading
from sbi_flows.comparison import compare
from sbi_flows.npe.settings import ROWS_PER_PARAMETER
from sbi_flows.problem.events import Events
from sbi_flows.training.rows import LEAST_ROWS
from tests.test_cli import MODEL, one_line, refusal, run

ROW_BY_ROW = """
@sf.simulator(prior, event_shape=(6,), vectorized=False)
def one_by_one(theta, rng):
    return rng.poisson(theta["rate"] * theta["size"], 6).astype(float)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.py").write_text(MODEL + ROW_BY_ROW)
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "there", "why"),
    [
        ([5], 1000, "5 were asked for, whole blocks"),
        ([2000, 200], 2000, "200 were asked for, the bank held more"),
        ([1000], 1000, None),
    ],
)
def test_simulate_counts_what_the_bank_holds(
    folder: Path, asked: list[int], there: int, why: str | None
) -> None:
    for n in asked:
        done = run("simulate", "toy.py:counts", "-n", n, "-o", "bank")
    assert done.stdout.startswith(f"bank: {there:,} ")
    assert f"({there:,} ok)" in done.stdout
    assert why in done.stdout if why else "asked for" not in done.stdout
    found = json.loads(run("simulate", "toy.py:counts", "-n", asked[-1], "-o", "bank", "--json").stdout)
    assert (found["n"], found["in_bank"], found["status"]) == (asked[-1], there, {"ok": there})
    assert len(sf.read_bank("bank")) == there


def test_row_by_row_the_bank_holds_what_was_asked_for(folder: Path) -> None:
    found = json.loads(run("simulate", "toy.py:one_by_one", "-n", 7, "-o", "bank", "--json").stdout)
    assert (found["n"], found["in_bank"]) == (7, 7)


def test_a_damaged_block_beyond_those_asked_for_is_not_passed_over(folder: Path) -> None:
    run("simulate", "toy.py:counts", "-n", 3000, "-o", "bank")
    block = next(Path("bank").rglob("00000002.safetensors"))
    block.write_bytes(block.read_bytes()[:-1])
    text = refusal("simulate", "toy.py:counts", "-n", 1000, "-o", "bank")
    assert "00000002.safetensors" in text
    assert "1,000 simulations" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("learning-curve toy.py:counts -n 20", "TooFewSimulationsError 20 1/16 50 -n --sizes"),
        ("learning-curve bernoulli_glm -n 3000", "TooFewSimulationsError 250 -n"),
        ("learning-curve toy.py:counts -n 400 --sizes 20,200,400", "TooFewSimulationsError --sizes: 20 50"),
        ("learning-curve toy.py:counts --sizes 100,200,100", "SettingsError --sizes 3 '100,200,100'"),
        ("fit bernoulli_glm -n 60 -o p.st", "TooFewSimulationsError 60 10 -n 10000"),
        ("fit toy.py:counts -n 1 -o p.st", "x>=50"),
        ("check p.st -n 99", "x>=100"),
        ("recalibrate p.st -n 499 -o q.st", "x>=500"),
        ("compare p.st data.csv -n 19 -o page.html", "x>=20"),
    ],
)
def test_too_few_is_said_in_options(folder: Path, arguments: str, words: str) -> None:
    text = refusal(*arguments.split())
    assert [word for word in words.split() if word not in text] == []
    assert "n_simulations" not in text


def help_of(verb: str) -> str:
    return one_line(run(verb, "--help").output)


def test_the_least_numbers_of_the_help_are_those_of_the_package() -> None:
    for verb, least in {
        "check": check._LEAST_PAIRS,
        "recalibrate": recalibrate._LEAST_PAIRS,
        "compare": compare._LEAST_DRAWS,
        "fit": LEAST_ROWS,
    }.items():
        assert f"x>={least}]" in help_of(verb)
    text = help_of("learning-curve")
    assert f"at least {learning_curve._LEAST_SIZES} " in text
    assert f"at least {16 * LEAST_ROWS}," in text
    assert f"at least {16 * ROWS_PER_PARAMETER} per parameter" in text
    assert f"at least {ROWS_PER_PARAMETER} per parameter" in help_of("fit")
    assert f"at least {2 * check._LEAST_PAIRS}" in help_of("check")


def test_list_prints_the_array_that_its_help_says() -> None:
    assert "JSON array" in help_of("list")
    assert isinstance(json.loads(run("list", "--json").stdout), list)


def read_csv(event_shape: tuple[int, ...]) -> Any:
    return observation([NamedFile("", Path("data.csv"))], Events.plain(event_shape), Reading())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2  3\n4 5  6\n", "spaces"),
        ('"x" "y"\n"1" 2 3\n"2" 4 5\n', "spaces"),
        ("1,5;2,5\n3,5;4,5\n", None),
        ("1\nseven\n", None),
        ("1, 2\n3, four\n", None),
    ],
)
def test_columns_without_commas_are_told_from_words(folder: Path, text: str, words: str | None) -> None:
    (folder / "data.csv").write_text(text)
    with pytest.raises(sf.errors.ObservationError) as caught:
        read_csv((3,))
    notes = getattr(caught.value, "__notes__", [])
    assert len(notes) == (words is not None)
    assert all(str(words) in note for note in notes)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import math\n\nx = 1 / 0\n", 3),
        ("def f():\n    raise KeyError('k')\n\n\nf()\n", 2),
        ("x = 1\ny = (\n", 2),
        ("raise SystemExit\n", 1),
    ],
)
def test_a_file_that_cannot_be_run_is_named_with_the_line(folder: Path, source: str, line: int) -> None:
    (folder / "broken.py").write_text(source)
    text = refusal("simulate", "broken.py:model", "-n", 10, "-o", "bank")
    assert "PluginError" in text
    assert f"line {line} of broken.py" in text


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("lone:counts", "name lone.py:counts"),
        ("toy", "name toy.py:attribute"),
        ("toy.py", "name toy.py:attribute"),
        ("toy:", "toy:: the attribute"),
        ("toy.py:", "toy.py:: the attribute"),
        (":toy", ":toy: the module or file"),
    ],
)
def test_a_slip_in_a_reference_is_recognised(
    folder: Path, reference: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "lone.py").write_text(MODEL)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if Path(place).resolve() != folder])
    assert words in refusal("simulate", reference, "-n", 10, "-o", "bank")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("infer p.st data.csv", "Nothing was saved"),
        ("check p.st", "Nothing was saved"),
        ("simulate ricker -n 10 -o bank", "Nothing was saved"),
        ("simulate ricker -n 10 -o old", "old is kept; the same command resumes"),
        ("fit ricker -o p.st", "--simulations and --checkpoint"),
        ("fit ricker --simulations old -o p.st", "old is kept, the training is not"),
        ("fit ricker --checkpoint none -o p.st", "none holds no checkpoint yet"),
        ("fit ricker --checkpoint begun -o p.st", "begun is kept; the same command resumes"),
    ],
)
def test_ctrl_c_says_what_is_kept(
    folder: Path, arguments: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    Path("old").mkdir()
    Path("begun").touch()
    monkeypatch.setattr(sf, "load", stop)
    monkeypatch.setattr(sf, "load_simulator", stop)
    done = run(*arguments.split())
    assert done.exit_code == 130
    assert words in one_line(done.output)


CHATTY = """
print("the module speaks")


@sf.simulator(prior, event_shape=(6,))
def chatty(theta, rng):
    print("the simulator speaks")
    return rng.poisson((theta["rate"] * theta["size"])[:, None], (len(theta["rate"]), 6)).astype(float)
"""


def test_what_a_simulator_prints_is_not_among_the_results(folder: Path) -> None:
    (folder / "chatty.py").write_text(MODEL + CHATTY)
    done = run("simulate", "chatty.py:chatty", "-n", "50", "-o", "b.bank", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["n"] == 50
    assert "the module speaks" in done.stderr
    assert "the simulator speaks" in done.stderr


def test_a_result_that_cannot_be_written_is_an_error_in_words() -> None:
    code = "import sys; from sbi_flows.cli import main; main(['list'])"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert "StorageError" in done.stderr
    assert "Traceback" not in done.stderr


def test_fit_takes_the_number_size_and_kind_of_networks(folder: Path) -> None:
    options = "-n 200 --members 2 --size small --flow maf -o p.safetensors --json"
    done = run("fit", "toy.py:counts", *options.split())
    assert done.exit_code == 0, done.output
    settings = sf.load("p.safetensors").settings
    assert (settings.members, settings.size, settings.flow) == (2, "small", "maf")
    assert "'huge'" in refusal("fit", "toy.py:counts", "--size", "huge", "-o", "q.safetensors")


@pytest.mark.parametrize(
    ("text", "event_shape", "shape"),
    [
        ("1\n2\n3\n", (1,), (3, 1)),
        ("1\n2\n3\n", (3, 1), (3, 1)),
        ("1,2,3\n4,5,6\n", (3, 1), (2, 3, 1)),
        ("1,2,3\n4,5,6\n", (3,), (2, 3)),
    ],
)
def test_a_csv_has_events_with_one_column_too(
    folder: Path, text: str, event_shape: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    (folder / "data.csv").write_text(text)
    assert read_csv(event_shape).shape == shape
