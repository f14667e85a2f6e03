"""A few simulations before a campaign, to find a simulator that breaks its contract before days are spent."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbi_flows.errors import NonDeterministicSimulatorError, SimulatorContractError, TooManyFailuresError
from sbi_flows.problem.simulator import Simulator
from sbi_flows.simulation.campaign import Runner, Trouble
from sbi_flows.simulation.failures import SHAPE

BATCH = 8
_MOST_SINGLES = 12


@dataclass(frozen=True)
class Probe:
    """What was seen: the shape of one event, and the seconds that a row took, the second time."""

    event_shape: tuple[int, ...]
    seconds: float


def probe(simulator: Simulator, runner: Runner) -> Probe:
    """Run the simulator on 1 draw and, if it is vectorised, on 8, each twice from the same stream: at most 32
    simulations.

    An exception, a hang or a crash does not break the contract: other draws are tried, and the campaign
    records the bad ones. Raises `SimulatorContractError` for shapes, types, writing to theta, and batches
    that do not run; `NonDeterministicSimulatorError`; `TooManyFailuresError` where no draw of the prior can
    be simulated.
    """
    seen = _Examination(simulator, runner).result()
    simulator.know(runner.events())
    return seen


class _Examination:
    def __init__(self, simulator: Simulator, runner: Runner) -> None:
        self.simulator, self.runner = simulator, runner
        self.troubles: list[Trouble] = []

    def result(self) -> Probe:
        single = self._first(1, range(_MOST_SINGLES))
        if single is None:
            raise TooManyFailuresError(
                f"{self.simulator.name}: failed on each of {_MOST_SINGLES} draws from the prior. First "
                f"cause: {self.troubles[0].cause}. Fix the simulator or the prior."
            )
        seconds, shape = self._repeat(1, *single), single[1].shape[1:]
        if self.simulator.vectorized:
            self._try_batches(shape)
        return Probe(shape, seconds)

    def _try_batches(self, shape: tuple[int, ...]) -> None:
        """A batch of 8. If it fails and three single draws run, a second batch should run too."""
        name, batch = self.simulator.name, self._first(BATCH, range(1))
        if batch is not None:
            if (found := batch[1].shape[1:]) != shape:
                raise SimulatorContractError(
                    f"{name}: events of shape {found} for {BATCH} draws, {shape} for 1; wanted one shape. "
                    "Look for a sum of arrays of shapes (n,) and (n, 1)."
                )
            self._repeat(BATCH, *batch)
            return
        singles_run = all(isinstance(self._run(1, i), np.ndarray) for i in (100, 101, 102))
        if singles_run and self._first(BATCH, range(1, 2)) is None:
            raise SimulatorContractError(
                f"{name}: runs on one draw at a time but not on {BATCH}: {self.troubles[-1].cause}. Declare "
                "it with vectorized=False, or let it take arrays (n,)."
            )

    def _first(self, rows: int, places: range) -> tuple[int, NDArray[Any]] | None:
        for place in places:
            out = self._run(rows, place)
            if isinstance(out, np.ndarray):
                return place, out
        return None

    def _run(self, rows: int, place: int) -> NDArray[Any] | Trouble:
        rng = np.random.default_rng([rows, place])
        out = self.runner.run(self.simulator.prior.sample(rows, rng), rng)
        if isinstance(out, Trouble):
            if out.code == SHAPE:
                raise SimulatorContractError(out.cause)
            self.troubles.append(out)
        return out

    def _repeat(self, rows: int, place: int, y: NDArray[Any]) -> float:
        began = time.perf_counter()
        again = self._run(rows, place)
        if isinstance(again, Trouble) or again.shape != y.shape or again.tobytes() != y.tobytes():
            twice = "the same theta and random stream, given twice,"
            raise NonDeterministicSimulatorError(different(self.simulator.name, twice))
        return time.perf_counter() - began


def different(name: str, what: str) -> str:
    """The message of `NonDeterministicSimulatorError`."""
    return (
        f"{name}: {what} gave different numbers. All randomness must come from the rng that the simulator is "
        "given (not np.random, random, torch or the clock), and nothing may be remembered from one call to "
        "the next."
    )
