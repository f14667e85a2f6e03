"""Blocks made by workers: any PEP 3148 executor, in any order, each block returned once.

An executor promises less than a campaign needs: loky and the standard pools lose what was running when a
worker dies, Dask runs it again. So a block is handed out again until it comes back. After a first loss it is
made in a child process of the worker, which finds the row that kills and leaves the worker alive; after a
second it runs alone, so that it answers for itself; a block that is then lost as often as `tries` says is
given up as died, and the others go on. Dask can also lose a block without a word: if an executor that was
given is silent for much longer than ever before, what is out is handed out once more, and whatever comes
first is taken.
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
_SILENT_SECONDS = 30.0
_ORPHAN_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """How blocks are made: the campaign as bytes, and in a child process or not. time_limit in seconds; tries
    before giving up.
    """

    payload: bytes
    isolate: bool
    time_limit: float | None
    tries: int

    def of(self, campaign: Campaign) -> Job:
        """The same for that campaign. Raises `SettingsError` where its simulator cannot be sent to another
        process.
        """
        return replace(self, payload=packed(campaign))


def packed(thing: Any) -> bytes:
    """A simulator or a campaign as bytes for another process. Raises `SettingsError`."""
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(thing))
    except Exception as error:
        raise SettingsError(
            f"the simulator cannot be sent to another process ({type(error).__name__}: {error}). Define it "
            f"without reference to open "
            "files, locks, connections or generators (make them inside the function), or run in this "
            "process: workers=1 and no time limit."
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
        runner.event_shape = campaign.event_shape
    return make_block(campaign, k, rows, runner)


@lru_cache(maxsize=2)
def _unpacked(payload: bytes) -> tuple[Campaign, bytes]:
    campaign: Campaign = unpacked(payload)
    campaign.simulator.settle(campaign.event_shape)
    return campaign, packed(campaign.simulator)


def finished(
    campaign: Campaign, job: Job, todo: list[tuple[int, int]], executors: Executors, workers: int | None
) -> Generator[tuple[int, Block]]:
    """Blocks as they finish. todo: (block, rows). Raises `WorkerError` if workers cannot load the simulator
    or an executor stays broken.
    """
    waiting, losses = deque(todo), dict.fromkeys((k for k, _ in todo), 0)
    careful = Job(job.payload, True, job.time_limit, job.tries)
    breaks = 0
    left = set(losses)
    while left:
        broken: BaseException | None = None
        running: dict[Future[Block | str], tuple[int, int]] = {}
        with opened(executors) as executor:
            silence = _Silence(infinite=not isinstance(executors, Executor))
            most = _IN_FLIGHT_A_WORKER * (
                workers or getattr(executor, "_max_workers", None) or _WORKERS_UNKNOWN
            )
            try:
                while left and broken is None:
                    try:
                        while (
                            waiting
                            and len(running) < most
                            and not (running and losses[waiting[0][0]] > _SHARED)
                        ):
                            k, rows = waiting[0]
                            if k not in left:
                                waiting.popleft()
                                continue
                            future = executor.submit(run, careful if losses[k] else job, k, rows)
                            running[future] = waiting.popleft()
                            if losses[k] > _SHARED:
                                break
                    except (BrokenExecutor, RuntimeError) as error:
                        broken = error
                    done = wait(running, silence.bearable(), FIRST_COMPLETED).done
                    if not silence.heard(bool(done)) and broken is None:
                        for k, rows in set(running.values()):
                            running[executor.submit(run, careful, k, rows)] = k, rows
                    for future in done:
                        k, rows = running.pop(future)
                        if k not in left:
                            continue
                        lost = CancelledError("cancelled") if future.cancelled() else future.exception()
                        if lost is None:
                            left.discard(k)
                            yield k, _loaded(future.result(), campaign)
                            breaks = 0
                            continue
                        if isinstance(lost, SbiFlowsError):
                            raise lost
                        losses[k] += 1
                        broken = lost if isinstance(lost, BrokenExecutor) else broken
                        if losses[k] - _SHARED >= job.tries:
                            left.discard(k)
                            yield k, dead_block(campaign, k, rows, _died(lost, losses[k]))
                        else:
                            waiting.appendleft((k, rows))
            finally:
                for future in running if isinstance(executors, Executor) else ():
                    future.cancel()
        if broken is not None:
            waiting.extendleft(dict.fromkeys(out for out in running.values() if out[0] in left))
            breaks += 1
            if isinstance(executors, Executor) or breaks > _MOST_BREAKS:
                raise WorkerError(
                    f"the executor broke ({_told(broken)}). "
                    f"{_FACTORY if isinstance(executors, Executor) else _ENDS}"
                ) from broken


_INSTALL = (
    "Install the module that defines it on every worker, in the same version, or define it in the "
    "script itself."
)
_FACTORY = (
    "Give a function that makes one, such as executor=lambda: ProcessPoolExecutor(8), so that it can "
    "be made again."
)
_ENDS = (
    f"It was made again {_MOST_BREAKS} times without a block coming back. Look at what the workers printed "
    f"before they ended; a pool that "
    "spawns needs `if __name__ == '__main__':` around the script (workers=8 does not)."
)


class _Silence:
    """How long an executor has brought nothing, and how long that is bearable: three times the longest yet,
    and twice that each time.
    """

    def __init__(self, infinite: bool) -> None:
        self._infinite, self._heard_once = infinite, False
        self._last, self._longest, self._patience = time.monotonic(), 0.0, 1.0

    def bearable(self) -> float | None:
        """Seconds from now, or None for as long as it takes: for a pool of processes, which loses nothing,
        and before the first block.
        """
        if self._infinite or not self._heard_once:
            return None
        return max(
            self._last + self._patience * max(_SILENT_SECONDS, 3 * self._longest) - time.monotonic(), 0.0
        )

    def heard(self, anything: bool) -> bool:
        """Note whether something came; return it."""
        now = time.monotonic()
        if anything:
            self._longest = max(self._longest, now - self._last) if self._heard_once else 0.0
            self._last, self._heard_once, self._patience = now, True, 1.0
        else:
            self._patience *= 2
        return anything


def _loaded(out: Block | str, campaign: Campaign) -> Block:
    if isinstance(out, str):
        raise WorkerError(
            f"{campaign.simulator.name}: a worker cannot load the simulator ({out}). {_INSTALL}"
        )
    return out


def _died(lost: BaseException, times: int) -> Trouble:
    return Trouble(DIED, f"its worker ended {times} times while it ran ({_told(lost)})")


def _told(error: BaseException) -> str:
    """In one line: loky adds others, of its workers' exit codes in any order."""
    return f"{type(error).__name__}: {error}".split("\n", 1)[0].rstrip(".")[:500]


@contextmanager
def opened(executors: Executors) -> Iterator[Executor]:
    """An executor that was given stays open; one that a factory made is shut down, at once if something went
    wrong.
    """
    if isinstance(executors, Executor):
        yield executors
        return
    executor = executors()
    if not isinstance(executor, Executor):
        raise SettingsError(
            f"executor must be a concurrent.futures.Executor or a function that makes one, which made "
            f"{type(executor).__name__}."
        )
    try:
        yield executor
    finally:
        _shut_down(executor)


def _shut_down(executor: Any) -> None:
    """At once: loky kills its workers, the standard pools drop what has not begun, Dask's takes no
    options.
    """
    for options in ({"wait": True, "kill_workers": True}, {"wait": False, "cancel_futures": True}):
        try:
            executor.shutdown(**options)
            return
        except TypeError:
            continue
    executor.shutdown(wait=False)


def local_workers(count: int) -> Callable[[], Executor]:
    """A factory of pools of `count` fresh local processes, never forks, each with one BLAS, OpenMP and torch
    thread.
    """

    def make() -> Executor:
        from loky import ProcessPoolExecutor

        pool: Executor = ProcessPoolExecutor(
            count, initializer=_begin_worker, initargs=(os.getpid(), sys.stdout is sys.stderr), env=ONE_THREAD
        )
        return pool

    return make


def _begin_worker(parent: int, quiet: bool) -> None:
    """Leave Ctrl-C to the parent, and end when it has ended. quiet: what is printed goes to standard error,
    as in the parent.
    """
    if quiet:
        os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_ORPHAN_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
