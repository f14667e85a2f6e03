"""Local processes that serve several campaigns, one after the other: the generations of a sequential method.

A pool takes a second or more to start, and a child process of a worker, in which a time limit is kept, as
long again. So the pool outlives a campaign. One that has broken is made again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from typing import Any

from sbi_flows.simulation.workers import local_workers, shut_down


class KeptPool:
    """A function that makes executors, as `sf.simulate` takes it, of which each is the same pool."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._make = local_workers(workers)
        self._pool: Executor | None = None
        self._broken = False

    def __call__(self) -> Executor:
        """The pool. Shutting it down leaves it as it is."""
        if self._broken:
            self.close()
        if self._pool is None:
            self._pool = self._make()
        return _Lent(self._pool, self._saw_it_break)

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            with suppress(Exception):
                shut_down(self._pool)
        self._pool, self._broken = None, False

    def _saw_it_break(self) -> None:
        self._broken = True


class _Lent(Executor):
    def __init__(self, pool: Executor, broke: Callable[[], None]) -> None:
        self._pool, self._broke = pool, broke

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        try:
            future = self._pool.submit(function, *args, **options)
        except (BrokenExecutor, RuntimeError):
            self._broke()
            raise
        future.add_done_callback(self._look)
        return future

    def _look(self, future: Future[Any]) -> None:
        if not future.cancelled() and isinstance(future.exception(), BrokenExecutor):
            self._broke()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False, **options: Any) -> None:
        """Nothing: the pool is kept."""
