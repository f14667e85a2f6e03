"""What a person at a prompt is told: flags and not arguments, the line, the likely slip, what is kept and
what is in a bank.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import sbi_flows as sf
from sbi_flows.calibration import check, learning_curve, recalibrate
from sbi_flows.comparison import compare
from sbi_flows.npe.estimate import ROWS_A_PARAMETER
from sbi_flows.training.rows import LEAST_ROWS
from tests.test_cli import MODEL, run

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


def words_of(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    return " ".join(done.output.split())


@pytest.mark.parametrize(
    ("asked", "there", "why"),
    [
        ([5], 1000, ": 5 were asked for, whole blocks are kept"),
        ([2000, 200], 2000, ": 200 were asked for, what was there is kept"),
        ([1000], 1000, ""),
    ],
)
def test_simulate_counts_what_the_bank_holds(folder: Path, asked: list[int], there: int, why: str) -> None:
    for n in asked:
        done = run("simulate", "toy.py:counts", "-n", n, "-o", "bank")
    assert done.stdout == f"bank: {there:,} simulations of counts in the bank ({there:,} ok){why}\n"
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
    text = words_of("simulate", "toy.py:counts", "-n", 1000, "-o", "bank")
    assert "00000002.safetensors" in text
    assert text.endswith("The 1,000 simulations that were asked for are whole.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            "learning-curve toy.py:counts -n 20",
            "20 simulations are too few: the smallest size is 1/16 of them, and at least 50 are needed",
        ),
        ("learning-curve toy.py:counts -n 20", "Simulate more, -n 10000, or give --sizes."),
        (
            "learning-curve bernoulli_glm -n 3000",
            "at least 250 are needed to train at all. Simulate more, -n 10000",
        ),
        (
            "learning-curve toy.py:counts -n 400 --sizes 20,200,400",
            "--sizes: 20 is too few to train on; at least 50 are needed",
        ),
        ("learning-curve toy.py:counts --sizes 100,200,100", "--sizes takes at least 3 different numbers"),
        ("fit bernoulli_glm -n 60 -o p.st", "60 usable simulations are too few for 10 parameters"),
        ("fit bernoulli_glm -n 60 -o p.st", "Simulate more: -n 10000."),
        ("fit toy.py:counts -n 1 -o p.st", "1 is not in the range x>=50"),
        ("check p.st -n 99", "99 is not in the range x>=100"),
        ("recalibrate p.st -n 499 -o q.st", "499 is not in the range x>=500"),
        ("compare p.st data.csv -n 19 -o page.html", "19 is not in the range x>=20"),
    ],
)
def test_too_few_is_said_in_flags(folder: Path, arguments: str, words: str) -> None:
    text = words_of(*arguments.split())
    assert words in text
    assert "n_simulations" not in text


def test_the_least_numbers_of_the_help_are_those_of_the_package() -> None:
    for verb, least in {
        "check": check._LEAST_PAIRS,
        "recalibrate": recalibrate._LEAST_PAIRS,
        "compare": compare._LEAST_DRAWS,
        "fit": LEAST_ROWS,
    }.items():
        assert f"x>={least}]" in " ".join(run(verb, "--help").output.split())
    text = " ".join(run("learning-curve", "--help").output.split())
    assert f"at least {learning_curve._LEAST_SIZES} of them" in text
    assert f"at least {16 * LEAST_ROWS}, and {16 * ROWS_A_PARAMETER} a parameter" in text
    assert f"{ROWS_A_PARAMETER} a parameter" in " ".join(run("fit", "--help").output.split())
    assert f"at least {2 * check._LEAST_PAIRS}" in " ".join(run("check", "--help").output.split())


def test_list_prints_the_array_that_its_help_says() -> None:
    assert "Print a JSON array" in run("list", "--help").output
    assert isinstance(json.loads(run("list", "--json").stdout), list)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a;b\n1;2\n3;4\n", "here they seem to be by semicolons"),
        ("1,5;2,5\n3,5;4,5\n", "here they seem to be by semicolons"),
        ("1 2  3\n4 5  6\n", "here they seem to be by spaces"),
        ("1\t2\n3\t4\n", "here they seem to be by tabs"),
        ("1\nseven\n", None),
    ],
)
def test_columns_without_commas_are_told_from_words(folder: Path, text: str, words: str | None) -> None:
    from sbi_flows.cli.inputs import load_observed

    (folder / "data.csv").write_text(text)
    with pytest.raises(sf.errors.ObservationError) as caught:
        load_observed(Path("data.csv"), (3,))
    notes = getattr(caught.value, "__notes__", [])
    assert notes == ([] if words is None else [f"The columns of a .csv are separated by commas; {words}."])


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
    text = words_of("simulate", "broken.py:model", "-n", 10, "-o", "bank")
    assert "running the file failed" in text
    assert text.endswith(f"It is line {line} of broken.py.")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("lone:counts", "There is a file lone.py: for a simulator in it, name lone.py:counts"),
        ("toy", "There is a file toy.py: for a simulator in it, name toy.py:attribute"),
        ("toy.py", "There is a file toy.py: for a simulator in it, name toy.py:attribute"),
        ("toy:", "toy:: the attribute after the colon is missing"),
        ("toy.py:", "toy.py:: the attribute after the colon is missing"),
        (":toy", ":toy: the module or file before the colon is missing"),
    ],
)
def test_a_slip_in_a_reference_is_recognised(
    folder: Path, reference: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "lone.py").write_text(MODEL)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if Path(place).resolve() != folder])
    assert words in words_of("simulate", reference, "-n", 10, "-o", "bank")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("infer p.st data.csv", "Nothing was kept: the same command begins again."),
        ("check p.st", "Nothing was kept: the same command begins again."),
        ("simulate ricker -n 10 -o bank", "Nothing was kept: the same command begins again."),
        ("simulate ricker -n 10 -o old", "What old holds is kept, and the same command goes on from it."),
        ("fit ricker -o p.st", "fit with --simulations BANK --checkpoint FILE."),
        (
            "fit ricker --simulations old -o p.st",
            "The simulations in old are kept, the training is not: with --checkpoint FILE",
        ),
        ("fit ricker --checkpoint none -o p.st", "Nothing was kept: there was no checkpoint in none yet"),
        (
            "fit ricker --checkpoint begun -o p.st",
            "What begun holds is kept, and the same command goes on from it.",
        ),
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
    assert words in " ".join(done.output.split())


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
    assert "could not be written to standard output" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_fit_takes_the_number_size_and_kind_of_networks(folder: Path) -> None:
    done = run(
        "fit",
        "toy.py:counts",
        "-n",
        200,
        "--members",
        2,
        "--size",
        "small",
        "--flow",
        "maf",
        "-o",
        "p.safetensors",
        "--json",
    )
    assert done.exit_code == 0, done.output
    settings = sf.load("p.safetensors").settings
    assert (settings.members, settings.size, settings.flow) == (2, "small", "maf")
    assert "one of" in words_of("fit", "toy.py:counts", "--size", "huge", "-o", "q.safetensors")


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
    from sbi_flows.cli.inputs import load_observed

    (folder / "data.csv").write_text(text)
    assert load_observed(Path("data.csv"), event_shape).shape == shape
