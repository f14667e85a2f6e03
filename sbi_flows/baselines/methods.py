"""Approximate Bayesian computation for one observation, by any of its methods.

rejection              the nearest of simulations from the prior (Beaumont, Zhang & Balding 2002)
smc                    sequential Monte Carlo, tolerance by effective number (Del Moral et al. 2012)
pmc                    population Monte Carlo, adaptive kernel and distance (Beaumont et al. 2009)
synthetic_likelihood   Markov chains, the summaries taken as normal at each theta (Wood 2010)
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from sbi_flows.baselines.answer import of_chains, of_particles
from sbi_flows.baselines.budget import Budget, check_some_budget
from sbi_flows.baselines.generations import Generation
from sbi_flows.baselines.own_set import reject, simulate_and_reject
from sbi_flows.baselines.pmc import pmc_step
from sbi_flows.baselines.runs import Progress, Runs, running
from sbi_flows.baselines.semiautomatic import SEMI_AUTOMATIC
from sbi_flows.baselines.sequential import Ended, from_prior, rows_from_prior, run_generations, several_sets
from sbi_flows.baselines.settings import ABCSettings, Method
from sbi_flows.baselines.smc import smc_step
from sbi_flows.baselines.stored import Store, identity
from sbi_flows.baselines.synthetic import sample
from sbi_flows.baselines.target import Target
from sbi_flows.draws import Draws
from sbi_flows.errors import ObservationError, SettingsError
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed
from sbi_flows.simulation.at import check_where
from sbi_flows.simulation.settings import Place, check_place
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.simulation.stand_in import is_stand_in

_STEPS = {"smc": smc_step, "pmc": pmc_step}
_NOT_IDENTITY = ("summaries", "simulate")


def abc(
    simulator: Simulator | None = None,
    y_obs: Any = None,
    *,
    method: Method = "rejection",
    n_simulations: int | None = None,
    minutes: float | None = None,
    simulations: Simulations | None = None,
    settings: ABCSettings | None = None,
    store: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **where: Unpack[Place],
) -> Draws:
    """Approximate posterior draws for one observation: "rejection", "smc", "pmc" or "synthetic_likelihood".

    n_simulations, minutes: the budget: either, or the tighter of both; 10,000 simulations if neither is
        given. It is kept inside a generation too: one that is not complete when it is spent is left out.
    simulations: from the prior, made before. Rejection takes its draws from them; for the others the first
        100,000 stand for the first generation or the pilot set, and do not count.
    settings: `sf.ABCSettings(...)`.
    store: a folder, from which the same call resumes after a kill to the same draws; by the clock, in the
        time that was left.
    progress: called as progress(done, total, text).
    where: executor, workers, time_limit and max_failures, as of `sf.simulate`. The draws are the same for any
        number of workers. A simulation that fails counts as rejected.

    The draws of smc and pmc are weighted. `facts` has the simulations made, what failed by cause, why the run
    ended (`stopped`), the effective number of draws (`ess`), and for smc and pmc one record per generation:
    tolerance, acceptance, ess, simulations so far. The verdict tells whether the tolerance, the chains and
    the number of draws can be relied on, and whether the data look like the simulations.

    Raises `SettingsError`, `ShapeError`, `ObservationError`, `PriorError`, `TooFewSimulationsError`,
    `TooManyFailuresError`; for a store `BankMismatchError`, `BankLockedError`, `StorageError`.
    """
    settings = _checked(method, settings, where, store, progress)
    if simulations is not None and method == "rejection" and not (n_simulations is None and minutes is None):
        raise SettingsError(
            "rejection takes the simulations that are given, or makes n_simulations: not both."
        )
    summaries = settings.summaries
    if method == "rejection" and isinstance(summaries, str) and summaries == SEMI_AUTOMATIC:
        summaries = None  # they are yet to be learned
    target = Target.of(simulator, y_obs, simulations, "abc", summaries)
    _check_target(target, method, settings, simulations)
    place, seed = None if store is None else Path(store), check_seed(seed)
    budget = Budget.of(n_simulations, minutes)
    if method == "rejection":
        if simulations is not None:
            return reject(simulator, y_obs, simulations, settings)
        return simulate_and_reject(target.simulator, y_obs, budget, seed, place, settings, (progress, where))
    settings = settings.filled(budget.n)
    with running(target, budget, seed, place, settings.simulate, progress, where) as runs:
        kept = Store(place, identity(runs, method, _identity(settings, simulations)))
        if method == "synthetic_likelihood":
            return of_chains(runs, sample(runs, settings, kept, simulations))
        return of_particles(runs, method, settings, _generations(runs, method, settings, simulations, kept))


def _generations(
    runs: Runs, method: str, settings: ABCSettings, simulations: Simulations | None, store: Store
) -> Ended:
    def save(made: Generation) -> None:
        store.save(made.number, made.arrays(), made.facts(), runs)

    found = store.latest(runs)
    if found is not None:
        start = Generation.of(*found, runs.target.summaries)
    else:
        particles, m = settings.particles or 0, settings.data_sets or 1
        first = rows_from_prior(settings) * m if simulations is None else 0
        what = f"a generation of {particles:,} particles and one before it"
        check_some_budget(runs.budget, first + particles * m, what)
        runs.text = "generation 0"
        start = from_prior(runs, settings, simulations) if m == 1 else several_sets(runs, settings)
        save(start)
    return run_generations(start, _STEPS[method], runs, settings, save)


def _checked(method: object, settings: object, where: Place, store: object, progress: object) -> ABCSettings:
    if settings is not None and not isinstance(settings, ABCSettings):
        raise SettingsError(
            f"settings must be sf.ABCSettings(...), got {type(settings).__name__}. sf.SimulateSettings goes "
            "in its simulate=."
        )
    settings = settings or ABCSettings()
    settings.check_method(method)
    check_where(where)
    if store is not None:
        check_place(store)
    if progress is not None and not callable(progress):
        raise SettingsError(f"progress must be a function of (done, total, text), got {progress!r}.")
    return settings


def _check_target(
    target: Target, method: str, settings: ABCSettings, simulations: Simulations | None
) -> None:
    if method != "rejection" and is_stand_in(target.simulator):
        raise SettingsError(f"method={method!r} simulates where the posterior is, so it needs the simulator.")
    if simulations is not None and (settings.data_sets or 1) > 1:
        raise SettingsError("simulations= has one data set for each theta: give it with data_sets=1.")
    if settings.adjust is not None and (settings.data_sets or 1) > 1:
        raise SettingsError("adjust= regresses on one data set for each particle: give it with data_sets=1.")
    if not len(target.summaries) or not np.isfinite(target.summaries).all():
        raise ObservationError(
            "the summaries of the observation are not finite: ABC needs them. Check the data, or pass other "
            "summaries."
        )


def _identity(settings: ABCSettings, simulations: Simulations | None) -> dict[str, Any]:
    """What of the settings makes a run another one, as JSON."""
    known = {name: value for name, value in asdict(settings).items() if name not in _NOT_IDENTITY}
    block = None if settings.simulate is None else settings.simulate.block_size
    given = None
    if simulations is not None:
        given = [simulations.simulator_name, simulations.seed, len(simulations), simulations.block_size]
    return {**known, "block_size": block, "simulations": given}
