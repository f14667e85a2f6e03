"""`diagnostics.resolution` after a fit: a regression on its simulations bets against the posterior."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.diagnostics.resolution import Resolution, Simulated, resolution
from sbi_flows.posterior.amortised import Amortised
from sbi_flows.posterior.unresolved import Unresolved
from sbi_flows.rng import stream
from sbi_flows.simulation.simulations import Simulations

_MOST_KNOWN, _MOST_TESTED, _DRAWS = 2_000, 200, 32
_MOST_COLUMNS = 300


def features(posterior: Any, y: F) -> list[Float[np.ndarray, "m k"]]:
    """What a regression is tried on: y as the network takes it, up to 300 columns, and its summaries; of a
    posterior of another make, y itself. Missing values are taken as the mean.
    """
    if not isinstance(posterior, Amortised):
        return _few_columns([y])
    return [*_few_columns(posterior.inputs(y).parts), posterior.summaries_of(y)]


def _few_columns(parts: Any) -> list[F]:
    x = np.concatenate([np.reshape(part, (len(part), -1)) for part in parts], axis=1)
    return [np.where(np.isfinite(x), x, 0.0)] if x.shape[1] <= _MOST_COLUMNS else []


def bets_against(
    posterior: Amortised,
    simulations: Simulations,
    train_rows: Int[np.ndarray, " n"],
    held_out_rows: Int[np.ndarray, " m"],
    seed: int,
) -> tuple[list[Resolution], Float[np.ndarray, "m k"]]:
    """Bets on at most 200 held-out simulations by a regression on at most 2,000 of those trained on, for each
    parameter; and the summaries of the held-out ones. With gaps as in training.
    """
    rng = stream(seed, "resolution")
    spaced = train_rows[:: -(-len(train_rows) // _MOST_KNOWN)]
    known, _ = _seen(posterior, simulations, spaced, rng)
    tested, y = _seen(posterior, simulations, held_out_rows[:_MOST_TESTED], rng)
    draws = posterior.draws_of(y, _DRAWS, int(rng.integers(2**31)))
    return resolution(known, tested, draws, posterior.names), tested.features[-1].astype(np.float32)


def unresolved(
    posterior: Amortised,
    simulations: Simulations,
    train_rows: Int[np.ndarray, " n"],
    held_out_rows: Int[np.ndarray, " m"],
    seed: int,
) -> Unresolved | None:
    """The parameters that the posterior resolves worse than a regression does."""
    if len(train_rows) == 0 or len(held_out_rows) == 0:
        return None
    return Unresolved.of(*bets_against(posterior, simulations, train_rows, held_out_rows, seed))


def _seen(
    posterior: Amortised, simulations: Simulations, rows: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Simulated, F]:
    theta, y = simulations.gather(rows)
    y = np.asarray(y, dtype=np.float64)
    if posterior.observe is not None:
        y = np.asarray(posterior.observe(y, rng), dtype=np.float64)
        there = ~np.isnan(y.reshape(len(y), -1)).all(axis=1)
        theta, y = theta[there], y[there]
    return Simulated(theta, features(posterior, y)), y
