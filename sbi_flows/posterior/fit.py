"""From a simulator to its amortised posterior: simulate where needed, train, learn what simulated data look
like.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, cast

import numpy as np
import torch

from sbi_flows.arrays import real
from sbi_flows.errors import SettingsError, SimulationWarning, TooManyFailuresError
from sbi_flows.machine import torch_threads
from sbi_flows.misspecification.detector import Recognition
from sbi_flows.misspecification.learn import learn_to_recognise, seconds_to_recognise
from sbi_flows.nets.scaling import Scaler
from sbi_flows.nets.summary import Learned, VectorSummary
from sbi_flows.npe.estimate import Estimate, estimate
from sbi_flows.npe.network import Network
from sbi_flows.npe.online.estimate import Clock, estimate_by_clock
from sbi_flows.npe.online.start import starting_set
from sbi_flows.npe.settings import FitSettings
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed
from sbi_flows.simulation.engine import simulate
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.simulation.supply import Supply
from sbi_flows.training.checkpoint import recorded_state
from sbi_flows.vae.model import VAE

_DEFAULT_SIMULATIONS = 10_000
_VERSIONS = ("sbi_flows", "torch", "nflows", "numpy", "scipy")


def fit(
    simulator: Simulator,
    *,
    simulations: Simulations | None = None,
    n_simulations: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    summary: VAE | None = None,
    settings: FitSettings | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] | None = print,
    progress: Callable[[int, int, str], None] | None = None,
) -> Posterior:
    """Learn q(theta | y) for every y that `simulator` can make.

    Give one of
        simulations     made before, with `sf.simulate`;
        n_simulations   to be made now (10,000 if nothing is given);
        minutes         of wall-clock time for all of it. Training begins on a starting set, which takes 3% of
                        the time, up to 25,000, or if that is less than 2,000, a fifth at most; simulating
                        goes on beside it, on another core. Each step takes rows that no step has seen, and
                        replays others only where the simulator is the slower of the two. Where a thread
                        simulates twice as quickly as training goes, one network a core is trained, at most 4,
                        and they are mixed.
    `facts["simulations"]` counts the usable ones, trained on or kept apart for validation; the notes say how
    many were trained on. The first two give the same bytes for the same seed; with `minutes` the clock
    decides how many steps are taken, on how many simulations. These are the first rows of
    `simulate(simulator, n, seed=seed)`, or with several workers nearly the first; a second network has
    others.

    summary: a trained autoencoder of events like the simulator's, such as one of many data sets without
        parameters: its encoder becomes the summary network, with the weights that it has, and only what is
        made of its numbers is trained. Otherwise the summary network is trained with the flow from the start.
    say: receives each choice that is made, with its reason (None for silence). progress(done, total, text):
    while training.
    checkpoint: a file from which the same call goes on after a kill: to the same bytes; with `minutes`, with
        its weights, in the time that was left, and with simulations that it had not come to, since those made
        before are gone (`sf.simulate` keeps them in a bank).
    A call of the simulator that hangs cannot hold up training by the clock; it is ended where it runs in a
    process, else left behind in its thread with a `SimulationWarning`. More than half of the simulations
    failing ends the fit. Simulations that would take more than a quarter of the free memory are read from
    their bank in buffers of 64 MB while training.

    Raises `SettingsError`, `TooFewSimulationsError`, `SimulatorContractError`, `TooManyFailuresError`,
    `NonFiniteLossError`.
    """
    if not isinstance(simulator, Simulator):
        raise SettingsError(
            f"fit takes a simulator made with @sf.simulator(prior), got {type(simulator).__name__}."
        )
    if settings is not None and not isinstance(settings, FitSettings):
        raise SettingsError(
            f"settings must be sf.FitSettings(...), got {type(settings).__name__}; training goes in its "
            f"train=sf.TrainSettings(...)."
        )
    if simulations is not None and not isinstance(simulations, Simulations):
        raise SettingsError(
            f"simulations must come from sf.simulate or sf.read_bank(path), got {type(simulations).__name__}."
        )
    if sum(option is not None for option in (simulations, n_simulations, minutes)) > 1:
        raise SettingsError("give one of simulations, n_simulations and minutes, not several.")
    if minutes is not None:
        minutes = real("minutes", minutes, positive=True)
    seed, settings = check_seed(seed), settings or FitSettings()
    learned = None if summary is None else _learned(summary, simulator, settings)
    path, tell = None if checkpoint is None else os.fspath(checkpoint), say or (lambda text: None)
    began = time.monotonic()
    if minutes is not None:
        with _how_to_allow_more():
            fitted = _by_the_clock(
                simulator, began, 60 * minutes, settings, seed, learned, path, tell, progress
            )
    else:
        if simulations is not None:
            simulations.check_matches(simulator.prior, simulator.event_shape)
        else:
            with _how_to_allow_more():
                simulations = simulate(
                    simulator, _DEFAULT_SIMULATIONS if n_simulations is None else n_simulations, seed=seed
                )
        simulated = time.monotonic()
        found = estimate(
            simulator.prior,
            simulations,
            settings,
            seed=seed,
            learned=learned,
            checkpoint=path,
            say=tell,
            progress=progress,
        )
        usable = int(simulations.ok.sum())
        fitted = _Fitted(
            found,
            learn_to_recognise(found, simulations, seed),
            simulations,
            usable,
            len(simulations) - usable,
            simulated,
        )
    found, simulations, history = fitted.estimate, fitted.simulations, fitted.estimate.history
    whose = " of the first member" if (found.settings.members or 1) > 1 else ""
    best = f"best validation loss {history.best_loss:.3f} in epoch {history.best_epoch + 1}"
    tell(f"training{whose} {_ENDED[history.stopped]} after {len(history.valid_loss)} epochs; {best}")
    facts: dict[str, Any] = {
        "simulator": simulator.name,
        "simulations": fitted.used,
        "failed": fitted.failed,
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
        recognition=fitted.recognition,
        settings=found.settings,
        history=history,
        facts=facts,
        notes=found.notes,
        seconds={"simulate": fitted.simulated - began, "train": time.monotonic() - fitted.simulated},
    )


_ENDED = {
    "finished": "finished",
    "patience": "stopped, no longer improving,",
    "time": "reached its time limit",
}


@dataclass(frozen=True)
class _Fitted:
    """What was learnt, from which simulations (by the clock: those to begin with), on how many, and when
    training began.
    """

    estimate: Estimate
    recognition: Recognition
    simulations: Simulations
    used: int
    failed: int
    simulated: float


def _learned(model: object, simulator: Simulator, settings: FitSettings) -> Learned:
    """The encoder of an autoencoder and its scaling. Raises `SettingsError` for one that cannot summarise the
    simulator's events.
    """
    if not isinstance(model, VAE):
        raise SettingsError(
            f"summary must be an autoencoder, vae.VAE(...) after its fit, got {type(model).__name__}."
        )
    if not model.scaled:
        raise SettingsError(
            "summary is an autoencoder that has not been trained. Call its fit(x_train) first."
        )
    if model.event_shape != simulator.event_shape:
        raise SettingsError(
            f"summary is an autoencoder of events of shape {model.event_shape}, and {simulator.name!r} "
            f"makes {simulator.event_shape}."
        )
    if settings.summary not in ("auto", "encoder"):
        raise SettingsError(
            f"FitSettings(summary={settings.summary!r}) and summary= an autoencoder are two summary "
            f"networks; give one."
        )
    encoder = model.module.encoder
    network = cast("VectorSummary", encoder.summary)
    mean, sd = encoder.centre.numpy().astype(np.float64), encoder.scale.numpy().astype(np.float64)
    return Learned(network, Scaler.given(simulator.event_shape, counts=encoder.counts, mean=mean, sd=sd))


@contextmanager
def _how_to_allow_more() -> Iterator[None]:
    try:
        yield
    except TooManyFailuresError as error:
        error.add_note(
            "fit itself has no max_failures: to allow more, simulate with sf.simulate(..., "
            "max_failures=...), or sbi-flows simulate "
            "--max-failures, and fit on those simulations."
        )
        raise


def _by_the_clock(
    simulator: Simulator,
    began: float,
    seconds: float,
    settings: FitSettings,
    seed: int,
    learned: Learned | None,
    checkpoint: str | None,
    tell: Callable[[str], None],
    progress: Callable[[int, int, str], None] | None,
) -> _Fitted:
    _, state = recorded_state(checkpoint)
    threads = torch.get_num_threads()
    with torch_threads(1):
        with Supply(simulator, seed, block_size=state.get("block_size")) as supply:
            start = starting_set(supply, seconds, rows=state.get("start"))
            simulated = time.monotonic()

            def closing(network: Network, scaler: Scaler) -> float:
                return seconds_to_recognise(network, scaler, start.simulations, seconds)

            clock = Clock(began + seconds, closing, threads)
            if clock.left <= 0:
                raise SettingsError(
                    f"minutes={seconds / 60:.3g} is too short: simulating {len(start.simulations):,} rows "
                    f"to begin with took "
                    f"{simulated - began:.2g} s of {seconds:.2g}, and nothing is left to train in. Give "
                    f"more minutes."
                )
            grown = estimate_by_clock(
                supply,
                start,
                settings,
                clock,
                learned=learned,
                checkpoint=checkpoint,
                say=tell,
                progress=progress,
            )
        recognition = learn_to_recognise(grown.estimate, start.simulations, seed, seconds)
    for text in supply.warnings():
        warnings.warn(text, SimulationWarning, stacklevel=3)
    return _Fitted(grown.estimate, recognition, start.simulations, grown.used, grown.failed, simulated)
