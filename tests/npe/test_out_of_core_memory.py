"""The memory of a fit from a bank: two buffers and 64 MB above that of a small fit. Measured in processes of
their own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import sbi_flows as sf

from ..benchmarks.streaming import make_bank, peak

BUFFER = 16_000_000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_fit_from_a_bank_takes_two_buffers_and_64_mb_at_most(tmp_path: Path) -> None:
    settings = sf.TrainSettings(epochs=1, epoch_rows=10**9, batch_size=128)
    baseline = peak(make_bank(tmp_path / "tiny", 1000, 1000), BUFFER, settings)
    bank = make_bank(tmp_path / "bank", 38_000, 1000)
    assert sf.read_bank(bank).n_bytes > 150_000_000
    assert peak(bank, BUFFER, settings) <= baseline + 2 * BUFFER + 64_000_000
