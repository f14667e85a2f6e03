"""The knobs of a campaign that are rarely turned."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from sbi_flows.arrays import integer, is_real
from sbi_flows.errors import SettingsError
from sbi_flows.problem.simulator import Simulator

Executors = Executor | Callable[[], Executor]
_LARGEST_BLOCK, _LONGEST_LIMIT = 10_000_000, 1e7

_MOST = 10**10


@dataclass(frozen=True, kw_only=True)
class SimulateSettings:
    """How `sf.simulate` runs.

    block_size: rows a block; a block is what is handed to a worker and put on disk whole. None: 1,000, or
        less where these would take more than 64 MB; for a simulator that runs one draw at a time 20, or 1 or
        1,000 where that takes more than a second or less than 5 ms; or what the bank has. It decides the
        random numbers of a vectorised simulator, and not those of one that runs one draw at a time.
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
        for name in ("block_size", "tries"):
            value = getattr(self, name)
            if not (name == "block_size" and value is None) and not (
                type(value) is int and 1 <= value <= _LARGEST_BLOCK
            ):
                raise SettingsError(f"{name} must be an integer from 1 to {_LARGEST_BLOCK:,}, got {value!r}.")
        if not (self.isolate is None or isinstance(self.isolate, bool)):
            raise SettingsError(f"isolate must be True, False or None, got {self.isolate!r}.")
        _check_share("warn_failures", self.warn_failures)


def check_options(
    simulator: Simulator,
    n: int,
    store: str | os.PathLike[str] | None,
    executor: Executors | None,
    workers: int | None,
    time_limit: float | None,
    max_failures: float,
    progress: Callable[[int, int], None] | None,
    settings: SimulateSettings,
) -> None:
    """Raise `SettingsError` for arguments of `simulate` that cannot be used."""
    if not isinstance(simulator, Simulator):
        raise SettingsError(
            f"simulate takes a simulator made with @sf.simulator(prior), got {type(simulator).__name__}."
        )
    if integer("n", n) > _MOST:
        raise SettingsError(f"n is {n:,}; at most {_MOST:,} simulations can be asked for.")
    if store is not None:
        check_place(store)
    if not (executor is None or isinstance(executor, Executor) or callable(executor)) or isinstance(
        executor, type
    ):
        raise SettingsError(
            f"executor must be a concurrent.futures.Executor or a function that makes one, got "
            f"{executor!r}. Of a Dask client, pass "
            "client.get_executor(pure=False); for local processes, workers=8."
        )
    if workers is not None:
        integer("workers", workers)
    if time_limit is not None and not (is_real(time_limit) and 0 < time_limit <= _LONGEST_LIMIT):
        raise SettingsError(
            f"time_limit is a number of seconds above 0 and up to {_LONGEST_LIMIT:.0e}, got {time_limit!r}."
        )
    _check_share("max_failures", max_failures)
    if progress is not None and not callable(progress):
        raise SettingsError(f"progress must be a function of (done, n), got {progress!r}.")
    if not isinstance(settings, SimulateSettings):
        raise SettingsError(f"settings must be sf.SimulateSettings(...), got {type(settings).__name__}.")


def check_place(store: object) -> None:
    """Raise `SettingsError` unless `store` can name a folder."""
    if not isinstance(store, str | os.PathLike) or str(store) in ("", ".") or "\0" in str(store):
        raise SettingsError(
            f"a bank is named by the path of its own folder, such as 'my.bank', got {store!r}."
        )


def _check_share(name: str, value: Any) -> None:
    if not is_real(value) or not 0 <= float(value) <= 1:
        raise SettingsError(f"{name} is a share in [0, 1], got {value!r}.")
