"""The starting set of a fit by the clock: the simulations from which everything is chosen before training
begins.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from sbi_flows.errors import SettingsError, TooFewSimulationsError
from sbi_flows.machine import free_memory, usable_cores
from sbi_flows.npe.estimate import ROWS_A_PARAMETER
from sbi_flows.simulation.assembly import Index
from sbi_flows.simulation.failures import OK
from sbi_flows.simulation.simulations import Block, Simulations
from sbi_flows.simulation.supply import Supply
from sbi_flows.training.rows import LEAST_ROWS

_USUAL_ROWS, _USUAL_A_PARAMETER = 2_000, 50
_MOST_ROWS, _MOST_A_PARAMETER = 25_000, 100
_USUAL_SHARE, _LARGEST_SHARE, _GIVEN_UP_SHARE = 0.03, 0.2, 0.8
_MOST_BYTES, _FREE_SHARE = 250_000_000, 0.06
_WORTH_WORKERS_SECONDS = 5.0


@dataclass(frozen=True, eq=False)
class Start:
    """The first blocks without a gap, as `Simulations` in memory, and blocks that came in before their
    turn.
    """

    simulations: Simulations
    later: tuple[Block, ...]


def starting_set(supply: Supply, seconds: float, *, rows: int | None = None) -> Start:
    """As many simulations as 3% of `seconds` makes, at most 25,000; but 2,000, or 50 a parameter, if a fifth
    of the time makes them.

    rows: just so many instead, the starting set of a run that goes on. Where a fifth of the time does not
    make 50 usable rows, and 25 a parameter, it may take longer; `TooFewSimulationsError` where four fifths do
    not. Raises what the supply raises.
    """
    d = supply.simulator.prior.d
    least, usual = max(LEAST_ROWS, ROWS_A_PARAMETER * d), max(_USUAL_ROWS, _USUAL_A_PARAMETER * d)
    most, most_bytes = max(_MOST_ROWS, _MOST_A_PARAMETER * d), min(_MOST_BYTES, _FREE_SHARE * free_memory())
    blocks: deque[Block] = deque()
    later: dict[int, Block] = {}
    began, usable, held, spread = time.monotonic(), 0, 0, False
    while True:
        spent = (time.monotonic() - began) / seconds
        count = sum(map(len, blocks)) if rows is not None else 0
        if rows is not None and count >= rows:
            break
        if (
            rows is None
            and usable >= least
            and (
                usable >= most
                or held > most_bytes
                or (spent >= _USUAL_SHARE and usable >= usual)
                or spent >= _LARGEST_SHARE
            )
        ):
            break
        if spent >= _GIVEN_UP_SHARE:
            raise TooFewSimulationsError(_too_few(supply, seconds, usable, rows or least))
        until = _LARGEST_SHARE if spent < _LARGEST_SHARE and usable >= least else _GIVEN_UP_SHARE
        block = supply.take(max((until - spent) * seconds, 0.01))
        if block is None:
            continue
        later[supply.number(block)] = block
        while len(blocks) in later:
            first = later.pop(len(blocks))
            blocks.append(first)
            usable, held = usable + int((first.codes == OK).sum()), held + first.y.nbytes
        left = min(((rows or usual) - usable) / max(supply.rate, 1e-9), _LARGEST_SHARE * seconds)
        if not spread and left > _WORTH_WORKERS_SECONDS and usable_cores() > 1:
            spread = True
            _by_all_cores(supply)
    return Start(_simulations(supply, list(blocks)), tuple(later.values()))


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
    index = Index()
    for k, block in enumerate(blocks):
        index.add(k, block)
    return index.simulations(campaign.simulator.prior, campaign.to_json(), blocks.__getitem__)


def _too_few(supply: Supply, seconds: float, usable: int, wanted: int) -> str:
    return (
        f"{supply.simulator.name}: {usable} usable simulations in {_GIVEN_UP_SHARE * seconds:.3g} s, of the "
        f"{wanted} without which "
        "training cannot begin. Give more minutes; or, if a call of the simulator may hang, simulate with "
        "sf.simulate(..., time_limit=...) "
        "and pass simulations=."
    )
