"""Very many blocks: what the driver keeps of them in memory is small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.faults.conftest import ROOT

BLOCKS = int(os.environ.get("SBI_FLOWS_BLOCKS", "1000"))


def test_the_memory_of_the_driver_does_not_grow_with_the_blocks(tmp_path: Path) -> None:
    """A million rows in 10,000 blocks with SBI_FLOWS_BLOCKS=10000; seconds are printed, not tested."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.scale", str(tmp_path / "bank"), str(BLOCKS), "1"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    print(figures)
    assert figures["rows"] == 100 * BLOCKS
    assert figures["growth"] < 100
