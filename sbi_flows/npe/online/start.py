"""The starting set of a fit by the clock: the simulations from which the design is chosen."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from sbi_flows.errors import SettingsError, TooFewSimulationsError
from sbi_flows.machine import free_memory, usable_cores
from sbi_flows.npe.settings import ROWS_PER_PARAMETER
from sbi_flows.simulation.assembly import Assembly
from sbi_flows.simulation.failures import OK
from sbi_flows.simulation.simulations import Block, Simulations
from sbi_flows.simulation.supply import Supply
from sbi_flows.training.rows import LEAST_ROWS

_USUAL_ROWS, _USUAL_PER_PARAMETER = 2_000, 50
_MOST_ROWS, _MOST_PER_PARAMETER = 25_000, 100
_USUAL_SHARE, _LARGEST_SHARE, _GIVEN_UP_SHARE = 0.03, 0.2, 0.8
_MOST_BYTES, _FREE_SHARE = 250_000_000, 0.06
_WORTH_WORKERS_SECONDS = 5.0


@dataclass(frozen=True, eq=False)
class Start:
    """The first blocks without a gap, as `Simulations` in memory; and later blocks that came in early."""

    simulations: Simulations
    later: tuple[Block, ...]


def starting_set(supply: Supply, seconds: float, *, rows: int | None = None) -> Start:
    """As many simulations as 3% of `seconds` makes, at most 25,000; at least 2,000, or 50 per parameter, if a
    fifth of the time makes them.

    rows: this many instead: the starting set of a run that resumes. Where a fifth of the time does not make
    50 usable rows, and 25 per parameter, it may take longer.
    Raises `TooFewSimulationsError` where four fifths do not make them, and what the supply raises.
    """
    goal = _Goal.of(supply.simulator.prior.d, seconds, rows)
    blocks: deque[Block] = deque()
    later: dict[int, Block] = {}
    began, usable, held, by_all_cores = time.monotonic(), 0, 0, False
    while True:
        spent = (time.monotonic() - began) / seconds
        if goal.reached(spent, sum(map(len, blocks)) if rows is not None else 0, usable, held):
            break
        if spent >= _GIVEN_UP_SHARE:
            raise TooFewSimulationsError(_too_few(supply, seconds, usable, rows or goal.least))
        until = _LARGEST_SHARE if spent < _LARGEST_SHARE and usable >= goal.least else _GIVEN_UP_SHARE
        block = supply.take(max((until - spent) * seconds, 0.01))
        if block is None:
            continue
        later[supply.number(block)] = block
        while len(blocks) in later:
            first = later.pop(len(blocks))
            blocks.append(first)
            usable, held = usable + int((first.codes == OK).sum()), held + first.y.nbytes
        left = min(((rows or goal.usual) - usable) / max(supply.rate, 1e-9), _LARGEST_SHARE * seconds)
        if not by_all_cores and left > _WORTH_WORKERS_SECONDS and usable_cores() > 1:
            by_all_cores = True
            _by_all_cores(supply)
    return Start(_simulations(supply, list(blocks)), tuple(later.values()))


@dataclass(frozen=True)
class _Goal:
    """least, usual, most: usable rows. most_bytes: of y. rows: exactly this many rows instead, usable or
    not.
    """

    least: int
    usual: int
    most: int
    most_bytes: float
    rows: int | None

    @classmethod
    def of(cls, d: int, seconds: float, rows: int | None) -> _Goal:
        """For d parameters and a fit of this many seconds."""
        least = max(LEAST_ROWS, ROWS_PER_PARAMETER * d)
        usual = max(_USUAL_ROWS, _USUAL_PER_PARAMETER * d)
        most = max(_MOST_ROWS, _MOST_PER_PARAMETER * d)
        return cls(least, usual, most, min(_MOST_BYTES, _FREE_SHARE * free_memory()), rows)

    def reached(self, spent: float, count: int, usable: int, held: int) -> bool:
        """Whether there are enough rows. spent: share of the time; count: rows; held: bytes of y."""
        if self.rows is not None:
            return count >= self.rows
        full = usable >= self.most or held > self.most_bytes
        enough = spent >= _USUAL_SHARE and usable >= self.usual
        return usable >= self.least and (full or enough or spent >= _LARGEST_SHARE)


def _by_all_cores(supply: Supply) -> None:
    """While nothing is trained, all cores can simulate."""
    try:
        supply.move(usable_cores())
    except SettingsError:
        return


def _simulations(supply: Supply, blocks: list[Block]) -> Simulations:
    campaign = supply.campaign
    if campaign is None:
        raise TooFewSimulationsError("nothing was simulated.")
    index = Assembly()
    for k, block in enumerate(blocks):
        index.add(k, block)
    return index.simulations(campaign.simulator.prior, campaign.to_json(), blocks.__getitem__)


def _too_few(supply: Supply, seconds: float, usable: int, wanted: int) -> str:
    return (
        f"{supply.simulator.name}: {usable} usable simulations in {_GIVEN_UP_SHARE * seconds:.3g} s, of the "
        f"{wanted} without which training cannot begin. Give more minutes; or, if a call of the simulator "
        "may hang, simulate with sf.simulate(..., time_limit=...) and pass simulations=."
    )
