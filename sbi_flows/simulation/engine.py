"""Simulating: theta ~ p(theta), y ~ p(y | theta), block by block, in this process or by workers, in memory or
into a bank.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

from sbi_flows.errors import SettingsError, SimulationWarning, StorageError, TooManyFailuresError, WorkerError
from sbi_flows.machine import usable_cores
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed
from sbi_flows.simulation.assembly import Index, Table
from sbi_flows.simulation.bank import Bank
from sbi_flows.simulation.campaign import Campaign, InProcess, Runner, make_block
from sbi_flows.simulation.failures import OK
from sbi_flows.simulation.isolation import Isolated, close_isolated, isolated
from sbi_flows.simulation.probe import probe
from sbi_flows.simulation.settings import Executors, SimulateSettings, check_options
from sbi_flows.simulation.simulations import Block, Simulations
from sbi_flows.simulation.watch import Recheck, Watch
from sbi_flows.simulation.workers import Job, finished, local_workers, packed

_ROWS, _SINGLES, _BLOCK_BYTES = 1000, 20, 64_000_000
_SLOW_SECONDS, _QUICK_SECONDS = 1.0, 0.005
_WORTH_WORKERS_SECONDS = 20.0
_UNWRITTEN = 1
OFTEN = 0.1


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
    interrupted or not.

    store: a folder for the bank; each finished block is on disk, whole, before it counts. The same call
        resumes after any kill, and a larger n extends. The result then reads its rows from there when they
        are asked for.
    workers: local processes; 1 is this one. None: this one if it is quick enough, else one a core.
    executor: instead, any `concurrent.futures.Executor` (Dask's `client.get_executor(pure=False)`,
        `mpi4py.futures.MPIPoolExecutor`) or, better, a function that makes one, so that a pool in which a
        worker died can be made again; `workers` then says how many it has.
    time_limit: seconds that one call of the simulator may take (a row, or a block of a vectorised one, whose
    rows are then run alone). The
        calls are made in a child process, so that a hang can be ended, and a crash costs one row: `timeout`
        and `died` in `.status`.
    max_failures: the share of failed rows above which the run stops, checked from 200 rows on.
    progress(done, n) is called after each block.

    Before it begins, up to 32 simulations test the simulator's contract. Raises `SettingsError`,
    `SimulatorContractError`, `NonDeterministicSimulatorError`, `TooManyFailuresError`, `WorkerError`; and for
    a bank `BankMismatchError` if it belongs to something else, `BankLockedError` if another run is writing
    it, and `StorageError` if the disk refuses, with all finished blocks kept.
    """
    settings = SimulateSettings() if settings is None else settings
    check_options(simulator, n, store, executor, workers, time_limit, max_failures, progress, settings)
    n, seed, isolate = (
        int(n),
        check_seed(seed),
        time_limit is not None if settings.isolate is None else settings.isolate,
    )
    watch = Watch(simulator.name, n, max_failures, progress)
    with ExitStack() as stack:
        stack.callback(close_isolated)
        runner = isolated(packed(simulator), time_limit, settings.tries) if isolate else InProcess(simulator)
        bank = None if store is None else Bank.found(store)
        if bank is None or not bank.present() or isolate:
            seconds: float | None = probe(simulator, runner).seconds
        else:
            seconds = None
        block_size = settings.block_size or usual_block_size(simulator, bank, seconds)
        campaign = Campaign(simulator, seed, block_size, simulator.event_shape)
        if isinstance(runner, Isolated):
            runner.event_shape = campaign.event_shape

        def make(todo: list[tuple[int, int]]) -> Blocks:
            if executor is None and (workers == 1 or not todo):
                return _in_turn(campaign, todo, runner)
            job = Job(b"", isolate, time_limit, settings.tries)
            if executor is None and workers is None:
                return _as_fast(campaign, todo, runner, job, seconds)
            return finished(
                campaign, job.of(campaign), todo, executor or local_workers(workers or 1), workers
            )

        if store is None:
            simulations = _in_memory(campaign, n, make, watch)
        else:
            simulations = _in_bank(
                campaign, n, make, watch, Bank(Path(store), campaign.to_json()), bank, runner
            )
    failed = float((simulations.codes != OK).mean())
    if failed > settings.warn_failures:
        warnings.warn(simulations.failure_text(), SimulationWarning, stacklevel=2)
    if watch.clean or watch.alone > OFTEN * watch.blocks:
        warnings.warn(watch.slow_text(), SimulationWarning, stacklevel=2)
    return simulations


Blocks = Generator[tuple[int, Block]]
Make = Callable[[list[tuple[int, int]]], Blocks]


def _in_memory(campaign: Campaign, n: int, make: Make, watch: Watch) -> Simulations:
    table = Table(n, campaign.simulator.prior.d, campaign.simulator.event_shape)
    with closing(make(_wanted(campaign, n))) as blocks:
        for k, block in blocks:
            table.add(k, block)
            watch.see(block)
    return table.finished(campaign.simulator.prior, campaign.to_json())


def _in_bank(
    campaign: Campaign, n: int, make: Make, watch: Watch, bank: Bank, found: Bank | None, runner: Runner
) -> Simulations:
    if found is not None:
        found.check(bank.campaign)
    index, damaged, rows = Index(), list[int](), dict(_wanted(campaign, n))
    recheck = None if found is None else Recheck(campaign, bank, runner)
    for k, block in bank.blocks(len(rows), damaged):
        if recheck is not None:
            recheck.see(k, block)
        if len(block) >= rows[k]:
            index.add(k, block)
            watch.see(block)
            del rows[k]
    if recheck is not None:
        recheck.end()
    if rows:
        with bank.writing():
            if damaged:
                _set_aside(bank, damaged)
            try:
                with closing(make(list(rows.items()))) as blocks, closing(_on_disk(bank, blocks)) as written:
                    for k, block in written:
                        index.add(k, block)
                        watch.see(block)
            except (KeyboardInterrupt, StorageError, TooManyFailuresError, WorkerError) as stop:
                stop.add_note(
                    f"{bank.path} holds {len(bank.present()):,} finished blocks of {campaign.block_size:,} "
                    f"rows; "
                    "the same call goes on from them."
                )
                raise
    return index.simulations(campaign.simulator.prior, bank.campaign, bank.load, n)


def _wanted(campaign: Campaign, n: int) -> list[tuple[int, int]]:
    return [(k, campaign.rows(k, n)) for k in range(-(-n // campaign.block_size))]


def _in_turn(campaign: Campaign, todo: list[tuple[int, int]], runner: Runner) -> Blocks:
    for k, rows in todo:
        yield k, make_block(campaign, k, rows, runner)


def _as_fast(
    campaign: Campaign, todo: list[tuple[int, int]], runner: Runner, job: Job, seconds: float | None
) -> Blocks:
    """In this process while what is left is quick enough, else by one worker a core."""
    if multiprocessing.current_process().daemon:
        yield from _in_turn(campaign, todo, runner)
        return
    a_block = None if seconds is None or campaign.simulator.vectorized else seconds * campaign.block_size
    for i, (k, rows) in enumerate(todo):
        if (
            a_block is not None
            and a_block * (len(todo) - i) > _WORTH_WORKERS_SECONDS
            and (cores := usable_cores()) > 1
        ):
            try:
                job = job.of(campaign)
            except SettingsError as error:
                warnings.warn(f"simulating on one core: {error}", SimulationWarning, stacklevel=2)
                yield from _in_turn(campaign, todo[i:], runner)
            else:
                yield from finished(campaign, job, todo[i:], local_workers(cores), cores)
            return
        began = time.perf_counter()
        block = make_block(campaign, k, rows, runner)
        a_block = time.perf_counter() - began
        yield k, block


def _on_disk(bank: Bank, blocks: Blocks) -> Blocks:
    """Blocks once they are on disk: one is written while the next is made."""
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
        f"name). They are made again; the "
        f"old files are kept: {places}.",
        SimulationWarning,
        stacklevel=4,
    )


def usual_block_size(simulator: Simulator, bank: Bank | None, seconds: float | None) -> int:
    """Rows a block where none are asked for; seconds: what one row takes, if that is known."""
    if bank is not None and bank.campaign.get("vectorized") == simulator.vectorized:
        return int(bank.campaign["block_size"])
    if simulator.vectorized:
        return max(1, min(_ROWS, _BLOCK_BYTES // (8 * max(1, math.prod(simulator.event_shape)))))
    if seconds is None:
        return _SINGLES
    return 1 if seconds > _SLOW_SECONDS else _SINGLES if seconds > _QUICK_SECONDS else _ROWS
