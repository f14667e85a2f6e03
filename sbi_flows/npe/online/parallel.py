"""Further networks in a fit by the clock: one for each core that would be idle, in a process of its own.

    q(u | y) = sum_k w_k q_k(u | s_k(y))

Where a thread simulates more than training takes, one network keeps one core busy; more torch threads do not
speed up steps of such small networks. As many networks as there are cores, up to four, are then trained in
parallel, from other starting weights and on other rows, and mixed (`npe.network`): since their errors differ,
the mixture has a higher density than each of them. Network k > 0 takes blocks k 2^28, k 2^28 + 1, ... of the
campaign, after the same starting set.
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
from sbi_flows.notes import Notes
from sbi_flows.npe.design import LINEAR_PATHS, MATRICES, Design, training_loss
from sbi_flows.npe.online.replay import ReplayRows, StartRows, save_rows
from sbi_flows.npe.redrawn import as_seen
from sbi_flows.problem.simulator import Simulator
from sbi_flows.simulation.supply import Supply
from sbi_flows.simulation.workers import local_workers, opened, packed, unpacked
from sbi_flows.training.checkpoint import recorded_rows
from sbi_flows.training.history import History
from sbi_flows.training.loop import TrainOptions, train

_MOST, _LEAST_SECONDS, _CLEARLY_FASTER = 4, 30.0, 2.0
_BLOCKS_PER_NETWORK = 2**28
_LATE_SECONDS, _LATE_WHEN_RESUMED = 10.0, 90.0


@dataclass(frozen=True, eq=False)
class Task:
    """What the process of network `member` is given.

    block_size, most_ahead: of the supply. steps: per epoch. until: when training ends, by `time.monotonic`.
    """

    design: Design
    simulator: Simulator
    block_size: int
    most_ahead: int
    start: StartRows
    steps: int
    until: float
    checkpoint: str | None
    member: int = 1


@dataclass(frozen=True, eq=False)
class Trained:
    """The weights of a network, and how many rows of its own it has trained on or left out."""

    state: dict[str, NDArray[Any]]
    history: History
    used: int
    failed: int


def how_many(asked: int | None, faster: float, left: float) -> tuple[int, str]:
    """How many networks to train, and why fewer than were asked for: a key of `notes.FEWER_NETWORKS`, or "".

    faster: the simulation rate over the training rate. left: seconds until the end.
    """
    cores = usable_cores()
    most = min(cores, _MOST if asked is None else asked)
    if most == 1:
        return 1, "" if asked in (None, 1) else "cores"
    if multiprocessing.current_process().daemon:
        return 1, "daemon"
    if faster < _CLEARLY_FASTER:
        return 1, "slow simulator"
    if left < _LEAST_SECONDS:
        return 1, "time"
    return most, "cores" if most < (asked or 1) else ""


Results = Callable[[], dict[int, Trained]]


@contextmanager
def in_parallel(first: Task, count: int, resumes: bool, notes: Notes) -> Iterator[Results]:
    """Train `count` further networks in parallel with what is done in the block. What is yielded waits for
    them and returns those that were not lost.

    resumes: whether the run resumes from a checkpoint. Then only networks with a checkpoint of their own do,
    since a new one would take the whole time again, and they may be later. Whatever happens to a network, the
    one that is trained here is not lost: a note says what happened, and the network is left out.
    """
    with ExitStack() as stack:
        futures: dict[int, Future[Trained]] = {}
        try:
            paths = {k: _path(first.checkpoint, k, resumes) for k in range(1, count + 1)}
            tasks = {
                k: packed(replace(first, member=k, checkpoint=path))
                for k, path in paths.items()
                if not resumes or path is not None
            }
            pool = stack.enter_context(opened(local_workers(count))) if tasks else None
            if pool is not None:
                futures = {k: pool.submit(_train, task) for k, task in tasks.items()}
        except SettingsError as error:
            notes.note("one network", error=str(error))
        except (OSError, RuntimeError, ImportError) as error:
            notes.note("one network", error=f"no process could be started ({type(error).__name__}: {error})")
        if futures:
            notes.note("networks in parallel", networks=1 + len(futures))
        late = _LATE_WHEN_RESUMED if resumes else _LATE_SECONDS
        yield lambda: _results(futures, first.until + late, notes)


def _path(checkpoint: str | None, k: int, resumes: bool) -> str | None:
    """The file of network k, which must exist if the run resumes. One that another run left is removed for a
    new run.
    """
    path = None if checkpoint is None else f"{checkpoint}.{k}"
    if resumes:
        return path if path is not None and Path(path).exists() else None
    if recorded_rows(path) is not None:
        Path(str(path)).unlink()
    return path


def _results(futures: Mapping[int, Future[Trained]], until: float, notes: Notes) -> dict[int, Trained]:
    found = {}
    for k, future in futures.items():
        try:
            trained = future.result(max(until - time.monotonic(), 0.0))
        except TimeoutError:
            notes.note("network left out", network=k + 1, reason="its process did not end in time")
        except Exception as error:  # whatever it was: the network that is trained here stands
            words = [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])]
            notes.note("network left out", network=k + 1, reason=" ".join(words))
        else:
            if trained.history.valid_loss:
                found[k] = trained
            else:
                notes.note("network left out", network=k + 1, reason="its process began too late to train it")
    return found


def _train(payload: bytes) -> Trained:
    """What a process does."""
    torch.set_num_threads(1)
    task: Task = unpacked(payload)
    design, start = task.design, task.start
    with Supply(task.simulator, design.seed, block_size=task.block_size) as supply:
        supply.most_ahead = task.most_ahead
        supply.skip_to(task.member * _BLOCKS_PER_NETWORK)
        block = supply.take(max(task.until - time.monotonic(), 0.0))
        if block is None:
            return Trained({}, History(), 0, 0)
        rows = ReplayRows(supply, design.convert, design.training, start)
        before = rows.failed
        rows.add(block)
        rows.steps = task.steps
        estimator = design.member(task.member)
        options = TrainOptions(
            undecayed=LINEAR_PATHS,
            matrices=MATRICES,
            limit_seconds=max(task.until - time.monotonic(), 0.1),
            checkpoint=task.checkpoint,
            identity=design.identity,
        )
        try:
            history = train(estimator, training_loss, as_seen(rows, design), options)
        except NonFiniteLossError as error:
            if task.checkpoint is not None:
                save_rows(f"{task.checkpoint}.rows", error, supply)
            raise
        state = {name: value.numpy() for name, value in estimator.state_dict().items()}
        return Trained(state, history, max(rows.used - len(start.train[0]), 0), rows.failed - before)
