"""Blocks made by workers: any PEP 3148 executor, in any order, each block returned once.

An executor promises less than a campaign needs: loky and the standard pools lose what was running when a
worker dies, Dask runs it again. So a block is handed out again until it comes back. After a first loss it is
made in a child process of the worker, which finds the row that kills and keeps the worker alive. After a
second it runs alone, so that no other block is blamed. If it is lost as often again as `tries` says, its rows
are marked died, and the run continues with the other blocks.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sbi_flows.errors import SbiFlowsError, SettingsError, WorkerError
from sbi_flows.simulation.campaign import Campaign, InProcess, Runner, Trouble, dead_block, make_block
from sbi_flows.simulation.failures import DIED
from sbi_flows.simulation.isolation import ONE_THREAD, isolated
from sbi_flows.simulation.settings import Executors
from sbi_flows.simulation.simulations import Block

_IN_FLIGHT_A_WORKER, _WORKERS_UNKNOWN = 4, 16
_SHARED = 2
_MOST_BREAKS = 10
_ORPHAN_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """How blocks are made.

    payload: the campaign, packed.
    isolate: whether in a child process.
    time_limit: seconds that a call in a child process may take, or None.
    tries: how often a call that kills its process is tried.
    """

    payload: bytes
    isolate: bool
    time_limit: float | None
    tries: int


def packed(thing: Any) -> bytes:
    """A simulator or a campaign as bytes for another process. Raises `SettingsError`."""
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(thing))
    except Exception as error:
        raise SettingsError(
            f"the simulator cannot be sent to another process ({type(error).__name__}: {error}). Define it "
            "without reference to open files, locks, connections or generators (make them inside the "
            "function), or run in this process: workers=1 and no time limit."
        ) from error


def unpacked(payload: bytes) -> Any:
    """What was packed, in the other process."""
    return pickle.loads(payload)


def run(job: Job, k: int, rows: int) -> Block | str:
    """What a worker does: make block k. A text says why the simulator cannot be loaded there."""
    try:
        campaign, simulator_bytes = _unpacked(job.payload)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    runner: Runner = InProcess(campaign.simulator)
    if job.isolate:
        runner = isolated(simulator_bytes, job.time_limit, job.tries)
    runner.settle(campaign.event_shape)
    return make_block(campaign, k, rows, runner)


@lru_cache(maxsize=2)
def _unpacked(payload: bytes) -> tuple[Campaign, bytes]:
    campaign: Campaign = unpacked(payload)
    campaign.simulator.settle(campaign.event_shape)
    return campaign, packed(campaign.simulator)


def finished(
    campaign: Campaign, job: Job, todo: list[tuple[int, int]], executors: Executors, workers: int | None
) -> Generator[tuple[int, Block]]:
    """Blocks as they finish. Raises `WorkerError` if the simulator cannot be loaded, or executors break."""
    queue = _Queue(campaign, job, todo)
    given = isinstance(executors, Executor)
    while queue.left:
        with opened(executors) as executor:
            most = workers or getattr(executor, "_max_workers", None) or _WORKERS_UNKNOWN
            try:
                while queue.left and queue.broken is None:
                    queue.hand_out(executor, _IN_FLIGHT_A_WORKER * most)
                    yield from queue.take_back()
            finally:
                if given:
                    queue.cancel()
        if queue.broken is not None:
            queue.put_back()
            if given or queue.breaks > _MOST_BREAKS:
                why = f"the executor broke ({_told(queue.broken)})."
                raise WorkerError(f"{why} {_FACTORY if given else _ENDS}") from queue.broken
            queue.broken = None


class _Queue:
    """The blocks that are still to come: which wait, which are with workers, and how often each was lost.

    left: how many there are.
    broken: what broke the executor.
    breaks: how many executors have broken since a block last came back.
    """

    def __init__(self, campaign: Campaign, job: Job, todo: list[tuple[int, int]]) -> None:
        self._campaign, self._job, self._careful = campaign, job, replace(job, isolate=True)
        self._waiting, self._losses = deque(todo), dict.fromkeys((k for k, _ in todo), 0)
        self._running: dict[Future[Block | str], tuple[int, int]] = {}
        self.left = len(todo)
        self.broken: BaseException | None = None
        self.breaks = 0

    def hand_out(self, executor: Executor, most: int) -> None:
        """Submit blocks until `most` are with workers. A block that was lost twice goes alone."""
        try:
            while self._waiting and len(self._running) < most:
                k, rows = self._waiting[0]
                alone = self._losses[k] > _SHARED
                if alone and self._running:
                    break
                future = executor.submit(run, self._careful if self._losses[k] else self._job, k, rows)
                self._running[future] = self._waiting.popleft()
                if alone:
                    break
        except (BrokenExecutor, RuntimeError) as error:
            self.broken = error

    def take_back(self) -> Iterator[tuple[int, Block]]:
        """Wait for blocks. Those that come back, and those that are lost too often, with their rows died."""
        for future in wait(self._running, return_when=FIRST_COMPLETED).done:
            k, rows = self._running.pop(future)
            lost = CancelledError("cancelled") if future.cancelled() else future.exception()
            if lost is None:
                block, self.breaks = _loaded(future.result(), self._campaign), 0
            elif isinstance(lost, SbiFlowsError):
                raise lost
            else:
                self._losses[k] += 1
                self.broken = lost if isinstance(lost, BrokenExecutor) else self.broken
                if self._losses[k] - _SHARED < self._job.tries:
                    self._waiting.appendleft((k, rows))
                    continue
                block = dead_block(self._campaign, k, rows, _died(lost, self._losses[k]))
            self.left -= 1
            yield k, block

    def put_back(self) -> None:
        """The executor has broken: what was with its workers waits again."""
        self._waiting.extendleft(self._running.values())
        self._running.clear()
        self.breaks += 1

    def cancel(self) -> None:
        """Call off what has not begun."""
        for future in self._running:
            future.cancel()


_INSTALL = "Install the module that defines it on every worker, or define it in the script itself."
_FACTORY = "Give a function that makes one, as executor=lambda: ProcessPoolExecutor(8), to make it again."
_ENDS = (
    f"It was made again {_MOST_BREAKS} times without a block coming back. Look at what the workers printed "
    "before they ended; a pool that spawns needs `if __name__ == '__main__':` around the script (workers=8 "
    "does not)."
)


def _loaded(out: Block | str, campaign: Campaign) -> Block:
    if isinstance(out, str):
        name = campaign.simulator.name
        raise WorkerError(f"{name}: a worker cannot load the simulator ({out}). {_INSTALL}")
    return out


def _died(lost: BaseException, times: int) -> Trouble:
    return Trouble(DIED, f"its worker ended {times} times while it ran ({_told(lost)})")


def _told(error: BaseException) -> str:
    """In one line: loky adds others, of its workers' exit codes in any order."""
    return f"{type(error).__name__}: {error}".split("\n", 1)[0].rstrip(".")[:500]


@contextmanager
def opened(executors: Executors) -> Iterator[Executor]:
    """An executor that was given stays open; one that a factory made is shut down."""
    if isinstance(executors, Executor):
        yield executors
        return
    executor = executors()
    if not isinstance(executor, Executor):
        raise SettingsError(
            "executor must be a concurrent.futures.Executor or a function that makes one, which made "
            f"{type(executor).__name__}."
        )
    try:
        yield executor
    finally:
        shut_down(executor)


def shut_down(executor: Any) -> None:
    """End an executor at once: loky kills its workers, the standard pools drop what has not begun, and
    Dask's has no options.
    """
    for options in ({"wait": True, "kill_workers": True}, {"wait": False, "cancel_futures": True}):
        try:
            executor.shutdown(**options)
            return
        except TypeError:
            continue
    executor.shutdown(wait=False)


def local_workers(count: int) -> Callable[[], Executor]:
    """A function that makes pools of `count` fresh local processes, never forks, of one thread each."""

    def make() -> Executor:
        from loky import ProcessPoolExecutor

        pool: Executor = ProcessPoolExecutor(
            count, initializer=_begin_worker, initargs=(os.getpid(), sys.stdout is sys.stderr), env=ONE_THREAD
        )
        return pool

    return make


def _begin_worker(parent: int, quiet: bool) -> None:
    """Leave Ctrl-C to the parent, and end when it has ended. quiet: print to standard error, as it does."""
    if quiet:
        os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_ORPHAN_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
