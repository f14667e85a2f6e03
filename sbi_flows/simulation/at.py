"""Simulating at given theta, by the same engine: the generations of sequential methods.

A bank made so records a SHA-256 of theta. The same call resumes it, and `sf.read_bank` refuses it, because
its theta are not drawn from the prior.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Unpack

import numpy as np
from jaxtyping import Shaped

from sbi_flows.arrays import F
from sbi_flows.errors import SettingsError, ShapeError
from sbi_flows.problem.simulator import Simulator
from sbi_flows.simulation.engine import run
from sbi_flows.simulation.settings import Place, Request, SimulateSettings, Where, usual_rows
from sbi_flows.simulation.simulations import Block, Simulations


def simulate_at(
    simulator: Simulator,
    theta: F,
    *,
    seed: int,
    store: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    row_seconds: float | None = None,
    **where: Unpack[Where],
) -> tuple[Simulations, list[str]]:
    """Simulate one y at each row of theta (n, d), and what to warn of. `Simulations.codes` says what failed.

    The rows are the same bytes for any number of workers, interrupted or not.

    progress: (done, n) -> None, called after each block. What it raises ends the call.
    row_seconds: what a row took in an earlier call; the simulator's contract is not tested again.

    Raises `ShapeError` for theta outside the prior's support, and otherwise as `sf.simulate`.
    """
    check_where(where, Where)
    theta = np.ascontiguousarray(theta, dtype=np.float64)
    if theta.ndim != 2 or theta.shape[1] != simulator.prior.d or not simulator.prior.inside(theta).all():
        raise ShapeError(
            f"theta must be rows of {simulator.prior.d} numbers inside the prior, got {theta.shape}."
        )
    request = Request(
        simulator,
        len(theta),
        seed,
        store,
        where.get("executor"),
        where.get("workers"),
        where.get("time_limit"),
        where.get("max_failures", 0.5),
        progress,
        where.get("settings") or SimulateSettings(),
        theta,
        row_seconds,
    )
    return run(request)


def check_where(where: Place, kind: type = Place) -> None:
    """Raise `SettingsError` for what `sf.simulate`, or the method that asks, does not know. kind: `Place`, or
    `Where` for a method without settings of its own.
    """
    known = [*Place.__annotations__, *(Where.__annotations__ if kind is Where else ())]
    if unknown := where.keys() - set(known):
        raise SettingsError(
            f"there is no option {', '.join(sorted(unknown))}; for simulating there are "
            f"{', '.join(dict.fromkeys(known))}."
        )


def in_memory(simulator: Simulator, theta: F, y: Shaped[np.ndarray, " n *event"]) -> Simulations:
    """Rows that were simulated by `simulator`, gathered from several runs; all of them are usable."""
    events, rows = simulator.events, usual_rows(simulator.event_shape)
    ok = np.zeros(len(theta), dtype=np.uint8)

    def source(k: int) -> Block:
        part = slice(k * rows, min((k + 1) * rows, len(theta)))
        return Block(part.start, theta[part], y[part], ok[part])

    return Simulations(
        prior=simulator.prior,
        codes=ok,
        event_shape=events.shape,
        dtype=y.dtype,
        seed=0,
        block_size=rows,
        simulator_name=simulator.name,
        source=source,
        arrays=(theta, y),
        made_of=events,
    )
