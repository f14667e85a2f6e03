"""What `command_simulator` makes of its arguments, and refuses before anything runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import uniform

import sbi_flows as sf
from sbi_flows.errors import PriorError, SettingsError

PRIOR = sf.Prior(a=uniform(0, 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"name": 3}, "name.*3"), ({"cwd": 3}, "cwd.*3"), ({"vectorized": "yes"}, "vectorized.*'yes'")],
)
def test_an_option_of_the_wrong_type_is_refused_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        sf.command_simulator(["sh"], PRIOR, **options)


def test_a_script_that_is_not_there_is_named_before_its_interpreter_runs(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"model\.R.*cwd="):
        sf.command_simulator(["sh", "model.R"], PRIOR, cwd=tmp_path)


def test_a_simulator_is_called_after_the_last_file_of_the_command(tmp_path: Path) -> None:
    for file in ("model.R", "run"):
        (tmp_path / file).touch(mode=0o755)
    (tmp_path / "sub").mkdir()

    def name(*words: str, **options: Any) -> str:
        return sf.command_simulator(words, PRIOR, cwd=tmp_path, **options).name

    assert name("sh", "model.R") == name("sh", "-e", str(tmp_path / "model.R"), "--fast", "sub") == "model"
    assert name("./run") == name("sub/../run", "3") == "run"
    assert name("sh", "-c", "true") == "sh"
    assert name("sh", "model.R", name="mine") == "mine"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("Rscript 'my model.R'", r"\['Rscript', 'my model.R'\]"),
        ("echo 'open", r"\['echo', \"'open\"\]"),
        ([], r"\[\]"),
        ([""], "Rscript"),
        ([1, 2], "Rscript"),
        (None, "Rscript"),
        (["no-such-program", "model.R"], "'no-such-program'.*PATH"),
        (["program"], "PATH.*'./program'"),
        (["./program"], "chmod"),
        (["./folder"], "folder"),
        (["./absent"], "absent.*cwd="),
    ],
)
def test_a_command_that_cannot_run_is_refused_at_once(command: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / "program").touch(mode=0o644)
    (tmp_path / "folder").mkdir()
    with pytest.raises(SettingsError, match=words):
        sf.command_simulator(command, PRIOR, cwd=tmp_path)


def test_a_dict_as_prior_and_an_absent_folder_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PriorError, match="dict"):
        sf.command_simulator(["sh"], {"a": uniform()})  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="absent"):
        sf.command_simulator(["sh"], PRIOR, cwd=tmp_path / "absent")
    monkeypatch.setattr(os, "name", "nt")
    with pytest.raises(SettingsError, match="WSL"):
        sf.command_simulator(["sh"], PRIOR)
