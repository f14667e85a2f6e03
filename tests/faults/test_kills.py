"""kill -9 and Ctrl-C at any moment: no row is lost, doubled or changed, few are made again, and nothing is
left behind.

SBI_FLOWS_KILLS is how many kills there are on all roads together.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import sbi_flows as sf
from sbi_flows.errors import StorageError
from tests.faults.conftest import KILLS, Group, files, needs_dask, needs_proc, rows
from tests.faults.driver import ROWS, WORKERS

Start = Callable[[str, Path, int], Group]
BLOCKS = 80
pytestmark = needs_proc


def moment(rng: random.Random, group: Group, store: Path, blocks: int) -> None:
    """Wait for a moment to kill at: one in four while it starts and probes, the others once some more blocks
    are there.
    """
    if rng.random() < 0.25:
        time.sleep(rng.uniform(0.05, 1.5))
        return
    wanted = len(list(store.glob("0*/*.safetensors"))) + rng.randrange(blocks // 8)
    while group.process.poll() is None and len(list(store.glob("0*/*.safetensors"))) < wanted:
        time.sleep(0.003)
    time.sleep(rng.uniform(0, 0.04))


@pytest.mark.parametrize(
    ("road", "share", "workers"),
    [
        ("serial", 0.42, 1),
        ("limited", 0.1, 1),
        ("loky", 0.32, WORKERS),
        pytest.param("dask", 0.16, WORKERS, marks=needs_dask),
    ],
)
def test_a_run_that_is_killed_again_and_again_ends_with_the_bytes_of_one_that_is_not(
    road: str, share: float, workers: int, start: Start, reference: Callable[[int], Path], tmp_path: Path
) -> None:
    rng, wanted, left, banks, again = (
        random.Random(road),
        files(reference(BLOCKS)),
        max(1, round(KILLS * share)),
        0,
        0,
    )
    kills, log = left, tmp_path / "log"
    names = {
        float(theta).hex(): k for k, theta in enumerate(sf.read_bank(reference(BLOCKS)).theta[::ROWS, 0])
    }
    while left or not banks:
        store, killed = tmp_path / f"{banks}.bank", True
        log.write_bytes(b"")
        while killed:
            group, killed = start(road, store, BLOCKS), False
            if left:
                moment(rng, group, store, BLOCKS)
                killed = group.process.poll() is None
                if killed:
                    group.send(signal.SIGKILL)
                    left -= 1
            said = group.end()
            assert killed or group.process.returncode == 0, said
        found = files(store)
        found.pop("writer.lock", None)  # of a run that was killed between its last block and its end
        assert found == wanted
        assert rows(sf.read_bank(store)) == rows(sf.read_bank(reference(BLOCKS)))
        made = Counter(names[line] for line in log.read_text().split() if line in names)
        assert sorted(made) == list(range(BLOCKS))
        made.pop(0)  # each run that resumes makes it again, to see whether the simulator has changed
        again += made.total() - len(made)
        banks += 1
    print(
        f"{road}: {kills} kills, {banks} banks, {again} blocks made again, {again / kills:.2f} per kill; 0 "
        "lost, 0 doubled"
    )
    assert again <= kills * (workers + 1)


@pytest.mark.parametrize("road", ["serial", "limited", "loky"])
def test_ctrl_c_ends_the_run_soon_and_says_how_to_go_on(
    road: str, start: Start, reference: Callable[[int], Path], tmp_path: Path
) -> None:
    store = tmp_path / "bank"
    group = start(road, store, BLOCKS)
    while group.process.poll() is None and len(list(store.glob("0*/*.safetensors"))) < 5:
        time.sleep(0.01)
    assert group.process.poll() is None, group.end()
    began = time.monotonic()
    group.send(signal.SIGINT)
    said = group.end()
    print(f"{road}: ended {time.monotonic() - began:.2f} s after Ctrl-C")
    kept = len(sf.read_bank(store)) // ROWS
    assert 5 <= kept < BLOCKS
    assert "KeyboardInterrupt" in said
    assert f"holds {len(list(store.glob('0*/*.safetensors')))} finished blocks of {ROWS} rows" in said
    assert not (store / "writer.lock").exists()
    assert start(road, store, BLOCKS).end().count("Error") == 0
    assert files(store) == files(reference(BLOCKS))


@pytest.mark.filterwarnings(
    "ignore:.*is missing or not full:sbi_flows.errors.SimulationWarning"
)  # two workers finish out of order
def test_a_reader_during_a_run_sees_whole_beginnings_only(
    start: Start, reference: Callable[[int], Path], tmp_path: Path
) -> None:
    store, whole = tmp_path / "bank", sf.read_bank(reference(BLOCKS))
    group, seen = start("loky", store, BLOCKS), [0]
    while group.process.poll() is None:
        try:
            sims = sf.read_bank(store)
        except StorageError:
            assert seen == [0]
            continue
        assert rows(sims) == rows(whole, len(sims))
        assert len(sims) >= seen[-1]
        seen.append(len(sims))
    assert group.process.returncode == 0, group.end()
    assert len(set(seen)) > 3
    assert len(sf.read_bank(store)) == len(whole)
