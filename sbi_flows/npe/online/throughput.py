"""Where to simulate and with how many torch threads to train, by rates measured on this machine."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from sbi_flows.errors import SettingsError
from sbi_flows.machine import torch_threads, usable_cores
from sbi_flows.notes import Notes
from sbi_flows.npe.design import MATRICES, training_loss
from sbi_flows.npe.online.replay import ReplayRows
from sbi_flows.rng import torch_scope
from sbi_flows.simulation.supply import Supply
from sbi_flows.training.optimiser import Optimiser
from sbi_flows.training.settings import TrainSettings

_ENOUGH, _SLOWER, _SLOWER_IN_PARALLEL, _STARVED = 1.25, 1.15, 1.5, 0.5
_WORTH_THREADS = 0.9
_WORKERS_START_SECONDS = 5.0
_AHEAD_SECONDS, _AHEAD_BYTES = 4.0, 250_000_000
_TRIAL_SHARE, _SHORTEST, _LONGEST = 0.01, 0.03, 0.6
_BLOCKS_PER_TRIAL = 2.5
_WARM_UP, _LEAST_STEPS = 2, 3

Between = Callable[[], object]


class Throughput(NamedTuple):
    """Rows per second produced and consumed concurrently, and the torch threads for training."""

    simulation_rate: float
    training_rate: float
    threads: int


@dataclass(frozen=True)
class Trial:
    """Training steps on one batch with a copy of the module, to time them."""

    module: nn.Module
    batch: tuple[Tensor, ...]
    settings: TrainSettings

    def __call__(self, threads: int, seconds: float, between: Between = lambda: None) -> float:
        """The mean seconds of a step with this many torch threads, over `seconds` or at least 3 steps.
        `between` is called before each of them.
        """
        trained = copy.deepcopy(self.module).train()
        optimiser = Optimiser(trained, self.settings.optimiser, self.settings.weight_decay, matrices=MATRICES)

        def step() -> None:
            between()
            optimiser.clear()
            training_loss(trained, self.batch).mean().backward()
            float(nn.utils.clip_grad_norm_(optimiser.parameters, self.settings.clip))
            optimiser.step(self.settings.learning_rate)

        with torch_threads(threads), torch_scope(np.random.default_rng(0)):
            for _ in range(_WARM_UP):
                step()
            steps, began = 0, time.perf_counter()
            while steps < _LEAST_STEPS or time.perf_counter() - began < seconds:
                step()
                steps += 1
            return (time.perf_counter() - began) / steps


def trial_seconds(left: float) -> float:
    """How long one trial lasts where this many seconds are left."""
    return min(max(_TRIAL_SHARE * left, _SHORTEST), _LONGEST)


@dataclass(frozen=True)
class Terms:
    """alone: seconds of a step with one thread and nothing in parallel. left: seconds until the end.

    threads: that torch may use. networks: that are to be trained in parallel. converting: seconds of a step
    that go into converting its rows, which a trial without simulations does not do.
    """

    alone: float
    left: float
    threads: int
    networks: int = 1
    converting: float = 0.0


def arrange(
    supply: Supply, rows: ReplayRows, trial: Callable[..., float], terms: Terms, notes: Notes
) -> Throughput:
    """Decide where the supply makes its further blocks, move it there, and bound how far it runs ahead.

    A simulator that is slower than training gets a process on every core but one. Else it stays in its
    thread, unless that delays the steps by more than 15%, in two trials, or it cannot simulate while they are
    taken; then it gets one process. Where the other cores are to train further networks, it may delay the
    steps by half, and torch has one thread. Else torch gets all its threads if steps are then at least 10%
    faster than with one, simulating included.
    """
    size, rate = rows.batch_size, supply.rate
    supply.most_ahead = _bound(rows, size / terms.alone)
    if supply.workers or rate * terms.alone < _ENOUGH * size:
        return _slow_simulator(supply, rate, size / terms.alone, terms.left, notes)
    seconds = max(trial_seconds(terms.left), min(_BLOCKS_PER_TRIAL * supply.block_size / rate, _LONGEST))
    one, times, starved = _delayed(supply, rows, trial, terms, seconds)
    most, workers = terms.threads if terms.networks == 1 else 1, 0
    if starved or times > _tolerated(terms):
        reason = {"starved": starved, "times": times}
        stays = _moved(supply, 1, terms.left)
        if not stays:
            workers, one = 1, one / times
            most = max(min(terms.threads, usable_cores() - 1), 1)
            notes.note("simulator moved", **reason)
        else:
            notes.note("simulator stays", **reason, **stays)
    steps, threads = {1: 1 / one}, 1
    if most > 1:
        many = trial(most, seconds, _Consumer(supply, rows).pull)
        steps[most] = 1 / many
        threads, one = (most, many) if many < _WORTH_THREADS * one else (1, one)
    notes.note("rates", simulation=rate, training=size / one, workers=workers, fresh=1.0)
    notes.note("threads", threads=threads, steps_per_second={str(k): v for k, v in steps.items()})
    return Throughput(rate, size / one, threads)


def _tolerated(terms: Terms) -> float:
    return _SLOWER if terms.networks == 1 else _SLOWER_IN_PARALLEL


def _delayed(
    supply: Supply, rows: ReplayRows, trial: Callable[..., float], terms: Terms, seconds: float
) -> tuple[float, float, bool]:
    """Seconds of a step while a thread simulates; how many times as long as alone; whether the supply fell
    behind.
    """
    alone, consumer = terms.alone, _Consumer(supply, rows)
    one = trial(1, seconds, consumer.pull)
    if one > _tolerated(terms) * alone:
        alone = (alone + trial(1, seconds, _nothing) + terms.converting) / 2
        consumer = _Consumer(supply, rows)
        one = (one + trial(1, seconds, consumer.pull)) / 2
    return one, one / alone, consumer.starved


def _slow_simulator(
    supply: Supply, rate: float, training_rate: float, left: float, notes: Notes
) -> Throughput:
    workers = max(usable_cores() - 1, 1)
    if stays := _moved(supply, workers, left):
        workers = 0
        notes.note("simulator stays", **stays)
    simulation_rate = rate * max(workers, 1)
    fresh = min(simulation_rate / training_rate, 1.0)
    notes.note("rates", simulation=simulation_rate, training=training_rate, workers=workers, fresh=fresh)
    notes.note("threads", threads=1)
    return Throughput(simulation_rate, training_rate, 1)


def _moved(supply: Supply, workers: int, left: float) -> dict[str, Any]:
    """Move the supply to workers, or say why not."""
    if left < _WORKERS_START_SECONDS:
        return {"seconds_left": left}
    try:
        supply.move(workers)
    except SettingsError as error:
        return {"error": str(error)}
    return {}


def _bound(rows: ReplayRows, rate: float) -> int:
    """Rows that may wait: those of a few seconds of training, or what fits in 250 MB."""
    row_bytes = 2 * sum(part[0].nbytes for part in rows.valid)
    return int(min(_AHEAD_SECONDS * rate, _AHEAD_BYTES / row_bytes)) + 1


def _nothing() -> None:
    """Between steps with nothing in parallel."""


class _Consumer:
    """Takes rows off the supply as fast as training would."""

    def __init__(self, supply: Supply, rows: ReplayRows) -> None:
        self._rows, self._wanted = rows, 0
        self._before = rows.pull(rows.waiting + supply.ahead)

    def pull(self) -> None:
        self._wanted += self._rows.batch_size
        self._rows.pull(self._before + self._wanted)

    @property
    def starved(self) -> bool:
        """Whether the supply fell far behind."""
        return self._rows.waiting - self._before < _STARVED * self._wanted
