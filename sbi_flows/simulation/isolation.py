"""Calling the simulator in a child process: a hang is killed at its time limit, a crash ends only the child.

Each thread that simulates has one child and, once a child has been lost, a spare that has already started.
The child (`sbi_flows.simulation.child`) is a fresh Python, never a fork; it ends with its parent. This works
the same in this process, in a worker of any executor and in a thread.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Pipe
from typing import Any

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.errors import WorkerError
from sbi_flows.problem.events import Events
from sbi_flows.simulation.campaign import Key, Trouble, Y
from sbi_flows.simulation.failures import DIED, TIMEOUT

_POOLS = ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB_MAXIMUM", "NUMEXPR")
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in _POOLS}
_START_SECONDS, _ENDING_SECONDS = 120.0, 5.0


class Isolated:
    """The runner that calls the simulator in a child process.

    payload: the simulator, pickled.
    limit: how many seconds a call may take, or None.
    tries: how often a call that kills the child is tried.
    """

    contains_crashes = True

    def __init__(self, payload: bytes, limit: float | None, tries: int) -> None:
        self._payload, self.limit, self.tries = payload, limit, tries
        self._event_shape: tuple[int, ...] | None = None
        self._child: _Child | None = None
        self._spare: _Child | None = None
        self._lost_one = False

    def __del__(self) -> None:
        self.close()

    def settle(self, event_shape: tuple[int, ...]) -> None:
        """Take the shape of one y; the child checks it at its next call."""
        self._event_shape = event_shape

    def events(self) -> Events:
        """What one y is made of. Raises `WorkerError` where the child is lost."""
        found = self._ask("events")
        if isinstance(found, Trouble):
            raise WorkerError(f"what one y is made of could not be found: {found.cause}.")
        events: Events = found
        return events

    def run(self, theta: F, rng: np.random.Generator) -> Y | Trouble:
        """All rows of theta in one call."""
        out: Y | Trouble = Trouble(DIED, "")
        for _ in range(self.tries):
            out = self._ask("run", theta, rng)
            if not (isinstance(out, Trouble) and out.code == DIED):
                break
        return out

    def each(self, theta: F, seed: int, keys: list[Key]) -> Iterator[Y | Trouble]:
        """One row of theta at a time. One that kills the child is tried again; the others run in another."""
        i = tried = 0
        asked = False
        while i < len(keys):
            out = self._receive() if asked else self._ask("each", theta[i:], seed, keys[i:])
            lost = isinstance(out, Trouble) and out.code in (DIED, TIMEOUT)
            asked = not lost
            tried += lost
            if lost and isinstance(out, Trouble) and out.code == DIED and tried < self.tries:
                continue
            yield out
            i, tried = i + 1, 0

    def close(self) -> None:
        """End the child and its spare."""
        for child in (self._child, self._spare):
            if child is not None:
                child.kill()
        self._child = self._spare = None

    def _ask(self, kind: str, *args: Any) -> Any:
        if self._child is None:
            self._child = self._spare or _Child(self._payload)
            self._spare = _Child(self._payload) if self._lost_one else None
        self._child.ready()
        with contextlib.suppress(OSError):
            self._child.pipe.send((kind, self._event_shape, *args))
        return self._receive()

    def _receive(self) -> Any:
        child = self._child
        if child is None:
            raise WorkerError("the child process has gone. Repeat the call.")
        try:
            if child.pipe.poll(self.limit):
                return child.pipe.recv()
            trouble = Trouble(TIMEOUT, f"still running after the time limit of {self.limit:g} s")
            child.kill()
        except (EOFError, OSError, pickle.UnpicklingError):
            trouble = Trouble(DIED, f"the process that ran it {child.kill(_ENDING_SECONDS)}")
        self._child, self._lost_one = None, True
        return trouble


class _Child:
    """A fresh Python process that has been handed the simulator."""

    def __init__(self, payload: bytes) -> None:
        self.pipe, theirs = Pipe()
        command = [sys.executable, "-m", "sbi_flows.simulation.child", str(theirs.fileno())]
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
            start_new_session=True,
        )
        theirs.close()
        self._payload: bytes | None = payload

    def ready(self) -> None:
        """Wait until it has loaded the simulator. Raises `WorkerError` where it cannot."""
        if self._payload is None:
            return
        answer: Any = None
        try:
            self.pipe.send_bytes(self._payload)
            if self.pipe.poll(_START_SECONDS):
                answer = self.pipe.recv()
        except (EOFError, OSError) as error:
            answer = repr(error)
        if answer != "ready":
            ended = self.kill(_ENDING_SECONDS)
            raise WorkerError(
                f"a child process for the simulator could not be started: it {ended}; "
                f"{answer or 'no answer'}. A time limit needs a simulator that a fresh Python can load: "
                "define it in an importable module, without reference to open files or locks."
            )
        self._payload = None

    def kill(self, patience: float = 0) -> str:
        """End it, and all that it has started, after `patience` seconds; say how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        code = self._process.poll()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.pipe.close()
        if code is None:
            return "was killed"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


_of_thread = threading.local()


def close_isolated() -> None:
    """End the child of this thread."""
    if (runner := getattr(_of_thread, "runner", None)) is not None:
        runner.close()
    _of_thread.runner = _of_thread.key = None


def isolated(payload: bytes, limit: float | None, tries: int) -> Isolated:
    """This thread's runner for that simulator. The runner of another simulator is closed."""
    key = (hash(payload), len(payload), limit, tries)
    if getattr(_of_thread, "key", None) != key:
        close_isolated()
        _of_thread.runner, _of_thread.key = Isolated(payload, limit, tries), key
    runner: Isolated = _of_thread.runner
    return runner
