"""The examples of autoencoders run at reduced size, in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent.parent / "examples" / "autoencoders").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_draws_its_pictures(path: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "SBI_FLOWS_EXAMPLE_EPOCHS": "3"}
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert [picture for picture in tmp_path.glob("*.png") if picture.stat().st_size > 10_000]
