"""The pace of a fit by the clock: where to simulate and with how many torch threads to train, by rates
measured on this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sbi_flows.errors import SettingsError
from sbi_flows.machine import usable_cores
from sbi_flows.npe.online.replay import GrowingRows
from sbi_flows.simulation.supply import Supply

_ENOUGH, _SLOWER, _SLOWER_BESIDE_OTHERS, _STARVED = 1.25, 1.15, 1.5, 0.5
_WORTH_THREADS = 0.9
_WORKERS_START_SECONDS = 5.0
_AHEAD_SECONDS, _AHEAD_BYTES = 4.0, 250_000_000
_TRIAL_SHARE, _SHORTEST, _LONGEST = 0.01, 0.03, 0.6
_BLOCKS_A_TRIAL = 2.5

Step = Callable[[int, float, Callable[[], object]], float]


@dataclass(frozen=True)
class Pace:
    """simulates: rows a second that can be made beside training; trains: that training takes. threads: of
    torch. said: the choices.
    """

    simulates: float
    trains: float
    threads: int
    said: tuple[str, ...]


def trial_seconds(left: float) -> float:
    """How long one trial lasts where so many seconds are left."""
    return min(max(_TRIAL_SHARE * left, _SHORTEST), _LONGEST)


def arrange(
    supply: Supply,
    rows: GrowingRows,
    step: Step,
    alone: float,
    left: float,
    threads: int,
    *,
    networks: int = 1,
) -> Pace:
    """Decide where the supply makes its further blocks, move it there, and bound how far it runs ahead.

    A simulator that is slower than training gets a process on every core but one. Else it stays in its
    thread, unless that delays the steps by more than 15%, in two trials, or cannot simulate while they are
    taken; then it gets one process. Where the other cores are to train further networks, it may delay the
    steps by half, and torch has one thread. Else torch gets all its threads if steps are then at least 10%
    quicker than with one, simulating included.

    step(threads, seconds, between): the mean seconds of a training step, `between` being called before each.
    alone: that of one thread with nothing beside it. left: seconds until the end. threads: that torch may
    use. networks: that are to be trained side by side.
    """
    slower = _SLOWER if networks == 1 else _SLOWER_BESIDE_OTHERS
    size, rate = rows.batch_size, supply.rate
    supply.most_ahead = _bound(rows, size / alone)
    if supply.workers or rate * alone < _ENOUGH * size:
        return _slow_simulator(supply, rate, size / alone, left)
    said, most = [], threads if networks == 1 else 1
    seconds = max(trial_seconds(left), min(_BLOCKS_A_TRIAL * supply.block_size / rate, _LONGEST))
    beside = _Beside(supply, rows)
    one, where = step(1, seconds, beside.pull), _THREAD
    if one > slower * alone:
        alone = (alone + step(1, seconds, _nothing)) / 2
        beside = _Beside(supply, rows)
        one = (one + step(1, seconds, beside.pull)) / 2
    if beside.starved or one > slower * alone:
        why = f"in a thread it makes a step take {one / alone:.2g} times as long"
        if beside.starved:
            why = "a thread has no turn while steps are taken"
        if (stays := _moved(supply, 1, left)) is None:
            where, most, one = _processes(1), max(min(threads, usable_cores() - 1), 1), alone
            said.append(f"the simulator is moved to a process of its own: {why}")
        else:
            said.append(f"the simulator stays in a thread of this process, though {why}: {stays}")
    steps = f"{1 / one:.3g} steps/s with 1 thread"
    if most > 1:
        many = step(most, seconds, _Beside(supply, rows).pull)
        steps = f"{steps}, {1 / many:.3g} with {most}"
        most, one = (most, many) if many < _WORTH_THREADS * one else (1, one)
    said.append(f"{_rates(rate, where, size / one)}: every row is fresh")
    said.append(f"threads for training: {most} ({steps}, while simulating)")
    return Pace(rate, size / one, most, tuple(said))


def _slow_simulator(supply: Supply, rate: float, trains: float, left: float) -> Pace:
    workers, said = max(usable_cores() - 1, 1), []
    if (stays := _moved(supply, workers, left)) is not None:
        said.append(f"the simulator stays in a thread of this process: {stays}")
    simulates = rate * (workers if stays is None else 1)
    share = simulates / trains
    mix = (
        "every row is fresh"
        if share >= 1
        else f"{share:.1%} of each batch is fresh, each row seen about {1 / share:.3g} times"
    )
    said.append(f"{_rates(simulates, _THREAD if stays else _processes(workers), trains)}: {mix}")
    said.append("threads for training: 1 (the other cores simulate)")
    return Pace(simulates, trains, 1, tuple(said))


def _moved(supply: Supply, workers: int, left: float) -> str | None:
    """Move the supply to workers, or say why not."""
    if left < _WORKERS_START_SECONDS:
        return f"{left:.2g} s are too few to start processes"
    try:
        supply.move(workers)
    except SettingsError as error:
        return str(error)
    return None


def _bound(rows: GrowingRows, rate: float) -> int:
    """Rows that may wait: those of a few seconds of training, or what fits in 250 MB."""
    row_bytes = 2 * sum(part[0].nbytes for part in rows.valid)
    return int(min(_AHEAD_SECONDS * rate, _AHEAD_BYTES / row_bytes)) + 1


_THREAD = "in a thread of this process"


def _processes(count: int) -> str:
    return f"in {count} process{'es' * (count > 1)}"


def _rates(simulates: float, where: str, trains: float) -> str:
    return f"simulating {_rounded(simulates)} rows/s {where}, training takes {_rounded(trains)}"


def _rounded(value: float) -> str:
    """Three digits, without powers of ten."""
    return f"{float(f'{value:.3g}'):,.10g}"


def _nothing() -> None:
    """Beside the steps."""


class _Beside:
    """Takes rows off the supply as fast as training would."""

    def __init__(self, supply: Supply, rows: GrowingRows) -> None:
        self._rows, self._wanted = rows, 0
        self._before = rows.pull(rows.waiting + supply.ahead)

    def pull(self) -> None:
        self._wanted += self._rows.batch_size
        self._rows.pull(self._before + self._wanted)

    @property
    def starved(self) -> bool:
        """Whether the supply fell far behind."""
        return self._rows.waiting - self._before < _STARVED * self._wanted
