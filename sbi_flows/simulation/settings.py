"""What `sf.simulate` is asked for, checked."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypedDict

from sbi_flows.arrays import F, integer, real
from sbi_flows.errors import SettingsError
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed

Executors = Executor | Callable[[], Executor]
_ROWS, _BLOCK_BYTES = 1000, 64_000_000
_LARGEST_BLOCK, _LONGEST_LIMIT, _MOST_ROWS = 10_000_000, 1e7, 10**10


@dataclass(frozen=True, kw_only=True)
class SimulateSettings:
    """How `sf.simulate` runs: what is rarely changed.

    block_size: rows per block. A block is given to a worker, and put on disk, as a whole. None: that of the
        bank, else 1,000, or fewer where these would take more than 64 MB; for a simulator that runs one draw
        at a time 20, or 1 where a draw takes more than a second, or 1,000 where it takes less than 5 ms. It
        decides the random numbers of a vectorised simulator, and not those of one that runs one draw at a
        time.
    isolate: call the simulator in a child process, which contains crashes. None: if there is a time limit, or
        a worker has been lost.
    warn_failures: the share of failed rows above which a `SimulationWarning` is given.
    tries: how often a call that kills its process is tried before its row is marked died.
    """

    block_size: int | None = None
    isolate: bool | None = None
    warn_failures: float = 0.05
    tries: int = 3

    def __post_init__(self) -> None:
        if self.block_size is not None:
            object.__setattr__(
                self, "block_size", integer("block_size", self.block_size, most=_LARGEST_BLOCK)
            )
        object.__setattr__(self, "tries", integer("tries", self.tries, most=_LARGEST_BLOCK))
        real("warn_failures", self.warn_failures, most=1)
        if not (self.isolate is None or isinstance(self.isolate, bool)):
            raise SettingsError(f"isolate must be True, False or None, got {self.isolate!r}.")


class Place(TypedDict, total=False):
    """Where to simulate and what may go wrong, for a method with settings of its own: as the arguments of
    `sf.simulate`.
    """

    executor: Executors | None
    workers: int | None
    time_limit: float | None
    max_failures: float


class Where(Place, total=False):
    """How to simulate, for a method that simulates on its way: as the arguments of `sf.simulate`."""

    settings: SimulateSettings


@dataclass(frozen=True)
class Request:
    """The arguments of `sf.simulate`, by its names. Raises `SettingsError` for what cannot be used."""

    simulator: Simulator
    n: int
    seed: int
    store: str | os.PathLike[str] | None
    executor: Executors | None
    workers: int | None
    time_limit: float | None
    max_failures: float
    progress: Callable[[int, int], None] | None
    settings: SimulateSettings
    theta: F | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.simulator, Simulator):
            got = type(self.simulator).__name__
            raise SettingsError(f"simulate takes a simulator made with @sf.simulator(prior), got {got}.")
        object.__setattr__(self, "n", integer("n", self.n, most=_MOST_ROWS))
        object.__setattr__(self, "seed", check_seed(self.seed))
        if self.store is not None:
            check_place(self.store)
        check_workers(self.executor, self.workers)
        if self.time_limit is not None:
            real("time_limit, in seconds,", self.time_limit, positive=True, most=_LONGEST_LIMIT)
        real("max_failures", self.max_failures, most=1)
        if self.progress is not None and not callable(self.progress):
            raise SettingsError(f"progress must be a function of (done, n), got {self.progress!r}.")
        if not isinstance(self.settings, SimulateSettings):
            got = type(self.settings).__name__
            raise SettingsError(f"settings must be sf.SimulateSettings(...), got {got}.")

    @property
    def isolate(self) -> bool:
        """Whether the simulator is called in a child process from the start."""
        return self.time_limit is not None if self.settings.isolate is None else self.settings.isolate


def check_workers(executor: object, workers: object) -> None:
    """Raise `SettingsError` unless these say where to work."""
    if isinstance(executor, type) or not (
        executor is None or isinstance(executor, Executor) or callable(executor)
    ):
        raise SettingsError(
            f"executor must be a concurrent.futures.Executor or a function that makes one, got {executor!r}. "
            "Of a Dask client, pass client.get_executor(pure=False); for local processes, workers=8."
        )
    if workers is not None:
        integer("workers", workers)


def usual_rows(event_shape: tuple[int, ...]) -> int:
    """Rows per block: 1,000, or fewer where these would take more than 64 MB."""
    return max(1, min(_ROWS, _BLOCK_BYTES // (8 * max(1, math.prod(event_shape)))))


def check_place(store: object) -> None:
    """Raise `SettingsError` unless `store` can name a folder."""
    if not isinstance(store, str | os.PathLike) or str(store) in ("", ".") or "\0" in str(store):
        raise SettingsError(f"a bank is named by the path of a folder, such as 'my.bank', got {store!r}.")
