"""Where a verb simulates: the options that such verbs share, and the executor that they name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from sbi_flows.cli import options
from sbi_flows.errors import SettingsError


@dataclass(frozen=True)
class Execution:
    """Where the simulator runs, and when it is stopped."""

    workers: int | None
    scheduler: str | None
    time_limit: float | None
    max_failures: float


execution = options.grouped(
    "where",
    Execution,
    options.integer(
        "--workers", 1, "Local processes. [default: this one if that is quick enough, else one per core]"
    ),
    click.option("--scheduler", help="Address of a Dask scheduler, tcp://host:8786 (needs the extra dask)."),
    options.positive("--time-limit", "Seconds that one call of the simulator may take."),
    options.fraction("--max-failures", "Stop when more than this fraction of simulations fails.", 0.5),
)


@contextmanager
def executor_of(scheduler: str | None) -> Iterator[Any]:
    """The executor of a Dask scheduler, or None. Raises `SettingsError`."""
    if scheduler is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise SettingsError("--scheduler needs Dask: pip install 'sbi_flows[dask]'.") from error
    try:
        client = Client(scheduler, timeout="20s")
    except (OSError, TimeoutError, ValueError) as error:
        why = f"no Dask scheduler answers there ({error})"
        raise SettingsError(f"--scheduler {scheduler}: {why}. Start one: `dask scheduler`.") from error
    with client:
        yield client.get_executor(pure=False)
