"""The simulations of the rounds: how many, where they are kept, and what was lost."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.errors import SimulationWarning
from sbi_flows.files import write_bytes
from sbi_flows.posterior.request import RefineRequest
from sbi_flows.posterior.retrained import Rows
from sbi_flows.posterior.truncated import Proposal, Truncated
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import stream
from sbi_flows.simulation.at import simulate_at
from sbi_flows.simulation.settings import SimulateSettings, Where
from sbi_flows.simulation.simulations import Simulations

_FIRST_PART, _MOST_DOUBLED = 20, 9


@dataclass(frozen=True)
class Limits:
    """n: how many simulations a round may make. until, ends: when it stops making them, and when it is to
    end, by `time.monotonic`.
    """

    n: int
    until: float | None = None
    ends: float | None = None

    def parts(self) -> Iterator[int]:
        """The sizes of the parts in which a round simulates: one, or by the clock 20, 20, 40, 80, ... at most
        10,240. With these a part is the same in a run that resumes.
        """
        left, k = self.n, 0
        while left > 0:
            size = (
                left
                if self.until is None
                else min(left, _FIRST_PART * 2 ** min(max(k - 1, 0), _MOST_DOUBLED))
            )
            yield size
            left, k = left - size, k + 1


@dataclass
class Pool:
    """Usable rows of all rounds, and of simulations made before.

    before: how many there were before the last call of `simulate`.
    made, failed: how many simulations the rounds made, and how many of them failed, by cause.
    """

    simulator: Simulator
    request: RefineRequest
    theta: F
    y: NDArray[Any]
    before: int = 0
    made: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, simulator: Simulator, request: RefineRequest) -> Pool:
        """With the simulations of the settings. Raises `ShapeError`, `PriorError` where they do not fit."""
        given = request.settings.simulations
        if given is None:
            nothing = np.empty((0, simulator.prior.d)), np.empty((0, *simulator.event_shape))
            return cls(simulator, request, *nothing)
        given.check_matches(simulator.prior, simulator.event_shape, simulator.events)
        return cls(simulator, request, *given.usable())

    def inside(self, truncated: Truncated) -> Rows:
        """The rows that lie in the region, which are draws of the prior restricted to it. New ones are those
        of the last call of `simulate`.
        """
        kept = truncated.inside(self.theta)
        return Rows(self.theta[kept], self.y[kept], int(kept[self.before :].sum()))

    def simulate(self, proposal: Proposal, number: int, limits: Limits) -> int:
        """Simulate at draws of the proposal, as far as the limits go; how many were made.

        Raises what `simulate_at` raises.
        """
        made, rate, self.before = 0, 0.0, len(self.theta)
        for part, size in enumerate(limits.parts()):
            began = time.monotonic()
            if limits.until is not None and part and began + rate * size > limits.until:
                break
            theta = proposal.take(size)
            if not len(theta):
                break
            self._add(*self._run(theta, number, part))
            took = time.monotonic() - began
            if limits.until is not None:
                took = self._recorded(f"{number}.{part}.json", took)
            made, rate = made + len(theta), took / len(theta)
        return made

    def _recorded(self, name: str, took: float) -> float:
        """The seconds that a part took when it was made, kept in the store."""
        place = self.place(name)
        if place is None:
            return took
        if not Path(place).exists():
            write_bytes(place, json.dumps({"seconds": took}).encode())
        return float(json.loads(Path(place).read_bytes())["seconds"])

    def _run(self, theta: F, number: int, part: int) -> tuple[Simulations, list[str]]:
        where: Where = {
            **self.request.where,
            "settings": self.request.settings.simulate or SimulateSettings(),
        }
        seed = int(stream(self.request.seed, f"round {number}", part).integers(2**31))
        return simulate_at(self.simulator, theta, seed=seed, store=self.place(f"{number}.{part}"), **where)

    def _add(self, found: Simulations, texts: list[str]) -> None:
        for text in texts:
            warnings.warn(text, SimulationWarning, stacklevel=5)
        theta, y = found.usable()
        self.theta, self.y = np.concatenate([self.theta, theta]), np.concatenate([self.y, y])
        self.made += len(found)
        self.failed.update({cause: n for cause, n in found.counts().items() if cause != "ok"})

    def place(self, name: str) -> str | None:
        """A path in the store, if there is one."""
        store = self.request.store
        return None if store is None else str(Path(os.fspath(store)) / name)
