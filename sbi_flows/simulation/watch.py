"""What is watched while blocks come in: failures, progress, and whether a simulator has changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sbi_flows.errors import BankMismatchError, NonDeterministicSimulatorError, TooManyFailuresError
from sbi_flows.simulation.bank import Bank, first_difference, same_rows
from sbi_flows.simulation.campaign import Campaign, Runner, make_block
from sbi_flows.simulation.failures import DIED, MEANT, NONFINITE, OK, STATUS, TIMEOUT, Failure
from sbi_flows.simulation.probe import different
from sbi_flows.simulation.simulations import Block

_ROWS_BEFORE_STOP, _OFTEN = 200, 0.1
_RECHECK_SECONDS, _RECHECK_ROWS = 1.0, 200


@dataclass
class Recheck:
    """Makes stored rows again, so that an edited simulator does not extend the bank of another one.

    Of a vectorised simulator it makes one block; of one that runs one draw at a time as many rows as a second
    allows, from 1 to 200. Blocks in which a call hung or died are passed over if there are others: it may
    hang or die again.
    """

    campaign: Campaign
    bank: Bank
    runner: Runner
    began: float = field(default_factory=time.monotonic)
    rows: int = 0
    _lost: tuple[int, Block] | None = None

    def see(self, k: int, block: Block) -> None:
        """Raise `BankMismatchError` or `NonDeterministicSimulatorError` if rows of a stored block differ."""
        if np.isin(block.codes, (TIMEOUT, DIED)).any():
            self._lost = self._lost or (k, block)
            return
        if self.campaign.simulator.vectorized:
            if not self.rows:
                self._compare(k, block, len(block))
            return
        left = min(_RECHECK_ROWS - self.rows, len(block)) if self._in_time() else 0
        rows = 1 if not self.rows else left
        while rows > 0:
            before = time.monotonic()
            self._compare(k, block, rows)
            a_row = (time.monotonic() - before) / rows
            possible = int((self.began + _RECHECK_SECONDS - time.monotonic()) / max(a_row, 1e-6))
            rows = min(possible, len(block), _RECHECK_ROWS - self.rows) if rows == 1 < len(block) else 0

    def end(self) -> None:
        """All stored blocks have been seen."""
        if not self.rows and self._lost is not None and self.runner.contains_crashes:
            self._compare(*self._lost, len(self._lost[1]) if self.campaign.simulator.vectorized else 1)

    def _in_time(self) -> bool:
        return time.monotonic() - self.began < _RECHECK_SECONDS

    def _compare(self, k: int, block: Block, rows: int) -> None:
        again = make_block(self.campaign, k, rows, self.runner)
        self.rows += rows
        if same_rows(block, again):
            return
        if not same_rows(again, make_block(self.campaign, k, rows, self.runner)):
            twice = f"block {k} of {self.bank.path}, made again twice,"
            raise NonDeterministicSimulatorError(different(self.campaign.simulator.name, twice))
        raise BankMismatchError(
            f"{self.bank.path}: block {k}, made again with this simulator and these package versions, comes "
            f"out differently ({first_difference(block, again)}). The simulator has changed since, or a "
            "package that it uses. Choose another folder."
        )


@dataclass
class Watch:
    """Counts rows, stops a run with too many failures, and reports progress.

    done, bad: rows and failed rows so far; first: the first failure. blocks, alone: blocks so far, and those
    of a vectorised simulator whose rows had to run alone; why: the first cause; clean: whether in one of them
    every row then succeeded.
    """

    name: str
    n: int
    max_failures: float
    progress: Callable[[int, int], None] | None
    done: int = 0
    bad: int = 0
    first: Failure | None = None
    blocks: int = 0
    alone: int = 0
    why: str = ""
    clean: bool = False

    def see(self, block: Block) -> None:
        """Note a block that has come in. Raises `TooManyFailuresError`."""
        self.done, self.bad = self.done + len(block), self.bad + int((block.codes != OK).sum())
        if self.first is None and block.failures:
            self.first = block.failures[0]
        if self.done >= min(self.n, _ROWS_BEFORE_STOP) and self.bad > self.max_failures * self.done:
            raise TooManyFailuresError(self._too_many())
        self.blocks += 1
        if block.alone:
            self.alone += 1
            self.why = self.why or block.alone
            self.clean = self.clean or not block.failures
        if self.progress is not None:
            self.progress(min(self.done, self.n), self.n)

    def _too_many(self) -> str:
        text = (
            f"{self.name}: {self.bad:,} of the first {self.done:,} simulations failed, more than "
            f"max_failures={self.max_failures:g}."
        )
        if self.first is not None:
            theta = ", ".join(
                f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
                for name, value in self.first.theta.items()
            )
            text += f" First cause, in row {self.first.row} ({theta}): {self.first.cause}."
        meant = f" {MEANT}" if self.first is not None and self.first.status == STATUS[NONFINITE] else ""
        return f"{text} Fix the simulator or the prior, or allow more.{meant}"

    def slow_text(self) -> str:
        """A sentence on blocks whose rows had to run alone, empty if they were few and for good reason."""
        if not self.clean and self.alone <= _OFTEN * self.blocks:
            return ""
        return (
            f"{self.name}: in {self.alone:,} of {self.blocks:,} blocks the call for the whole block failed, "
            f"and its rows were run one at a time, which is slower. First cause: {self.why}. Let the "
            "simulator return NaN in rows it cannot make, or raise time_limit."
        )
