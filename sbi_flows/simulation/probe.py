"""A few simulations before a campaign, so that a simulator that breaks its contract is found out before days
are spent on it.
"""

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
    """What was seen: the shape of one event, and the seconds that one row took, the quicker of two."""

    event_shape: tuple[int, ...]
    seconds: float


def probe(simulator: Simulator, runner: Runner) -> Probe:
    """Run the simulator on 1 and, if it is vectorised, on 8 draws, each twice from the same stream: at most
    32 simulations.

    An exception, a hang or a crash is not a broken contract: other draws are tried, and the
    campaign records the bad ones. Raises `SimulatorContractError` for shapes, types, writing to theta, and
    batches that do not run; `NonDeterministicSimulatorError`; `TooManyFailuresError` where no draw of the
    prior can be simulated.
    """
    seen = _Examination(simulator, runner).result()
    simulator.settle(seen.event_shape)
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
                f"cause: {self.troubles[0].cause}. "
                "Mend the simulator or the prior."
            )
        place, y = single
        seconds = self._repeat(1, place, y)
        shape = y.shape[1:]
        if self.simulator.vectorized:
            batch = self._first(BATCH, range(1))
            if batch is not None:
                if batch[1].shape[1:] != shape:
                    raise SimulatorContractError(
                        f"{self.simulator.name}: events of shape {batch[1].shape[1:]} for {BATCH} draws, "
                        f"{shape} for 1; wanted one shape. "
                        "Look for a sum of arrays of shapes (n,) and (n, 1)."
                    )
                self._repeat(BATCH, *batch)
            elif all(isinstance(self._run(1, i), np.ndarray) for i in (100, 101, 102)):
                self._refuse_batches()
        return Probe(shape, seconds)

    def _refuse_batches(self) -> None:
        """Three single draws run: then the batches of 8 should too, unless failing is common."""
        if self._first(BATCH, range(1, 2)) is None:
            raise SimulatorContractError(
                f"{self.simulator.name}: runs on one draw at a time but not on {BATCH}: "
                f"{self.troubles[-1].cause}. Declare it with "
                "vectorized=False, or let it take arrays (n,)."
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
            raise NonDeterministicSimulatorError(
                different(self.simulator.name, "the same theta and random stream, given twice,")
            )
        return time.perf_counter() - began


def different(name: str, what: str) -> str:
    """The message of `NonDeterministicSimulatorError`."""
    return (
        f"{name}: {what} gave different numbers. All randomness must come from the rng that the simulator "
        f"is given (not np.random, random, "
        "torch or the clock), and nothing may be remembered from one call to the next."
    )
