"""Simulations of all models: made or given, counted, and pooled with the number of their model as the label.

Rows that failed are left out. What remains of model k is drawn from p(y | k, the run succeeds), and

    log p(y | k) = log p(y | k, succeeds) + log P(succeeds | k)

if a run that fails could not have made the data. Where failing is a fault of the program the first term alone
is meant. Both cannot be had at once, so the second is said, not added.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from sbi_flows.comparison.models.request import Models
from sbi_flows.errors import TooFewSimulationsError
from sbi_flows.notes import Notes
from sbi_flows.problem.observation import as_observed
from sbi_flows.rng import stream
from sbi_flows.simulation.engine import simulate
from sbi_flows.simulation.settings import Place, SimulateSettings
from sbi_flows.simulation.simulations import Simulations

_HELD_OUT, _MOST_HELD_OUT = 0.2, 5000
_LEAST_USABLE = 80
_FIRST, _TIMES, _SAFETY = 200, 8, 0.9


@dataclass(frozen=True, eq=False)
class Pool:
    """Usable simulations of all models, in a random order.

    y (n, *event), with NaN where the observation has none; labels (n,): numbers of models. training,
    held_out: places of rows. counts (K,): usable simulations of each model.
    """

    y: NDArray[Any]
    labels: Int[np.ndarray, " n"]
    training: Int[np.ndarray, " t"]
    held_out: Int[np.ndarray, " h"]
    counts: Int[np.ndarray, " k"]

    @classmethod
    def of(cls, banks: Mapping[str, Simulations], models: Models, seed: int) -> Pool:
        """Held out is a fifth of the rows of each model, at most 5,000 in all. Raises
        `TooFewSimulationsError`.
        """
        parts = [banks[name].usable()[1] for name in models.names]
        counts = np.array([len(part) for part in parts])
        if counts.min() < _LEAST_USABLE:
            name = models.names[int(counts.argmin())]
            raise TooFewSimulationsError(
                f"{counts.min()} usable simulations of model {name!r} are too few; at least {_LEAST_USABLE} "
                "are needed, thousands are usual. Simulate more: n_simulations=10_000."
            )
        order = stream(seed, "order of models").permutation(int(counts.sum()))
        labels = np.repeat(np.arange(len(parts)), counts)[order]
        y = np.concatenate(parts)[order]
        share = min(_HELD_OUT, _MOST_HELD_OUT / len(y))
        held_out = np.sort(
            np.concatenate(
                [np.flatnonzero(labels == k)[: round(share * count)] for k, count in enumerate(counts)]
            )
        )
        training = np.setdiff1d(np.arange(len(y)), held_out, assume_unique=True)
        return cls(as_observed(y, models.observed), labels, training, held_out, counts)

    def of_model(self, k: int, rows: Int[np.ndarray, " m"], most: int) -> NDArray[Any]:
        """y of at most this many of the rows that model k made."""
        return np.asarray(self.y[rows[self.labels[rows] == k][:most]])


def simulations_of(
    models: Models,
    n: int | None,
    seconds: float,
    seed: int,
    notes: Notes,
    settings: SimulateSettings | None,
    **place: Unpack[Place],
) -> dict[str, Simulations]:
    """The simulations of each model: those given, else n new ones, or as many as fit into its part of the
    seconds. What failed is noted. Raises as `simulate`.
    """
    banks = dict(models.given)
    missing = [name for name in models.names if name not in banks]
    for name in missing:
        simulator, own_seed = models.simulators[name], seed_of(seed, name)

        def make(rows: int, simulator: Any = simulator, own_seed: int = own_seed) -> Simulations:
            return simulate(simulator, rows, seed=own_seed, settings=settings, **place)

        if n is not None:
            notes.say("simulating model", model=name, simulations=n)
            banks[name] = make(n)
        else:
            banks[name] = _in_time(make, seconds / len(missing))
    for name in models.names:
        total, usable = len(banks[name]), int(banks[name].ok.sum())
        if 0 < usable < total:
            lower = float(np.log(total / usable))
            notes.note("model failed", model=name, failed=total - usable, n=total, lower=lower)
    return {name: banks[name] for name in models.names}


def seed_of(seed: int, name: str) -> int:
    """The seed of the simulations of one model: another for each name, whatever other models there are."""
    return int(stream(seed, f"simulations of model {name}").integers(2**31))


def _in_time(make: Any, seconds: float) -> Simulations:
    """As many rows as can be made in this time: growing numbers of the same rows, by the rate so far."""
    began, n = time.monotonic(), _FIRST
    while True:
        started = time.monotonic()
        made: Simulations = make(n)
        now = time.monotonic()
        fit = int(_SAFETY * n * (seconds - (now - began)) / max(now - started, 1e-6))
        if fit < 2 * n:
            return made
        n = min(_TIMES * n, fit)
