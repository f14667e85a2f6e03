"""Eight processes that try at once to take a lock: python -m tests.faults.takers FOLDER ROUNDS STALE prints
how many had it, each round.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sbi_flows.errors import BankLockedError
from sbi_flows.files import fingerprint
from sbi_flows.simulation import lock

TAKERS = 8


def slowly(call: Callable[..., Any], rng: random.Random) -> Callable[..., Any]:
    """The same with a random pause on either side."""

    def slow(*args: Any, **options: Any) -> Any:
        time.sleep(rng.random() ** 4 * 0.03)
        try:
            return call(*args, **options)
        finally:
            time.sleep(rng.random() ** 4 * 0.03)

    return slow


def take(folder: Path, seed: int, begin: int, hold: int, won: int) -> None:
    """One taker: waits for the end of one pipe to begin, says on another if it has the lock, and keeps it
    until the third ends.
    """
    rng = random.Random(seed)
    for name in ("link", "replace", "unlink", "stat"):
        setattr(os, name, slowly(getattr(os, name), rng))
    lock._read = slowly(lock._read, rng)
    os.read(begin, 1)
    try:
        with lock.writing(folder):
            os.write(won, b"1")
            os.read(hold, 1)
    except BankLockedError:
        os.write(won, b"0")
    except BaseException:
        os.write(won, b"?")
        raise


def play(folder: Path, seed: int, stale: str) -> int:
    """One round; how many had the lock together."""
    folder.mkdir()
    if (ended := os.fork()) == 0:
        os._exit(0)
    os.waitpid(ended, 0)
    left = {"host": socket.gethostname(), "pid": ended, "started": "0", "token": "left"}
    if stale != "nothing":
        (folder / "writer.lock").write_text(json.dumps(left))
    if stale == "lock and claim":
        (folder / f".writer.lock.{fingerprint(left)[:16]}.claim").write_text(
            json.dumps({**left, "token": "claimed"})
        )
    (begin, start), (hold, release), (result, won) = os.pipe(), os.pipe(), os.pipe()
    takers = []
    for i in range(TAKERS):
        if (pid := os.fork()) == 0:
            os.close(start)
            os.close(release)
            take(folder, TAKERS * seed + i, begin, hold, won)
            os._exit(0)
        takers.append(pid)
    os.close(start)
    os.close(won)
    said = b""
    while len(said) < TAKERS and (answer := os.read(result, 1)):
        said += answer
    os.close(release)
    for pid in takers:
        if os.waitpid(pid, 0)[1]:
            raise SystemExit("a taker failed")
    for descriptor in (begin, hold, result):
        os.close(descriptor)
    if left := sorted(path.name for path in folder.iterdir()):
        raise SystemExit(f"left behind: {left}")
    return said.count(b"1")


if __name__ == "__main__":
    for i in range(int(sys.argv[2])):
        print(play(Path(sys.argv[1]) / str(i), i, sys.argv[3]))
