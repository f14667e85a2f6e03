"""From a simulator to its amortised posterior: simulate where needed, train, place the training cloud."""

from __future__ import annotations

import copy
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from sbi_flows.errors import SettingsError
from sbi_flows.npe.estimator import Estimate, estimate
from sbi_flows.npe.settings import FitSettings
from sbi_flows.posterior.cloud import MOST_HELD_OUT, TrainingCloud, representation
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed
from sbi_flows.simulation.engine import simulate
from sbi_flows.simulation.simulations import Simulations

_DEFAULT_SIMULATIONS = 10_000
_PILOT, _SIMULATING_SHARE = 1000, 0.2
_MOST_ROWS, _MOST_BYTES = 500_000, 1_000_000_000
_ROWS_AT_ONCE = 1024
_VERSIONS = ("sbi_flows", "torch", "nflows", "numpy", "scipy")


def fit(
    simulator: Simulator,
    *,
    simulations: Simulations | None = None,
    n_simulations: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    settings: FitSettings | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] | None = print,
    progress: Callable[[int, int, str], None] | None = None,
) -> Posterior:
    """Learn q(theta | y) for every y that `simulator` can make.

    Give one of
        simulations     made before, with `sf.simulate`;
        n_simulations   to be made now (10,000 if nothing is given);
        minutes         of wall-clock time for all of it: a fifth at most goes to simulating, and the schedule fills the rest.
    The first two give the same bytes for the same seed; with `minutes` the clock decides how many steps are taken.

    say: receives each choice that is made, with its reason (None for silence). progress(done, total, text): while training.
    checkpoint: a file from which the same call goes on after a kill.
    Simulations that would take more than a quarter of the free memory are read from their bank in buffers of 64 MB while training.

    Raises `SettingsError`, `TooFewSimulationsError`, `SimulatorContractError`, `TooManyFailuresError`, `NonFiniteLossError`.
    """
    if not isinstance(simulator, Simulator):
        raise SettingsError(f"fit takes a simulator made with @sf.simulator(prior), got {type(simulator).__name__}.")
    if settings is not None and not isinstance(settings, FitSettings):
        raise SettingsError(
            f"settings must be sf.FitSettings(...), got {type(settings).__name__}; training goes in its train=sf.TrainSettings(...)."
        )
    if simulations is not None and not isinstance(simulations, Simulations):
        raise SettingsError(f"simulations must come from sf.simulate or sf.read_bank(path), got {type(simulations).__name__}.")
    if sum(option is not None for option in (simulations, n_simulations, minutes)) > 1:
        raise SettingsError("give one of simulations, n_simulations and minutes, not several.")
    if minutes is not None and not (isinstance(minutes, int | float) and np.isfinite(minutes) and minutes > 0):
        raise SettingsError(f"minutes must be a positive number, got {minutes!r}.")
    seed, settings = check_seed(seed), settings or FitSettings()
    tell = say or (lambda text: None)
    began = time.monotonic()
    if simulations is not None:
        simulations.check_matches(simulator.prior, simulator.event_shape)
    else:
        if minutes is not None:
            n_simulations = _affordable(simulator, 60 * minutes * _SIMULATING_SHARE, seed)
            tell(f"{n_simulations:,} simulations fit into a fifth of {minutes:g} minutes")
        simulations = simulate(simulator, _DEFAULT_SIMULATIONS if n_simulations is None else n_simulations, seed=seed)
    simulated = time.monotonic()
    limit = None if minutes is None else max(60 * minutes - (simulated - began), 1.0)
    found = estimate(
        simulator.prior,
        simulations,
        settings,
        seed=seed,
        limit_seconds=limit,
        checkpoint=None if checkpoint is None else os.fspath(checkpoint),
        say=tell,
        progress=progress,
    )
    history = found.history
    best = f"best validation loss {history.best_loss:.3f} in epoch {history.best_epoch + 1}"
    tell(f"training {_ENDED[history.stopped]} after {len(history.valid_loss)} epochs; {best}")
    facts: dict[str, Any] = {
        "simulator": simulator.name,
        "simulations": int(simulations.ok.sum()),
        "failed": len(simulations) - int(simulations.ok.sum()),
        "simulation_seed": simulations.seed,
        "block_size": simulations.block_size,
        "seed": seed,
        "minutes": minutes,
        "python": ".".join(map(str, sys.version_info[:3])),
        "versions": {name: version(name) for name in _VERSIONS},
    }
    return Posterior(
        prior=simulator.prior,
        event_shape=simulator.event_shape,
        estimator=found.estimator,
        scaler=found.scaler,
        centre=found.centre,
        scale=found.scale,
        cloud=_cloud(found, simulations),
        settings=found.settings,
        history=history,
        facts=facts,
        notes=found.notes,
        seconds={"simulate": simulated - began, "train": time.monotonic() - simulated},
    )


_ENDED = {"finished": "finished", "patience": "stopped, no longer improving,", "time": "reached its time limit"}


def _affordable(simulator: Simulator, seconds: float, seed: int) -> int:
    """How many simulations fit into `seconds`, by a growing pilot; at most 500,000 or 1 GB of y."""
    n, began = 20, time.monotonic()
    simulate(simulator, n, seed=seed, max_failures=1.0)
    while (took := time.monotonic() - began) < 0.02 * seconds and n < _PILOT:
        n, began = 4 * n, time.monotonic()
        simulate(simulator, n, seed=seed, max_failures=1.0)
    rows = 1000 if simulator.vectorized else n
    by_bytes = _MOST_BYTES // (8 * max(1, int(np.prod(simulator.event_shape))))
    return int(min(max(0.9 * seconds * max(rows, n) / took, 100), _MOST_ROWS, by_bytes))


@torch.no_grad()
def _cloud(found: Estimate, simulations: Simulations) -> TrainingCloud:
    network = copy.deepcopy(found.estimator.summary).double()

    def place(rows: np.ndarray) -> np.ndarray:
        parts = []
        for i in range(0, len(rows), _ROWS_AT_ONCE):
            scaled = found.scaler(simulations.gather(rows[i : i + _ROWS_AT_ONCE])[1])
            parts.append(representation(network(torch.from_numpy(scaled)), scaled, found.scaler))
        return np.concatenate(parts)

    return TrainingCloud.of(place(found.train_rows[:: max(1, len(found.train_rows) // 4000)]), place(found.valid_rows[:MOST_HELD_OUT]))
