"""One writer a bank: the second is told who holds it, a dead one's lock is taken over, and by one taker
only.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import sbi_flows as sf
from sbi_flows.errors import BankLockedError
from sbi_flows.simulation import lock
from tests.faults.conftest import KILLS, ROOT, Group, files, needs_proc
from tests.faults.driver import ROWS
from tests.faults.models import PRIOR, numbers

HOST = socket.gethostname()


def simulate(store: Path, n: int = 100) -> sf.Simulations:
    return sf.simulate(
        sf.simulator(PRIOR)(numbers), n, store=store, workers=1, settings=sf.SimulateSettings(block_size=50)
    )


def leave(store: Path, **holder: object) -> Path:
    """The lock of another."""
    store.mkdir(exist_ok=True)
    (store / "writer.lock").write_text(
        json.dumps({"host": HOST, "pid": 1, "started": "0", "token": "another", **holder})
    )
    return store / "writer.lock"


def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@needs_proc
def test_the_second_driver_is_told_the_host_and_the_process_of_the_first(
    start: Callable[[str, Path, int], Group], reference: Callable[[int], Path], tmp_path: Path
) -> None:
    store = tmp_path / "bank"
    first = start("serial", store, 80)
    while not (store / "writer.lock").exists():
        assert first.process.poll() is None, first.end()
        time.sleep(0.01)
    first.send(signal.SIGSTOP)
    second = start("serial", store, 80)
    said = second.end()
    assert second.process.returncode == 1
    assert (
        f"BankLockedError: {store} is being written by process {first.process.pid} on {HOST} (last sign of "
        f"life 20" in said
    )
    first.send(signal.SIGCONT)
    first.end()
    assert first.process.returncode == 0
    assert len(sf.read_bank(store)) == 80 * ROWS
    assert files(store) == files(reference(80))


def test_two_threads_of_one_process_are_two_drivers(tmp_path: Path) -> None:
    with lock.writing(tmp_path), pytest.raises(BankLockedError, match=f"process {os.getpid()} on "):
        simulate(tmp_path)
    assert len(simulate(tmp_path)) == 100
    assert not (tmp_path / "writer.lock").exists()


@pytest.mark.parametrize("idle", [0, 10_000])
def test_the_lock_of_a_process_that_has_ended_is_taken_over_at_once(idle: int, tmp_path: Path) -> None:
    path = leave(tmp_path / "bank", pid=dead())
    os.utime(path, (time.time() - idle,) * 2)
    assert len(simulate(tmp_path / "bank")) == 100
    assert sorted(files(tmp_path / "bank")) == [
        "0000/00000000.safetensors",
        "0000/00000001.safetensors",
        "bank.json",
    ]


def test_a_process_that_has_the_number_of_one_that_has_ended_does_not_hold_its_lock(tmp_path: Path) -> None:
    leave(tmp_path / "bank", pid=os.getppid(), started="an earlier time")
    assert len(simulate(tmp_path / "bank")) == 100


def test_a_lock_that_this_process_could_not_remove_does_not_lock_it_out(tmp_path: Path) -> None:
    leave(tmp_path / "bank", pid=os.getpid(), started=lock._started(os.getpid()))
    assert len(simulate(tmp_path / "bank")) == 100


@pytest.mark.parametrize("holder", [{"host": "elsewhere"}, None], ids=["another host", "garbage"])
def test_the_lock_of_another_host_is_taken_over_after_the_lease_only(
    holder: dict[str, str] | None, tmp_path: Path
) -> None:
    path = leave(tmp_path / "bank", **(holder or {}))
    if holder is None:
        path.write_bytes(b"\x00garbage")
    for idle in (0, 50):
        os.utime(path, (time.time() - idle,) * 2)
        before = path.read_bytes()
        with pytest.raises(BankLockedError, match="elsewhere" if holder else r"process \? on \?"):
            simulate(tmp_path / "bank")
        assert path.read_bytes() == before
    os.utime(path, (time.time() - 70,) * 2)
    assert len(simulate(tmp_path / "bank")) == 100


def test_the_holder_keeps_its_lock_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_BEAT_SECONDS", 0.01)
    with lock.writing(tmp_path):
        path = tmp_path / "writer.lock"
        os.utime(path, (0, 0))
        until = time.monotonic() + 30
        while path.stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0
        path.write_text("{}")
        os.utime(path, (0, 0))
        time.sleep(0.1)
        assert path.stat().st_mtime == 0, "it touched another's"
    assert path.exists(), "it removed another's"


def test_where_files_cannot_be_linked_the_lock_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    for pid in (None, dead()):
        if pid is not None:
            leave(tmp_path / "bank", pid=pid)
        with (
            lock.writing(tmp_path) if pid is None else lock.writing(tmp_path / "bank"),
            pytest.raises(BankLockedError),
        ):
            simulate(tmp_path if pid is None else tmp_path / "bank")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, for many takers at once")
@pytest.mark.parametrize("stale", ["lock", "lock and claim", "nothing"])
def test_of_many_takers_at_once_one_wins(stale: str, tmp_path: Path) -> None:
    """8 processes, pausing at random between any two of their calls of the system; in a program of its own,
    since it forks.
    """
    rounds = max(15, KILLS)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.takers", str(tmp_path), str(rounds), stale],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    wins = [int(word) for word in done.stdout.split()]
    assert wins == [1] * rounds


def test_threads_that_take_turns_never_hold_it_together(tmp_path: Path) -> None:
    inside, most, turns = [0], [0], [0]

    def taker() -> None:
        until = time.monotonic() + 1
        while time.monotonic() < until:
            try:
                with lock.writing(tmp_path):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    turns[0] += 1
                    inside[0] -= 1
            except BankLockedError:
                time.sleep(0.001)

    threads = [threading.Thread(target=taker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert turns[0] > 4
    assert not list(tmp_path.iterdir())
