"""Simulating, block by block: in this process or by workers, in memory or into a bank."""

from __future__ import annotations

import multiprocessing
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sbi_flows.errors import SettingsError, SimulationWarning, StorageError, TooManyFailuresError, WorkerError
from sbi_flows.machine import usable_cores
from sbi_flows.problem.simulator import Simulator
from sbi_flows.simulation.assembly import Assembly, AssemblyInMemory
from sbi_flows.simulation.bank import Bank
from sbi_flows.simulation.campaign import Campaign, InProcess, Runner, make_block
from sbi_flows.simulation.failures import OK
from sbi_flows.simulation.isolation import close_isolated, isolated
from sbi_flows.simulation.probe import probe
from sbi_flows.simulation.settings import Executors, Request, SimulateSettings, usual_rows
from sbi_flows.simulation.simulations import Block, Simulations
from sbi_flows.simulation.watch import Recheck, Watch
from sbi_flows.simulation.workers import Job, finished, local_workers, packed

_ROWS, _SINGLES = 1000, 20
_SLOW_SECONDS, _QUICK_SECONDS = 1.0, 0.005
_WORTH_WORKERS_SECONDS = 20.0
_UNWRITTEN = 1

Blocks = Generator[tuple[int, Block]]
Todo = list[tuple[int, int]]


def simulate(
    simulator: Simulator,
    n: int,
    *,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    executor: Executors | None = None,
    workers: int | None = None,
    time_limit: float | None = None,
    max_failures: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
    settings: SimulateSettings | None = None,
) -> Simulations:
    """Simulate `n` pairs (theta, y). The rows are the same bytes wherever they are made, in whatever order,
    interrupted or not. Before it begins, up to 32 simulations test the simulator's contract.

    store: a folder for the bank. Each finished block is on disk, whole, before it counts. The same call
        resumes after any kill, and a larger n extends. The result reads its rows from there when needed.
    workers: how many local processes; 1 is this one. None: this one if it is quick enough, else one per core.
    executor: instead, any `concurrent.futures.Executor` (Dask's `client.get_executor(pure=False)`,
        `mpi4py.futures.MPIPoolExecutor`) or, better, a function that makes one, so that a pool in which a
        worker died can be made again. `workers` then says how many workers it has.
    time_limit: seconds that one call of the simulator may take: a row, or a block of a vectorised simulator,
        whose rows are then run alone. The calls are made in a child process, so that a hang can be ended and
        a crash costs one row: `timeout` and `died` in `.status`.
    max_failures: the share of failed rows above which the run stops, checked from 200 rows on.
    progress: (done, n) -> None, called after each block.

    Raises `SettingsError`, `SimulatorContractError`, `NonDeterministicSimulatorError`,
    `TooManyFailuresError`, `WorkerError`; for a bank `BankMismatchError` if it belongs to something else,
    `BankLockedError` if another run is writing it, and `StorageError` if the disk refuses, with all finished
    blocks kept.
    """
    options = SimulateSettings() if settings is None else settings
    request = Request(
        simulator, n, seed, store, executor, workers, time_limit, max_failures, progress, options
    )
    simulations, texts = run(request)
    for text in texts:
        warnings.warn(text, SimulationWarning, stacklevel=2)
    return simulations


def run(request: Request) -> tuple[Simulations, list[str]]:
    """What was simulated, and what to warn of. Raises as `simulate`."""
    watch = Watch(request.simulator.name, request.n, request.max_failures, request.progress)
    try:
        simulations = _simulated(request, watch)
    finally:
        close_isolated()
    failed = float((simulations.codes != OK).mean()) > request.settings.warn_failures
    texts = (simulations.failure_text() if failed else "", watch.slow_text())
    return simulations, [text for text in texts if text]


def _simulated(request: Request, watch: Watch) -> Simulations:
    simulator, tries = request.simulator, request.settings.tries
    runner: Runner = InProcess(simulator)
    if request.isolate:
        runner = isolated(packed(simulator), request.time_limit, tries)
    found = None if request.store is None else Bank.found(request.store)
    seconds = request.row_seconds
    if seconds is None and (found is None or not found.present() or request.isolate):
        seconds = probe(simulator, runner).seconds
    block_size = request.settings.block_size or usual_block_size(simulator, found, seconds)
    campaign = Campaign(simulator, request.seed, block_size, simulator.event_shape, request.theta)
    runner.settle(campaign.event_shape)
    maker = _Maker(request, campaign, runner, seconds)
    if request.store is None:
        return _in_memory(maker, watch)
    return _in_bank(maker, watch, Bank(Path(request.store), campaign.to_json()), found)


@dataclass(frozen=True)
class _Maker:
    """Makes the blocks of a campaign. seconds: what one row takes, if that is known."""

    request: Request
    campaign: Campaign
    runner: Runner
    seconds: float | None

    def wanted(self) -> Todo:
        """All blocks that the request needs: (block, rows)."""
        n = self.request.n
        return [(k, self.campaign.rows(k, n)) for k in range(-(-n // self.campaign.block_size))]

    def blocks(self, todo: Todo) -> Blocks:
        """Those blocks, where the request says: here, by workers, or as is quickest."""
        executor, workers = self.request.executor, self.request.workers
        if executor is None and (workers == 1 or not todo):
            return self._in_turn(todo)
        if executor is None and workers is None:
            return self._as_fast(todo)
        return finished(self.campaign, self._job(), todo, executor or local_workers(workers or 1), workers)

    def _job(self) -> Job:
        request = self.request
        return Job(packed(self.campaign), request.isolate, request.time_limit, request.settings.tries)

    def _in_turn(self, todo: Todo) -> Blocks:
        for k, rows in todo:
            yield k, make_block(self.campaign, k, rows, self.runner)

    def _as_fast(self, todo: Todo) -> Blocks:
        """In this process while what is left is quick enough, else by one worker per core."""
        if multiprocessing.current_process().daemon:
            yield from self._in_turn(todo)
            return
        a_block = 0.0
        if self.seconds is not None and not self.campaign.simulator.vectorized:
            a_block = self.seconds * self.campaign.block_size
        for i, (k, rows) in enumerate(todo):
            if a_block * (len(todo) - i) > _WORTH_WORKERS_SECONDS and (cores := usable_cores()) > 1:
                yield from self._by_cores(todo[i:], cores)
                return
            began = time.perf_counter()
            block = make_block(self.campaign, k, rows, self.runner)
            a_block = time.perf_counter() - began
            yield k, block

    def _by_cores(self, todo: Todo, cores: int) -> Blocks:
        try:
            job = self._job()
        except SettingsError as error:
            warnings.warn(f"simulating on one core: {error}", SimulationWarning, stacklevel=2)
            return self._in_turn(todo)
        return finished(self.campaign, job, todo, local_workers(cores), cores)


def _in_memory(maker: _Maker, watch: Watch) -> Simulations:
    simulator = maker.campaign.simulator
    assembly = AssemblyInMemory(maker.request.n, simulator.prior.d, maker.campaign.event_shape)
    with closing(maker.blocks(maker.wanted())) as blocks:
        for k, block in blocks:
            assembly.add(k, block)
            watch.see(block)
    return assembly.finished(simulator.prior, maker.campaign.to_json())


def _in_bank(maker: _Maker, watch: Watch, bank: Bank, found: Bank | None) -> Simulations:
    """The rows of the bank, once those that it lacks have been made. found: what was there before."""
    assembly, damaged, rows = Assembly(), list[int](), dict(maker.wanted())
    recheck = None
    if found is not None:
        found.check(bank.campaign)
        recheck = Recheck(maker.campaign, bank, maker.runner)
    for k, block in bank.blocks(len(rows), damaged):
        if recheck is not None:
            recheck.see(k, block)
        if len(block) >= rows[k]:
            assembly.add(k, block)
            watch.see(block)
            del rows[k]
    if recheck is not None:
        recheck.end()
    if rows:
        with bank.writing():
            if damaged:
                _set_aside(bank, damaged)
            try:
                with closing(maker.blocks(list(rows.items()))) as made, closing(_on_disk(bank, made)) as done:
                    for k, block in done:
                        assembly.add(k, block)
                        watch.see(block)
            except (KeyboardInterrupt, StorageError, TooManyFailuresError, WorkerError) as stop:
                stop.add_note(
                    f"{bank.path} holds {len(bank.present()):,} finished blocks of "
                    f"{maker.campaign.block_size:,} rows; the same call resumes from them."
                )
                raise
    return assembly.simulations(maker.campaign.simulator.prior, bank.campaign, bank.load, maker.request.n)


def _on_disk(bank: Bank, blocks: Blocks) -> Blocks:
    """Blocks, once they are on disk. One is written while the next is made."""
    pending: deque[tuple[Future[None], int, Block]] = deque()

    def oldest() -> tuple[int, Block]:
        future, k, block = pending.popleft()
        future.result()
        return k, block

    with ThreadPoolExecutor(1, "bank") as disk:
        for k, block in blocks:
            pending.append((disk.submit(bank.commit, k, block), k, block))
            while len(pending) > _UNWRITTEN or (pending and pending[0][0].done()):
                yield oldest()
        while pending:
            yield oldest()


def _set_aside(bank: Bank, damaged: list[int]) -> None:
    places = ", ".join(str(bank.set_aside(k)) for k in damaged)
    warnings.warn(
        f"{bank.path}: {len(damaged)} of its blocks are damaged (changed, cut short, or under another's "
        f"name). They are made again; the old files are kept: {places}.",
        SimulationWarning,
        stacklevel=6,
    )


def usual_block_size(simulator: Simulator, bank: Bank | None, seconds: float | None) -> int:
    """Rows per block where the user does not say. seconds: what one row takes, if that is known."""
    if bank is not None and bank.campaign.get("vectorized") == simulator.vectorized:
        return int(bank.campaign["block_size"])
    if simulator.vectorized:
        return usual_rows(simulator.event_shape)
    if seconds is None:
        return _SINGLES
    return 1 if seconds > _SLOW_SECONDS else _SINGLES if seconds > _QUICK_SECONDS else _ROWS
