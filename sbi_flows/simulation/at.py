"""Simulating at given theta, by the same engine: the generations of sequential methods.

A bank made so records a SHA-256 of theta. The same call resumes it, and `sf.read_bank` refuses it, because
its theta are not drawn from the prior.
"""

from __future__ import annotations

import os
from typing import Unpack

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.errors import SettingsError, ShapeError
from sbi_flows.problem.simulator import Simulator
from sbi_flows.simulation.engine import run
from sbi_flows.simulation.settings import Place, Request, SimulateSettings, Where
from sbi_flows.simulation.simulations import Simulations


def simulate_at(
    simulator: Simulator,
    theta: F,
    *,
    seed: int,
    store: str | os.PathLike[str] | None = None,
    **where: Unpack[Where],
) -> tuple[Simulations, list[str]]:
    """Simulate one y at each row of theta (n, d), and what to warn of. `Simulations.codes` says what failed.

    The rows are the same bytes for any number of workers, interrupted or not.

    Raises `ShapeError` for theta outside the prior's support, and otherwise as `sf.simulate`.
    """
    check_where(where)
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
        None,
        where.get("settings") or SimulateSettings(),
        theta,
    )
    return run(request)


def check_where(where: Place) -> None:
    """Raise `SettingsError` for what `sf.simulate` does not know."""
    if unknown := where.keys() - Where.__annotations__.keys():
        known = ", ".join(Where.__annotations__)
        raise SettingsError(
            f"there is no option {', '.join(sorted(unknown))}; for simulating there are {known}."
        )
