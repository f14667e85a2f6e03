"""Simulating: theta ~ p(theta), y ~ p(y | theta), block by block.

Block k draws its theta, and everything a vectorised simulator uses, from `SeedSequence(seed, spawn_key=(k,))`; a simulator that
runs one draw at a time gets a stream for each row, `spawn_key=(k, i)`, and so do the rows of a block in which a vectorised one raises.
Which blocks run where, in what order and how often is therefore without effect on the bytes.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from sbi_flows.errors import BankMismatchError, SettingsError, SimulatorContractError, TooManyFailuresError
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import block_stream, check_seed
from sbi_flows.simulation.bank import Bank, Block
from sbi_flows.simulation.simulations import NONFINITE, OK, RAISED, STATUS, Failure, Simulations

VECTORIZED_BLOCK, SINGLE_BLOCK = 1000, 20
_KEPT_FAILURES = 100
_IN_FLIGHT = 64
_ROWS_BEFORE_STOP = 200


@dataclass(frozen=True)
class _Campaign:
    """All that decides the bytes of a block."""

    simulator: Simulator
    seed: int
    block_size: int

    def rows(self, block: int, n: int) -> int:
        """How many rows of `block` a campaign of n needs: a vectorised simulator always makes whole blocks."""
        if self.simulator.vectorized:
            return self.block_size
        return min(self.block_size, n - block * self.block_size)


def simulate(
    simulator: Simulator,
    n: int,
    *,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    max_failures: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
) -> Simulations:
    """Simulate `n` pairs (theta, y).

    store: a folder for the bank; each finished block is on disk, whole, before it counts. The same call resumes; a larger n extends.
    executor: any `concurrent.futures.Executor`; None runs in this process. The rows are the same bytes either way.
    max_failures: the share of failed rows above which the run stops (checked from 200 rows on).
    progress(done, n) is called after each block.

    Raises `SettingsError`, `SimulatorContractError` (wrong shape or type, found before the campaign starts),
    `TooManyFailuresError`, and `BankMismatchError` for a bank that belongs to something else.
    """
    if not isinstance(simulator, Simulator):
        raise SettingsError(f"simulate takes a simulator made with @sf.simulator(prior), got {type(simulator).__name__}.")
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise SettingsError(f"n must be a positive integer, got {n!r}.")
    n = int(n)
    block_size = VECTORIZED_BLOCK if simulator.vectorized else SINGLE_BLOCK
    campaign = _Campaign(simulator, check_seed(seed), block_size)
    probe(simulator)
    bank = None if store is None else Bank.open(store, simulator, campaign.seed, block_size)
    if not 0 <= max_failures <= 1:
        raise SettingsError(f"max_failures is a share in [0, 1], got {max_failures!r}.")
    count = -(-n // block_size)
    stored: dict[int, Block] = {} if bank is None else {k: b for k, b in bank.read(count) if len(b.codes) >= campaign.rows(k, n)}
    missing = [k for k in range(count) if k not in stored]
    if bank is not None and stored and missing:
        _check_same(campaign, bank, *min(stored.items()))
    blocks: dict[int, Block] = {}
    done = bad = 0
    for k, block in chain(stored.items(), _finished(campaign, missing, n, executor)):
        if bank is not None and k not in stored:
            bank.commit(k, block)
        blocks[k] = block
        done, bad = done + len(block.codes), bad + int((block.codes != OK).sum())
        if done >= min(n, _ROWS_BEFORE_STOP) and bad > max_failures * done:
            raise TooManyFailuresError(_too_many(simulator, blocks, bad, done, max_failures))
        if progress is not None:
            progress(min(done, n), n)
    return _join(campaign, [blocks[k] for k in range(count)], n)


def _check_same(campaign: _Campaign, bank: Bank, k: int, block: Block) -> None:
    """Make a stored block again, or one row of it where rows run alone, so that an edited simulator does not extend another's bank."""
    again = _run_block(campaign, k, len(block.codes) if campaign.simulator.vectorized else 1)
    rows = len(again.codes)
    if not (np.array_equal(again.theta, block.theta[:rows]) and np.array_equal(again.y, block.y[:rows], equal_nan=True)):
        raise BankMismatchError(
            f"{bank.path}: block {k}, made again with this simulator and these package versions, comes out differently. The simulator has "
            "changed, or draws from something other than the rng it is given. Choose another folder."
        )


def probe(simulator: Simulator) -> None:
    """Run the simulator on 1 and on 8 draws and check shapes and types. Raises `SimulatorContractError`.

    An exception inside the simulator is not a broken contract, and is left to the campaign, which records it; unless a vectorised one
    raises on every batch of 8 and on no single draw.
    """
    if simulator.vectorized and _raises(simulator, 1, 3) == 0 and _raises(simulator, 8, 3) == 3:
        raise SimulatorContractError(
            f"{simulator.name}: runs on one draw at a time but raises on 8. Declare it with vectorized=False, or let it take arrays (n,)."
        )
    for rows in (1, 8):
        rng = np.random.default_rng(rows)
        theta = simulator.prior.sample(rows, rng)
        try:
            shape = simulator.run(theta, rng).shape[1:]
        except SimulatorContractError:
            raise
        except Exception:
            continue
        if shape != simulator.event_shape:
            raise SimulatorContractError(
                f"{simulator.name}: events of shape {shape} for {rows} draws, {simulator.event_shape} for 1; wanted one shape."
            )


def _raises(simulator: Simulator, rows: int, times: int) -> int:
    count = 0
    for i in range(times):
        rng = np.random.default_rng([rows, i])
        try:
            simulator.run(simulator.prior.sample(rows, rng), rng)
        except SimulatorContractError:
            raise
        except Exception:
            count += 1
    return count


def _finished(campaign: _Campaign, missing: list[int], n: int, executor: Executor | None) -> Iterator[tuple[int, Block]]:
    if executor is None:
        for k in missing:
            yield k, _run_block(campaign, k, campaign.rows(k, n))
        return
    waiting = iter(missing)
    running: dict[Future[Block], int] = {}
    try:
        while True:
            for k in islice(waiting, _IN_FLIGHT - len(running)):
                running[executor.submit(_run_block, campaign, k, campaign.rows(k, n))] = k
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    finally:
        for future in running:
            future.cancel()


def _run_block(campaign: _Campaign, k: int, rows: int) -> Block:
    simulator = campaign.simulator
    rng = block_stream(campaign.seed, k)
    theta = simulator.prior.sample(campaign.block_size, rng)[:rows]
    codes = np.zeros(rows, dtype=np.uint8)
    failures: list[Failure] = []
    y = _at_once(simulator, theta, rng) if simulator.vectorized else None
    if y is None:
        parts: list[NDArray[np.floating]] = []
        for i in range(rows):
            try:
                parts.append(simulator.run(theta[i : i + 1], block_stream(campaign.seed, k, i)))
            except SimulatorContractError:
                raise
            except Exception as error:
                parts.append(np.full((1, *simulator.event_shape), np.nan, dtype=np.float32))
                codes[i] = RAISED
                failures.append(_failure(k * campaign.block_size + i, k, error))
        y = np.concatenate(parts)
    finite = np.isfinite(y.reshape(rows, -1)).all(axis=1)
    nonfinite = ~finite & (codes == OK)
    codes[nonfinite] = NONFINITE
    for i in np.flatnonzero(nonfinite)[:3]:
        failures.append(Failure(k * campaign.block_size + int(i), k, STATUS[NONFINITE], "NaN or infinite output", ""))
    return Block(theta, y, codes, tuple(failures[:_KEPT_FAILURES]))


def _at_once(simulator: Simulator, theta: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.floating] | None:
    """A whole block in one call, or None if the simulator raises: its rows are then run alone, so that only bad ones are lost."""
    try:
        return simulator.run(theta, rng)
    except SimulatorContractError:
        raise
    except Exception:
        return None


def _failure(row: int, block: int, error: Exception) -> Failure:
    text = "".join(traceback.format_exception(error))
    return Failure(row, block, STATUS[RAISED], f"{type(error).__name__}: {error}", text)


def _too_many(simulator: Simulator, blocks: dict[int, Block], bad: int, done: int, max_failures: float) -> str:
    first = next(failure for block in blocks.values() for failure in block.failures)
    return (
        f"{simulator.name}: {bad:,} of the first {done:,} simulations failed, more than max_failures={max_failures:g}. "
        f"First cause, in row {first.row}: {first.cause}. Mend the simulator or the prior, or raise max_failures."
    )


def _join(campaign: _Campaign, blocks: list[Block], n: int) -> Simulations:
    failures = [failure for block in blocks for failure in block.failures if failure.row < n]
    return Simulations(
        prior=campaign.simulator.prior,
        theta=np.concatenate([block.theta for block in blocks])[:n],
        y=np.concatenate([block.y for block in blocks])[:n],
        codes=np.concatenate([block.codes for block in blocks])[:n],
        seed=campaign.seed,
        block_size=campaign.block_size,
        simulator_name=campaign.simulator.name,
        failures=tuple(failures[:_KEPT_FAILURES]),
    )
