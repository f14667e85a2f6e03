"""`diagnostics.resolution` after a fit: a regression on its simulations bets against the posterior."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.diagnostics.resolution import Simulated, resolution
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


def unresolved(
    posterior: Amortised,
    simulations: Simulations,
    train_rows: Int[np.ndarray, " n"],
    held_out_rows: Int[np.ndarray, " m"],
    seed: int,
) -> Unresolved | None:
    """The parameters that the posterior resolves worse than a regression on at most 2,000 of the simulations
    that it was trained on, by bets on at most 200 held-out ones; with gaps as in training.
    """
    rng = stream(seed, "resolution")
    spaced = train_rows[:: -(-len(train_rows) // _MOST_KNOWN) or 1]
    known = _observed(posterior, *simulations.gather(spaced), rng)
    tested = _observed(posterior, *simulations.gather(held_out_rows[:_MOST_TESTED]), rng)
    if min(len(known.theta), len(tested.theta)) == 0:
        return None
    draws = posterior.draws_of(tested.y, _DRAWS, int(rng.integers(2**31)))
    of_known, of_tested = (Simulated(rows.theta, features(posterior, rows.y)) for rows in (known, tested))
    found = resolution(of_known, of_tested, draws, posterior.names)
    return Unresolved.of(found, of_tested.features[-1].astype(np.float32))


class _Rows(NamedTuple):
    theta: F
    y: F


def _observed(posterior: Amortised, theta: F, y: NDArray[Any], rng: np.random.Generator) -> _Rows:
    """With gaps as in training, without what is not seen at all."""
    y = np.asarray(y, dtype=np.float64)
    if posterior.observe is None:
        return _Rows(theta, y)
    y = np.asarray(posterior.observe(y, rng), dtype=np.float64)
    there = ~np.isnan(y.reshape(len(y), -1)).all(axis=1)
    return _Rows(theta[there], y[there])
