"""What `command_simulator` refuses before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scipy.stats import uniform

import sbi_flows as sf
from sbi_flows.errors import SettingsError

PRIOR = sf.Prior(a=uniform(0, 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": 3}, "name must be a text or None, got 3"),
        ({"cwd": 3}, "cwd must be the path of a folder or None, got 3"),
        ({"vectorized": "yes"}, "vectorized must be True or False, got 'yes'"),
    ],
)
def test_an_option_of_the_wrong_type_is_refused_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        sf.command_simulator(["sh"], PRIOR, **options)


def test_a_script_that_is_not_there_is_named_before_its_interpreter_runs(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no file .*model\.R\. Relative paths start from cwd"):
        sf.command_simulator(["sh", "model.R"], PRIOR, cwd=tmp_path)
