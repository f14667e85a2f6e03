"""Blocks 0, 1, 2, ... of a campaign, made in the background, a little ahead of their use and without end.

They begin in a thread of this process, which is the quickest to start. They may be moved to worker processes
once their cost is known: Python that holds the interpreter's lock slows whatever else this process does, and
only a process can be ended while a call hangs. Where they are made has no effect on their bytes: row i is row
i of `simulate` with the same simulator and seed.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from contextlib import closing, suppress
from typing import Any

import numpy as np

from sbi_flows.errors import SettingsError
from sbi_flows.problem.simulator import Simulator
from sbi_flows.simulation.campaign import Campaign, InProcess, make_block
from sbi_flows.simulation.engine import usual_block_size
from sbi_flows.simulation.probe import probe
from sbi_flows.simulation.settings import SimulateSettings
from sbi_flows.simulation.simulations import Block
from sbi_flows.simulation.watch import Watch
from sbi_flows.simulation.workers import Job, finished, local_workers, packed

MAX_FAILURES = 0.5
_BLOCK_SECONDS, _LARGEST_SINGLES = 0.1, 1000
_AT_A_TIME = 10_000
_TRIES = 3
_ENDING_SECONDS = 1.0
_WARN_FAILURES = SimulateSettings().warn_failures


class _EndedError(Exception):
    """No pool is made any more."""


class Supply:
    """Use it as a context: what it has started ends with it, except a call in a thread that never returns.

    block_size: rows per block. None: as in `simulate`, but a tenth of a second's rows where the simulator
        makes one draw at a time.
    max_failures: the share of failed rows above which `take` raises.
    most_ahead: how many rows may wait to be taken (one block always may). It can be changed at any time.
    watch: rows and failed rows of the blocks taken.
    campaign: known once a block has been taken.
    """

    def __init__(
        self,
        simulator: Simulator,
        seed: int,
        *,
        block_size: int | None = None,
        max_failures: float = MAX_FAILURES,
        most_ahead: int = 5_000,
    ) -> None:
        self.simulator, self.seed, self.most_ahead = simulator, seed, most_ahead
        self.campaign: Campaign | None = None
        self.workers = 0
        self.watch = Watch(simulator.name, sys.maxsize, max_failures, None)
        self._block_size = block_size
        self._news = threading.Condition()
        self._ready: deque[Block] = deque()
        self._error: BaseException | None = None
        self._ending = threading.Event()
        self._next, self._floor = 0, 0
        self._again: list[int] = []
        self._job: Job | None = None
        self._pool: Any = None
        self._rows, self._seconds, self._provisional = 0.0, 0.0, False
        self._thread = threading.Thread(target=self._run, name="sbi_flows supply", daemon=True)

    def __enter__(self) -> Supply:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._news:
            self._ending.set()
            self._news.notify_all()
            pool = self._pool
        if pool is not None:
            with suppress(Exception):
                pool.shutdown(wait=True, kill_workers=True)
        self._thread.join(_ENDING_SECONDS)

    @property
    def rate(self) -> float:
        """Rows per second that the thread, or one of the workers, makes. 0.0 before the first block."""
        return self._rows / self._seconds if self._seconds > 0 else 0.0

    @property
    def block_size(self) -> int:
        """Rows per block; 1 before the first block."""
        return 1 if self.campaign is None else self.campaign.block_size

    @property
    def ahead(self) -> int:
        """Rows that wait to be taken."""
        return sum(map(len, self._ready))

    def take(self, seconds: float = 0.0) -> Block | None:
        """The next block, in any order; None if there is none within `seconds`.

        Raises what ended the supply, and `TooManyFailuresError`.
        """
        with self._news:
            self._news.wait_for(lambda: self._ready or self._error is not None, seconds)
            if not self._ready:
                if self._error is not None:
                    raise self._error
                return None
            block = self._ready.popleft()
            self._news.notify_all()
        self.watch.see(block)
        return block

    def move(self, workers: int) -> None:
        """Have `workers` fresh processes make the next blocks. Raises `SettingsError` if they cannot."""
        if self.campaign is None or multiprocessing.current_process().daemon:
            raise SettingsError("a daemonic process may not start others.")
        self._job = Job(packed(self.campaign), False, None, _TRIES)
        self.workers = workers

    def skip_to(self, k: int) -> None:
        """Leave out the blocks before k that have not been taken."""
        with self._news:
            self._floor, self._next, self._again = k, max(self._next, k), []
            self._ready = deque(block for block in self._ready if self.number(block) >= k)
            self._news.notify_all()

    def number(self, block: Block) -> int:
        """Which block it is."""
        return block.start // self.block_size

    def warnings(self) -> list[str]:
        """What the user should know, at the end, about the simulator."""
        watch, texts = self.watch, []
        if watch.bad > _WARN_FAILURES * watch.done and watch.first is not None:
            failed = f"{watch.bad:,} of {watch.done:,} simulations of {watch.name} failed."
            texts.append(f"{failed} First cause: {watch.first.cause}.")
        if text := watch.slow_text():
            texts.append(text)
        if self._ending.is_set() and self._thread.is_alive():
            texts.append(
                f"{watch.name}: a call was still running when the time was up, and is left behind in a "
                "thread, which cannot be ended. If it hangs, simulate with sf.simulate(..., time_limit=...) "
                "and pass simulations=."
            )
        return texts

    def _run(self) -> None:
        try:
            with closing(self._blocks()) as blocks:
                for block in blocks:
                    with self._news:
                        self._news.wait_for(self._may_go_on)
                        if self._ending.is_set():
                            return
                        if self.number(block) >= self._floor:
                            self._ready.append(block)
                            self._news.notify_all()
        except _EndedError:
            pass
        except BaseException as error:
            with self._news:
                self._error = error
                self._news.notify_all()

    def _may_go_on(self) -> bool:
        return self._ending.is_set() or not self._ready or self.ahead < self.most_ahead

    def _blocks(self) -> Generator[Block]:
        runner = InProcess(self.simulator)
        seconds = probe(self.simulator, runner).seconds
        size = self._block_size or self._usual_size(seconds)
        self.campaign = campaign = Campaign(self.simulator, self.seed, size, self.simulator.event_shape)
        first = True  # a first call may load and compile
        while not self._ending.is_set():
            if self.workers and self._job is not None:
                yield from self._by_workers(campaign, self._job, self.workers)
                continue
            (k,) = self._numbers(1)
            began = time.perf_counter()
            block = make_block(campaign, k, size, runner)
            self._count(size, time.perf_counter() - began)
            self._provisional = first
            first = False
            yield block

    def _by_workers(self, campaign: Campaign, job: Job, workers: int) -> Generator[Block]:
        """Blocks by processes, until another number of them is wanted."""
        left = dict.fromkeys(self._numbers(_AT_A_TIME), campaign.block_size)
        heard: float | None = None
        self._provisional = True
        todo, pool = list(left.items()), self._pool_of(workers)
        with closing(finished(campaign, job, todo, pool, workers)) as blocks:
            for k, block in blocks:
                del left[k]
                now = time.perf_counter()
                if heard is not None:
                    self._count(len(block) / workers, now - heard)
                yield block
                heard = time.perf_counter()
                if self.workers != workers or self._ending.is_set():
                    break
        with self._news:
            self._pool = None
            self._again = [k for k in left if k >= self._floor]

    def _pool_of(self, workers: int) -> Callable[[], Executor]:
        make = local_workers(workers)

        def pool() -> Executor:
            with self._news:
                if self._ending.is_set():
                    raise _EndedError
                self._pool = made = make()
            return made

        return pool

    def _numbers(self, count: int) -> list[int]:
        """The next blocks to make: those that were given up first."""
        with self._news:
            numbers, self._again = self._again[:count], self._again[count:]
            more = count - len(numbers)
            numbers += range(self._next, self._next + more)
            self._next += more
        return numbers

    def _count(self, rows: float, seconds: float) -> None:
        """Count towards the rate. A provisional count is forgotten."""
        if self._provisional:
            self._rows, self._seconds, self._provisional = 0.0, 0.0, False
        self._rows, self._seconds = self._rows + rows, self._seconds + seconds

    def _usual_size(self, seconds: float) -> int:
        if self.simulator.vectorized:
            return usual_block_size(self.simulator, None, seconds)
        return int(np.clip(_BLOCK_SECONDS / max(seconds, 1e-9), 1, _LARGEST_SINGLES))
