"""Draws from a posterior that the simulator knows in closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.errors import SettingsError, SimulatorContractError
from sbi_flows.exact.likelihood import named
from sbi_flows.notes import Note
from sbi_flows.problem.simulator import Simulator
from sbi_flows.verdict import Verdict


def closed_form(simulator: Simulator, y: F, n: int, rng: np.random.Generator) -> F:
    """n draws (n, d) by the simulator's `exact_posterior`.

    Raises `SimulatorContractError` for what it raises, and for draws that are not numbers or leave the prior.
    """
    if simulator.exact_posterior is None:
        raise SettingsError(f"{simulator.name} has no exact_posterior.")
    who = f"{simulator.name}.exact_posterior"
    try:
        found = simulator.exact_posterior(y.copy(), n, rng)
    except Exception as error:
        raise SimulatorContractError(f"{who} raised {type(error).__name__}: {error} (n = {n}).") from error
    wanted = f"wanted ({n}, {simulator.prior.d}) numbers"
    try:
        values = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SimulatorContractError(f"{who}: {wanted}, got {type(found).__name__} ({error}).") from error
    if values.shape != (n, simulator.prior.d):
        raise SimulatorContractError(f"{who}: {wanted}, got shape {values.shape}.")
    finite = np.asarray(np.isfinite(values).all(axis=1))
    if not finite.all():
        raise SimulatorContractError(f"{who}: {wanted}, {_wrong(simulator, values, ~finite)}.")
    inside = np.asarray(simulator.prior.inside(values))
    if not inside.all():
        raise SimulatorContractError(
            f"{who}: wanted draws inside the prior, {_wrong(simulator, values, ~inside)}. {simulator.prior}"
        )
    return values


def _wrong(simulator: Simulator, values: F, rows: NDArray[np.bool_]) -> str:
    return (
        f"got {named(simulator, values[rows.argmax()])} ({int(rows.sum())} of {len(values)} draws are wrong)"
    )


def verdict_on(values: F, names: tuple[str, ...]) -> Verdict:
    """On draws (n, d) in closed form: no density is a point."""
    still = [name for name, spread in zip(names, np.ptp(values, axis=0), strict=True) if spread == 0]
    if still:
        return Verdict("do not trust", f"{Note('closed form, no spread', names=still, draws=len(values))}.")
    return Verdict("trust", f"{Note('exact, closed form')}.")
