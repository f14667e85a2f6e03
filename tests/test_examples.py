"""Each example runs at reduced size, in a folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
POSTERIORS = sorted(EXAMPLES.glob("[0-9]*.py"))
REDUCED = "300"
AUTOENCODERS = sorted((EXAMPLES / "autoencoders").glob("*.py"))


def printed_by(example: Path, folder: Path, **reduced: str) -> str:
    """What the example prints when it is run in the folder."""
    done = subprocess.run(
        [sys.executable, str(example)],
        cwd=folder,
        env={**os.environ, **reduced},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", POSTERIORS, ids=lambda path: path.stem)
def test_an_example_runs_and_ends_with_a_verdict(example: Path, tmp_path: Path) -> None:
    text = printed_by(example, tmp_path, SBI_FLOWS_EXAMPLE_N=REDUCED)
    assert text.splitlines()[-1].split(":")[0] in ("trust", "caution", "do not trust")
    drawn = [picture for picture in tmp_path.glob("*.png") if picture.stat().st_size > 10_000]
    assert bool(drawn) == (".savefig(" in example.read_text())


@pytest.mark.parametrize("example", POSTERIORS, ids=lambda path: path.stem)
def test_an_example_is_short_and_its_picture_is_kept(example: Path) -> None:
    text = example.read_text()
    assert len(text.splitlines()) <= 60
    for name in re.findall(r'"(\w+\.png)"', text):
        assert (EXAMPLES / "pictures" / name).stat().st_size < 300_000


@pytest.mark.parametrize("example", AUTOENCODERS, ids=lambda path: path.stem)
def test_an_example_of_autoencoders_runs_and_draws_its_pictures(example: Path, tmp_path: Path) -> None:
    assert printed_by(example, tmp_path, SBI_FLOWS_EXAMPLE_EPOCHS="3")
    assert [picture for picture in tmp_path.glob("*.png") if picture.stat().st_size > 10_000]
