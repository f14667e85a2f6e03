"""A simulator's log-likelihood at many theta: in blocks, each with a stream of its own, on all cores.

Block k draws from stream (seed, k) wherever it is computed, so the numbers are the same for any number of
workers. What the user's function raises or returns is checked here.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import ExitStack
from functools import lru_cache
from typing import Any

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.errors import SettingsError, SimulatorContractError, WorkerError
from sbi_flows.machine import usable_cores
from sbi_flows.problem.returned import NamedValues
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import stream
from sbi_flows.simulation.settings import Executors, Place
from sbi_flows.simulation.workers import local_workers, opened, packed, unpacked

BLOCK = 100
_WORTH_WORKERS_SECONDS = 2.0
_JOBS_A_WORKER, _WORKERS_UNKNOWN = 6, 16
_REFUSED = ("time_limit", "max_failures")


class Budget:
    """How much may be spent: evaluations of the likelihood, and seconds.

    share: of both, what the present stage may use up to. evaluations: how many were made.
    """

    def __init__(self, most: int, seconds: float | None = None) -> None:
        self.share, self.evaluations = 1.0, 0
        self._most, self._began, self._seconds = most, time.monotonic(), seconds

    @property
    def left(self) -> int:
        """Evaluations that the stage may still make; 0 once its time is over."""
        return 0 if self.late() else max(0, int(self.share * self._most) - self.evaluations)

    def late(self) -> bool:
        """Whether the time of the stage is over."""
        return self._seconds is not None and self.seconds >= self.share * self._seconds

    @property
    def seconds(self) -> float:
        """How long it has been."""
        return time.monotonic() - self._began


class Likelihood:
    """log p^(y | theta) of one y. A context: leaving it ends the workers that it began.

    Raises `SettingsError` for options that are of simulating.
    """

    def __init__(self, simulator: Simulator, y: F, seed: int, budget: Budget, place: Place) -> None:
        if given := [name for name in _REFUSED if place.get(name) is not None]:
            raise SettingsError(
                f"{given[0]} is for simulations; minutes= and n_simulations= limit the likelihood's work."
            )
        self.simulator, self.budget = simulator, budget
        self._y, self._seed = y, seed
        self._executors: Executors | None = place.get("executor")
        self._workers: int | None = place.get("workers")
        self._executor: Executor | None = None
        self._payload = b""
        self._blocks = 0
        self._stack = ExitStack()

    def __enter__(self) -> Likelihood:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __call__(self, theta: F, rows_a_block: int = BLOCK) -> F:
        """The estimates at theta (n, d): (n,), or the first of them if the time ends before.

        Raises `SimulatorContractError` for what the function raises or returns, and `WorkerError`.
        """
        blocks = [theta[i : i + rows_a_block] for i in range(0, len(theta), rows_a_block)]
        first, self._blocks = self._blocks, self._blocks + len(blocks)
        found: list[F] = []
        for values in self._computed(first, blocks):
            found.append(values)
            self.budget.evaluations += len(values)
            if self.budget.late():
                break
        return np.concatenate(found) if found else np.zeros(0)

    def aside(self, theta: F) -> F:
        """The estimates at a few theta, with a stream of their own, not counted."""
        return evaluate(self.simulator, self._y, theta, stream(self._seed, "likelihood aside"))

    def _computed(self, first: int, blocks: list[F]) -> Iterator[F]:
        """Each block in turn."""
        done, workers = 0, self._wanted_workers()
        if self._executor is None and self._executors is None and workers > 1 and self._workers is None:
            began = time.perf_counter()
            while done < len(blocks):
                yield self._here(first + done, blocks[done])
                done += 1
                a_block = (time.perf_counter() - began) / done
                if a_block * (len(blocks) - done) > _WORTH_WORKERS_SECONDS:
                    break
        executor = self._open(workers) if done < len(blocks) and workers > 1 else None
        if executor is not None:
            yield from self._by_workers(executor, first + done, blocks[done:], workers)
            return
        for i in range(done, len(blocks)):
            yield self._here(first + i, blocks[i])

    def _wanted_workers(self) -> int:
        if self._workers is not None:
            return self._workers
        if self._executors is not None:
            return _WORKERS_UNKNOWN
        return 1 if multiprocessing.current_process().daemon else usable_cores()

    def _open(self, workers: int) -> Executor | None:
        """The executor, or None: a simulator that cannot be sent to another process stays in this one."""
        if self._executor is not None:
            return self._executor
        try:
            self._payload = self._payload or packed((self.simulator, self._y, self._seed))
        except SettingsError:
            if self._executors is not None or self._workers is not None:
                raise
            return None
        self._executor = self._stack.enter_context(opened(self._executors or local_workers(workers)))
        return self._executor

    def _here(self, k: int, theta: F) -> F:
        return evaluate(self.simulator, self._y, theta, stream(self._seed, "likelihood", k))

    def _by_workers(self, executor: Executor, first: int, blocks: list[F], workers: int) -> Iterator[F]:
        size = max(1, -(-len(blocks) // (_JOBS_A_WORKER * workers)))
        futures: list[Future[list[F] | str]] = []
        try:
            for i in range(0, len(blocks), size):
                futures.append(executor.submit(compute, self._payload, first + i, blocks[i : i + size]))
            for future in futures:
                found = future.result()
                if isinstance(found, str):
                    raise SimulatorContractError(found)
                yield from found
        except BrokenExecutor as error:
            raise WorkerError(
                f"{self.simulator.name}: a worker ended while it computed the likelihood ({error}). Look at "
                "what it printed, or compute it in this process: workers=1."
            ) from error
        finally:
            for future in futures:
                future.cancel()


def compute(payload: bytes, first: int, blocks: list[F]) -> list[F] | str:
    """What a worker does: blocks from number `first` on, or what is wrong with the likelihood."""
    simulator, y, seed = _unpacked(payload)
    try:
        return [
            evaluate(simulator, y, theta, stream(seed, "likelihood", first + i))
            for i, theta in enumerate(blocks)
        ]
    except SimulatorContractError as error:
        return str(error)


@lru_cache(maxsize=2)
def _unpacked(payload: bytes) -> Any:
    return unpacked(payload)


def evaluate(simulator: Simulator, y: F, theta: F, rng: np.random.Generator) -> F:
    """log p^(y | theta), (n,): numbers or -inf. Raises `SimulatorContractError`, which names theta."""
    try:
        found = _called(simulator, y, theta, rng)
    except Exception as error:
        where = _first_that_raises(simulator, y, theta)
        raise SimulatorContractError(
            f"{simulator.name}.log_likelihood raised {type(error).__name__}: {error} ({where})."
        ) from error
    try:
        values = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SimulatorContractError(
            f"{simulator.name}.log_likelihood: wanted ({len(theta)},) numbers, got {type(found).__name__} "
            f"({error})."
        ) from error
    if values.shape != (len(theta),):
        raise SimulatorContractError(
            f"{simulator.name}.log_likelihood: wanted one number for each row of theta, shape "
            f"({len(theta)},), got shape {values.shape}."
        )
    if (wrong := np.isnan(values) | (values == np.inf)).any():
        row = int(wrong.argmax())
        raise SimulatorContractError(
            f"{simulator.name}.log_likelihood: wanted numbers, or -inf where the data are impossible; got "
            f"{values[row]} at {named(simulator, theta[row])} ({int(wrong.sum())} of {len(theta)} rows are "
            "wrong)."
        )
    return values


def _called(simulator: Simulator, y: F, theta: F, rng: np.random.Generator) -> Any:
    if simulator.log_likelihood is None:
        raise SettingsError(f"{simulator.name} has no log_likelihood.")
    columns = NamedValues()
    for name, value in simulator.prior.as_mapping(theta).items():
        columns[name] = np.array(value)
        columns[name].flags.writeable = False
    return simulator.log_likelihood(columns, y.copy(), rng)


def _first_that_raises(simulator: Simulator, y: F, theta: F) -> str:
    """The first row at which the function raises when it is called with it alone, in words."""
    for i in range(len(theta)):
        try:
            _called(simulator, y, theta[i : i + 1], np.random.default_rng(0))
        except Exception:
            return f"at {named(simulator, theta[i])}"
    return f"for {len(theta)} rows of theta at once, and for none of them alone"


def named(simulator: Simulator, row: F) -> str:
    """One theta (d,), in words."""
    return ", ".join(f"{name} = {value:.6g}" for name, value in zip(simulator.prior.names, row, strict=True))
