"""Rejection ABC on a set of simulations of its own, made within a budget."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from sbi_flows.baselines.budget import MINUTES, SIMULATIONS, Budget, SpentError
from sbi_flows.baselines.rejection import rejection_abc
from sbi_flows.baselines.runs import Progress
from sbi_flows.baselines.settings import ABCSettings
from sbi_flows.draws import Draws
from sbi_flows.errors import SimulationWarning, StorageError, TooFewSimulationsError
from sbi_flows.notes import Note
from sbi_flows.problem.simulator import Simulator
from sbi_flows.simulation.bank import read_bank
from sbi_flows.simulation.engine import simulate
from sbi_flows.simulation.failures import OK, STATUS
from sbi_flows.simulation.settings import Place
from sbi_flows.simulation.simulations import Simulations

_MOST, _QUANTILE, _ACCEPTED = 10_000_000, 0.01, 100


def simulate_and_reject(
    simulator: Simulator,
    y_obs: Any,
    budget: Budget,
    seed: int,
    store: Path | None,
    settings: ABCSettings,
    run: tuple[Progress | None, Place],
) -> Draws:
    """`rejection_abc` on simulations from the prior, as many as the budget allows."""
    if budget.seconds is None:
        made = _simulated(simulator, budget, seed, store, settings, run)
        return _ended(reject(simulator, y_obs, made, settings), budget, SIMULATIONS)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "own.bank") if store is None else store
        what = SIMULATIONS
        try:
            made = _simulated(simulator, budget, seed, place, settings, run)
        except SpentError as spent:
            made, what = _finished(place, simulator), spent.what
        return _ended(reject(simulator, y_obs, made, settings), budget, what)


def _ended(draws: Draws, budget: Budget, what: str) -> Draws:
    stopped = Note("budget spent", what=what, dropped=None)
    return replace(draws, facts={**draws.facts, "stopped": stopped, "seconds": budget.used})


def reject(simulator: Simulator | None, y_obs: Any, made: Simulations, settings: ABCSettings) -> Draws:
    """`rejection_abc` with these settings; the nearest 1% are accepted, or 100 where that is more."""
    given = {name: getattr(settings, name) for name in ("quantile", "epsilon", "adjust", "summaries")}
    options = {name: value for name, value in given.items() if value is not None}
    if settings.quantile is None and settings.epsilon is None:
        options["quantile"] = min(1.0, max(_QUANTILE, _ACCEPTED / max(int(made.ok.sum()), 1)))
    draws = rejection_abc(simulator, y_obs, simulations=made, **options)
    failures = {name: count for name, count in made.counts().items() if name != STATUS[OK]}
    return replace(draws, facts={**draws.facts, "ess": draws.ess, "failures": failures})


def _simulated(
    simulator: Simulator,
    budget: Budget,
    seed: int,
    store: Path | None,
    settings: ABCSettings,
    run: tuple[Progress | None, Place],
) -> Simulations:
    progress, place = run

    def watch(done: int, n: int) -> None:
        budget.made = done
        if progress is not None:
            progress(budget.done, budget.total, "simulating")
        budget.check_time()

    n = _MOST if budget.n is None else budget.n
    return simulate(simulator, n, seed=seed, store=store, progress=watch, settings=settings.simulate, **place)


def _finished(place: Path, simulator: Simulator) -> Simulations:
    """What is in the bank when the time is over."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is missing or not full", SimulationWarning)
        try:
            return read_bank(place, prior=simulator.prior)
        except StorageError as error:
            raise TooFewSimulationsError(
                f"no block of simulations was finished before the {MINUTES} were over. Give more."
            ) from error
