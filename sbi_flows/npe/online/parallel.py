"""Further networks in a fit by the clock: one for each core that would be idle, in a process of its own, on
simulations of its own.

    q(u | y) = sum_k w_k q_k(u | s_k(y))

Where a thread simulates more than training takes, one network keeps one core busy; more torch threads do not
make steps of such small networks quicker. As many networks as there are cores, up to four, are then trained
side by side, from other starting weights and on other rows, and mixed in the shares of the largest density on
the rows kept apart (`npe.network`): since their errors differ, the mixture is denser than each of them is.
Network k > 0 takes blocks k 2^28, k 2^28 + 1, ... of the campaign, after the same starting set.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from sbi_flows.errors import NonFiniteLossError, SettingsError
from sbi_flows.machine import usable_cores
from sbi_flows.nets.scaling import Scaler
from sbi_flows.nets.summary import Learned, SummaryKind
from sbi_flows.npe.estimate import LINEAR_PATHS, build_estimator, negative_log_density
from sbi_flows.npe.online.replay import GrowingRows, save_rows
from sbi_flows.npe.out_of_core import Convert
from sbi_flows.npe.settings import FitSettings
from sbi_flows.problem.simulator import Simulator
from sbi_flows.simulation.supply import Supply
from sbi_flows.simulation.workers import local_workers, opened, packed, unpacked
from sbi_flows.training.checkpoint import recorded_rows
from sbi_flows.training.loop import History, train
from sbi_flows.training.rows import Batch
from sbi_flows.training.settings import TrainSettings

_MOST, _LEAST_SECONDS, _CLEARLY_QUICKER = 4, 30.0, 2.0
_APART = 2**28
_LATE_SECONDS, _LATE_AFTER_STOP = 10.0, 90.0


@dataclass(frozen=True, eq=False)
class Partner:
    """What the process of network `member` is given. until: when training ends, by `time.monotonic`."""

    simulator: Simulator
    seed: int
    block_size: int
    most_ahead: int
    settings: FitSettings
    kind: SummaryKind
    scaler: Scaler
    dim: int
    learned: Learned | None
    convert: Convert
    train: Batch
    valid: Batch
    training: TrainSettings
    start: int
    kept_bytes: int
    steps: int
    until: float
    checkpoint: str | None
    identity: Mapping[str, object] | None
    member: int = 1


@dataclass(frozen=True, eq=False)
class Trained:
    """The weights of a partner, and how many rows of its own it has trained on or left out."""

    state: dict[str, NDArray[Any]]
    history: History
    used: int
    failed: int


def how_many(asked: int | None, quicker: float, left: float) -> tuple[int, str]:
    """How many networks are to be trained, and why fewer than asked for. quicker: how many times as quick as
    training simulating is.
    """
    cores = usable_cores()
    most = min(cores, _MOST if asked is None else asked)
    if most == 1:
        return 1, "there is one a core" if asked not in (None, 1) else ""
    if multiprocessing.current_process().daemon:
        return 1, "a daemonic process may not start others"
    if quicker < _CLEARLY_QUICKER:
        return 1, "simulating takes what the other cores can give"
    if left < _LEAST_SECONDS:
        return 1, f"{left:.2g} s are too few to start processes"
    return most, "there is one a core" if most < (asked or 1) else ""


@contextmanager
def partners(
    first: Partner, count: int, goes_on: bool, note: Callable[[str], None]
) -> Iterator[Callable[[], dict[int, Trained]]]:
    """So many partners, beside what is done in the block; what is yielded waits for them and returns those
    that have not been lost.

    goes_on: whether the run goes on from a checkpoint; then only those partners do that have one too, since a
    new one would take the whole time again, and they may be later. Whatever happens to a partner, the network
    that is trained here is not lost by it: `note` is told, and the partner left out.
    """
    with ExitStack() as stack:
        futures: dict[int, Future[Trained]] = {}
        try:
            paths = {k: _path(first.checkpoint, k, goes_on) for k in range(1, count + 1)}
            payloads = {
                k: packed(replace(first, member=k, checkpoint=path))
                for k, path in paths.items()
                if not goes_on or path is not None
            }
            pool = stack.enter_context(opened(local_workers(count))) if payloads else None
            if pool is not None:
                futures = {k: pool.submit(_train, payload) for k, payload in payloads.items()}
        except SettingsError as error:
            note(f"one network: {error}")
        except (OSError, RuntimeError, ImportError) as error:
            note(f"one network: no process could be started for another ({type(error).__name__}: {error})")
        if futures:
            note(
                f"{1 + len(futures)} such networks are trained side by side, one a core, each on "
                f"simulations of its own"
            )
        yield lambda: _results(futures, first.until + (_LATE_AFTER_STOP if goes_on else _LATE_SECONDS), note)


def _path(checkpoint: str | None, k: int, goes_on: bool) -> str | None:
    """The file of partner k, which has to be there if the run goes on. One that was left by another run makes
    way for a new run's.
    """
    path = None if checkpoint is None else f"{checkpoint}.{k}"
    if goes_on:
        return path if path is not None and Path(path).exists() else None
    if recorded_rows(path) is not None:
        Path(str(path)).unlink()
    return path


def _results(
    futures: Mapping[int, Future[Trained]], until: float, note: Callable[[str], None]
) -> dict[int, Trained]:
    found = {}
    for k, future in futures.items():
        try:
            trained = future.result(max(until - time.monotonic(), 0.0))
        except TimeoutError:
            note(f"network {k + 1} is left out: its process had not come to an end in time")
        except Exception as error:  # whatever it was: the network that is trained here stands
            note(
                " ".join(
                    [
                        f"network {k + 1} is left out: {type(error).__name__}: {error}",
                        *getattr(error, "__notes__", []),
                    ]
                )
            )
        else:
            if trained.history.valid_loss:
                found[k] = trained
            else:
                note(f"network {k + 1} is left out: its process began too late to train it")
    return found


def _train(payload: bytes) -> Trained:
    """What a process does."""
    torch.set_num_threads(1)
    given: Partner = unpacked(payload)
    with Supply(given.simulator, given.seed, block_size=given.block_size) as supply:
        supply.most_ahead = given.most_ahead
        supply.skip_to(given.member * _APART)
        block = supply.take(max(given.until - time.monotonic(), 0.0))
        if block is None:
            return Trained({}, History(), 0, 0)
        rows = GrowingRows(
            supply, given.convert, given.train, given.valid, given.training, given.start, given.kept_bytes
        )
        before = rows.failed
        rows.add(block)
        rows.steps = given.steps
        estimator = build_estimator(
            given.settings, given.kind, given.scaler, given.dim, given.seed, given.member, given.learned
        )
        try:
            history = train(
                estimator,
                negative_log_density,
                rows,
                undecayed=LINEAR_PATHS,
                limit_seconds=max(given.until - time.monotonic(), 0.1),
                checkpoint=given.checkpoint,
                identity=given.identity,
            )
        except NonFiniteLossError as error:
            if given.checkpoint is not None:
                save_rows(f"{given.checkpoint}.rows", error, supply)
            raise
        state = {name: value.numpy() for name, value in estimator.state_dict().items()}
        own = max(rows.used - len(given.train[0]), 0)
        return Trained(state, history, own, rows.failed - before)
