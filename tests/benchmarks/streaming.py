"""Print what reading training rows from a bank costs: `python -m tests.benchmarks.streaming {rate,memory}`.
Not run by pytest.

rate: rows per second in batches of 256, ready to train on (float32 tensors of parameters and scaled data), 3
parameters and 100 numbers per row. In memory: rows drawn from tensors that were converted before the clock
starts, their seeded permutation included. From the bank: read by one thread, verified by SHA-256 and
converted (from the page cache), the wait for the first buffer included. Ten passes over 500,000 rows each, in
turns, three times; the last line is the same comparison inside a fit of three passes.

memory: the largest resident memory of a process that fits a bank of 4 GB, in one pass over all rows, compared
with one that fits 1,000 rows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import uniform

import sbi_flows as sf
from sbi_flows.nets.scaling import Scaler
from sbi_flows.npe import out_of_core as stream
from sbi_flows.npe.out_of_core import Split, StreamedRows
from sbi_flows.training.rows import Rows, TensorRows
from tests.benchmarks.sections import parser_of

SMALL = sf.FitSettings(flow="maf", width=16, layers=2, summary_features=8, summary="vector", members=1)


def wide(columns: int) -> sf.Simulator:
    """Three parameters, the mean, slope and variance of `columns` normal numbers in float32."""

    @sf.simulator(
        sf.Prior(mean=uniform(-1, 2), slope=uniform(-1, 2), variance=uniform(0.5, 1)), event_shape=columns
    )
    def wide(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        mean, slope, variance = (
            theta[name].astype(np.float32)[:, None] for name in ("mean", "slope", "variance")
        )
        y = rng.standard_normal((len(mean), columns), dtype=np.float32) * np.sqrt(variance)
        return y + mean + slope * np.linspace(0, 1, columns, dtype=np.float32)

    return wide


def make_bank(path: Path, rows: int, columns: int) -> Path:
    """A bank of `wide`, made in a process of its own."""
    subprocess.run([sys.executable, "-m", __spec__.name, "make", path, str(rows), str(columns)], check=True)
    return path


def peak(bank: Path, buffer_bytes: int, settings: sf.TrainSettings) -> int:
    """The largest resident memory, in bytes, of a process that fits `bank` in buffers."""
    options = [str(getattr(settings, name)) for name in ("epochs", "epoch_rows", "batch_size")]
    command = [sys.executable, "-m", __spec__.name, "fit", bank, str(buffer_bytes), *options]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def fit(bank: Path, buffer_bytes: int, *options: int) -> None:
    """The process that `peak` starts."""
    stream.BUFFER_BYTES, stream.free_memory = buffer_bytes, lambda: 0
    simulations = sf.read_bank(bank)
    train = sf.TrainSettings(**dict(zip(("epochs", "epoch_rows", "batch_size"), options, strict=True)))
    posterior = sf.fit(
        wide(*simulations.event_shape),
        simulations=simulations,
        settings=sf.FitSettings(**{**vars(SMALL), "train": train}),
    )
    assert np.isfinite(posterior.history.best_loss)
    status = Path("/proc/self/status").read_text().split()
    print(1024 * int(status[status.index("VmHWM:") + 1]))


def memory_figures(folder: Path) -> None:
    tiny = make_bank(folder / "tiny", 1000, 100)
    began = time.monotonic()
    whole = make_bank(folder / "whole", 9_600_000, 100)
    size = sf.read_bank(whole).n_bytes
    print(f"bank of 9,600,000 rows, {size / 1e9:.2f} GB, made in {time.monotonic() - began:.0f} s")
    settings = sf.TrainSettings(epochs=1, epoch_rows=10**9, batch_size=4096)
    baseline = peak(tiny, stream.BUFFER_BYTES, settings)
    began = time.monotonic()
    used = peak(whole, stream.BUFFER_BYTES, settings)
    seconds = time.monotonic() - began
    allowed = 2 * stream.BUFFER_BYTES + 64_000_000
    print(
        f"largest resident memory: {used / 1e6:.0f} MB, {(used - baseline) / 1e6:.0f} MB above the "
        f"{baseline / 1e6:.0f} MB of a fit of 1,000 rows; wanted at most {allowed / 1e6:.0f} MB above "
        f"(2 buffers of {stream.BUFFER_BYTES / 1e6:.0f} MB, and 64 MB). "
        f"Reading, one pass and the training cloud: {seconds:.0f} s"
    )


def rate_figures(folder: Path) -> None:
    simulator = wide(100)
    simulations = sf.read_bank(make_bank(folder / "bank", 500_000, 100))
    settings = sf.TrainSettings(epochs=10, epoch_rows=10**9, batch_size=256)
    split = Split(simulations, settings, 1)
    theta, y, _ = split.sample(1)
    scaler, z = Scaler.from_data(y, shared=False), simulator.prior.to_unconstrained(theta)[0]
    centre, scale = z.mean(axis=0), z.std(axis=0)

    def convert(theta: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
        return ((simulator.prior.to_unconstrained(theta)[0] - centre) / scale).astype(
            np.float32
        ), scaler.in_float32(y)

    def seconds_a_pass(rows: Rows) -> list[float]:
        times = [time.perf_counter()]
        for epoch in range(settings.epochs):
            for _ in rows.batches(epoch):
                pass
            times.append(time.perf_counter())
        return np.diff(times).tolist()

    memory = TensorRows([torch.from_numpy(part) for part in convert(*simulations.usable())], settings, 1)
    n = memory.steps * settings.batch_size
    from_memory, from_bank = [], []
    for _ in range(3):
        from_memory.append(seconds_a_pass(memory))
        with StreamedRows(split, convert, settings, 1) as streamed:
            from_bank.append(seconds_a_pass(streamed))
    print(
        f"in memory {n / np.median(from_memory):,.0f} rows/s, load {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores"
    )
    whole = np.array(from_memory).mean(axis=1)
    for what, passes in (
        ("the first pass", slice(0, 1)),
        ("a later pass", slice(1, None)),
        ("all ten passes", slice(None)),
    ):
        taken = np.array(from_bank)[:, passes].mean(axis=1)
        ratios = whole / taken
        spread = f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
        print(f"from the bank, {what}: {n / np.median(taken):,.0f} rows/s: ratio {spread}")
    seconds: dict[int, list[float]] = {0: [], 10**15: []}
    train = sf.TrainSettings(epochs=3, epoch_rows=10**9, batch_size=256)
    for free in [0, 10**15] * 2:
        stream.free_memory = lambda free=free: free  # type: ignore[assignment]
        times: list[float] = []
        sf.fit(
            simulator,
            simulations=simulations,
            settings=sf.FitSettings(**{**vars(sf.FitSettings(summary="vector", members=1)), "train": train}),
            say=None,
            progress=lambda done, total, text, times=times: times.append(time.perf_counter()),
        )
        seconds[free].append(times[-1] - times[0])
    times_as_long = np.median(seconds[0]) / np.median(seconds[10**15])
    print(
        f"three passes of training with the default network: {times_as_long:.2f} times as long as from memory"
    )


if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.add_argument(
        "what",
        choices=["rate", "memory", "make", "fit"],
        help="make and fit: the processes that the others start",
    )
    parser.add_argument("rest", nargs="*")
    chosen = parser.parse_args()
    if chosen.what == "make":
        sf.simulate(wide(int(chosen.rest[2])), int(chosen.rest[1]), seed=1, store=chosen.rest[0])
    elif chosen.what == "fit":
        fit(Path(chosen.rest[0]), *map(int, chosen.rest[1:]))
    else:
        with tempfile.TemporaryDirectory() as name:
            {"rate": rate_figures, "memory": memory_figures}[chosen.what](Path(name))
