"""An output never overwrites an input, and a path that cannot be written is refused before any work: exit
code 2.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.test_cli import MODEL, refusal


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that no verb can use: opening one of them fails with another error than those expected here."""
    monkeypatch.chdir(tmp_path)
    for name in ("p.st", "data.csv", "data.html", "bank/bank.json", "bank/0000/00000000.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "toy.py").write_text(MODEL)
    os.symlink("p.st", tmp_path / "link.html")
    os.link(tmp_path / "data.csv", tmp_path / "hard.csv")
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {place: place.read_bytes() for place in folder.rglob("*") if place.is_file()}


@pytest.mark.parametrize(
    "arguments",
    [
        "infer p.st data.csv -o data.csv",
        "infer p.st data.csv -o ./bank/../data.csv",
        "infer p.st data.csv -o hard.csv",
        "infer absent.csv data.csv -o absent.csv",
        "check p.st --observed data.html -o data.html",
        "check p.st -o link.html",
        "compare p.st data.html -o data.html",
        "compare p.st data.csv --simulator toy.py:counts -o link.html",
        "fit toy.py:counts -o toy.py",
        "fit toy:counts -o toy.py",
        "fit toy.py:counts --simulations bank -o bank/bank.json",
        "fit toy.py:counts --simulations bank -o bank/0000/00000000.safetensors",
        "fit toy.py:counts --checkpoint p.st -o p.st",
        "fit toy.py:counts --checkpoint toy.py -o new.st",
        "recalibrate p.st -o p.st",
        "recalibrate p.st --simulator toy.py:counts -o toy.py",
    ],
)
def test_an_output_that_is_an_input_is_refused_by_name(folder: Path, arguments: str) -> None:
    before = contents(folder)
    text = refusal(*arguments.split())
    assert "SettingsError" in text
    assert "input" in text
    assert contents(folder) == before


@pytest.mark.parametrize(
    "arguments",
    ["check p.st -o p.st", "compare p.st data.csv -o page.pdf", "demo -o page", "check p.st -o toy.py"],
)
def test_a_page_has_to_end_in_html(folder: Path, arguments: str) -> None:
    assert "written as .html" in refusal(*arguments.split())


def test_a_posterior_may_be_kept_in_the_folder_of_its_bank(folder: Path) -> None:
    assert "PluginError" in refusal("fit", "toy.py:nothing", "--simulations", "bank", "-o", "bank/p.st")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("simulate toy.py:counts -n 10 -o toy.py", "SettingsError: toy.py is the file of the simulator"),
        ("simulate toy.py:counts -n 10 -o p.st", "SettingsError: p.st: p.st is a file"),
        ("simulate toy.py:counts -n 10 -o p.st/x", "p.st is a file"),
        ("fit toy.py:counts --simulations toy.py -o new.st", "SettingsError: toy.py: toy.py is a file"),
        ("fit toy.py:counts --simulations p.st -o new.st", "SettingsError: p.st: p.st is a file"),
        ("fit toy.py:counts --simulations p.st/x -o new.st", "p.st is a file"),
        ("fit toy.py:counts --checkpoint p.st/x -o new.st", "SettingsError: p.st/x: the folder"),
        ("learning-curve toy.py:counts --simulations p.st", "SettingsError: p.st: p.st is a file"),
        ("infer p.st/x data.csv", "StorageError: p.st/x"),
    ],
)
def test_a_path_that_cannot_be_is_the_users_mistake(folder: Path, arguments: str, words: str) -> None:
    before = contents(folder)
    assert words in refusal(*arguments.split())
    after = contents(folder)
    assert {path: data for path, data in after.items() if "__pycache__" not in path.parts} == before
