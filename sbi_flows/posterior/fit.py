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
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Protocol

import torch
from torch import nn

from sbi_flows.arrays import real
from sbi_flows.errors import SettingsError, SimulationWarning, TooManyFailuresError
from sbi_flows.machine import torch_defaults, torch_threads
from sbi_flows.misspecification.detector import Detector
from sbi_flows.misspecification.learn import View, learn, rows_to_learn_from, seconds_to_learn
from sbi_flows.nets.encoder import TrainedEncoder
from sbi_flows.nets.inputs import Inputs
from sbi_flows.notes import Notes, check_say
from sbi_flows.npe.design import Estimate
from sbi_flows.npe.estimate import estimate
from sbi_flows.npe.network import Ensemble
from sbi_flows.npe.online.estimate import Clock, estimate_by_clock
from sbi_flows.npe.online.start import starting_set
from sbi_flows.npe.request import Request
from sbi_flows.npe.settings import FitSettings
from sbi_flows.posterior.amortised import nothing_learned
from sbi_flows.posterior.betting import unresolved
from sbi_flows.posterior.gain import gain_over_prior
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.problem.events import Events
from sbi_flows.problem.patterns import Observe, as_observe
from sbi_flows.problem.patterns import like as like_patterns
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed
from sbi_flows.simulation.engine import simulate
from sbi_flows.simulation.held_out import some_pairs
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.simulation.stand_in import simulator_or_stand_in
from sbi_flows.simulation.supply import Supply
from sbi_flows.training.checkpoint import recorded_state
from sbi_flows.training.loop import Progress

_DEFAULT_SIMULATIONS = 10_000
_VERSIONS = ("sbi_flows", "torch", "nflows", "numpy", "scipy")


class Summariser(Protocol):
    """A trained model whose encoder can summarise y, such as an autoencoder of `vae`."""

    event_shape: tuple[int, ...]

    def as_summary(self) -> TrainedEncoder:
        """The encoder's network and its scaling. Raises `SettingsError` before training."""


def fit(
    simulator: Simulator | None = None,
    *,
    simulations: Simulations | None = None,
    n_simulations: int | None = None,
    minutes: float | None = None,
    like: Any = None,
    observe: Any = None,
    seed: int = 0,
    summary: Summariser | nn.Module | None = None,
    settings: FitSettings | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] | None = print,
    progress: Progress | None = None,
) -> Posterior:
    """Learn q(theta | y) for every y that `simulator` can make. Give one of

    simulations: made before, with `sf.simulate`; or elsewhere, with `sf.Simulations.from_arrays`. No
        simulator is needed then; the summaries that it declares join only where it is passed.
    n_simulations: to be made now (10,000 if nothing is given).
    minutes: of wall-clock time for all of it. Simulating continues while training: see `npe.online`.

    The first two give the same bytes for the same seed. Simulations that would take more than a quarter of
    the free memory are read from their bank in buffers of 64 MB while training.

    like: one observation or several: the posterior is trained for their gaps and lengths.
    observe: for a range of patterns: sf.gaps(...), sf.lengths(...), a function observe(y, rng) -> y of your
        own that returns n events with NaN where nothing is observed, or a list of these. They are redrawn
        each time that a simulation is used. Gaps that depend on theta belong in the simulator (missing=True).
    summary: a torch module of your own (see `nets.own`); or a trained autoencoder of such events, whose
        encoder, not trained further, becomes part of the summary network.
    settings: `sf.FitSettings(...)`: networks, ensemble, training; whether declared summaries join the input.
    checkpoint: a file from which the same call resumes after a kill: to the same bytes; by the clock with its
        weights, in the time that was left.
    say: receives each choice with its reason, or None. progress: called as progress(done, total, text).

    Raises `SettingsError`, `TooFewSimulationsError`, `SimulatorContractError`, `TooManyFailuresError` (more
    than half of the simulations fail), `NonFiniteLossError`.
    """
    minutes = _checked_ways(simulator, simulations, n_simulations, minutes)
    simulator = simulator_or_stand_in(simulator, simulations, "fit")
    _check_kinds(simulations, settings, say)
    settings = settings or FitSettings()
    own = summary if isinstance(summary, nn.Module) and not hasattr(summary, "as_summary") else None
    request = Request(
        settings=settings,
        seed=check_seed(seed),
        encoder=None if summary is own else _encoder(summary, simulator, settings),
        own=own,
        events=simulator.events,
        observe=_observed(simulator.events, like, observe, simulator.observe),
        declared=simulator.declared_summaries,
        checkpoint=None if checkpoint is None else os.fspath(checkpoint),
        say=say,
        progress=progress,
    )
    if minutes is None:
        fitted = _on_a_fixed_set(simulator, simulations, n_simulations, request)
        return _posterior(simulator, fitted, request, None)
    return _posterior(simulator, _by_the_clock(simulator, 60 * minutes, request), request, minutes)


def _checked_ways(simulator: object, simulations: object, n: object, minutes: float | None) -> float | None:
    """The minutes, where they are given. Raises `SettingsError` for several ways, and ways that need a
    simulator.
    """
    if simulator is None and (n is not None or minutes is not None):
        raise SettingsError("n_simulations= and minutes= simulate, so fit needs the simulator too.")
    if sum(option is not None for option in (simulations, n, minutes)) > 1:
        raise SettingsError("give one of simulations, n_simulations and minutes, not several.")
    return None if minutes is None else real("minutes", minutes, positive=True)


def _check_kinds(simulations: object, settings: object, say: object) -> None:
    check_say(say)
    if settings is not None and not isinstance(settings, FitSettings):
        raise SettingsError(
            f"settings must be sf.FitSettings(...), got {type(settings).__name__}; training goes in its "
            "train=sf.TrainSettings(...)."
        )
    if simulations is not None and not isinstance(simulations, Simulations):
        raise SettingsError(
            f"simulations must come from sf.simulate or sf.read_bank(path), got {type(simulations).__name__}."
        )


def _observed(events: Events, alike: Any, observe: Any, usual: Observe | None) -> Observe | None:
    """The patterns that a fit trains for: those of the simulator if none are asked for."""
    if alike is not None and observe is not None:
        raise SettingsError(
            "like= takes the patterns of the observations, observe= draws them: give one, not both."
        )
    if alike is not None:
        return as_observe(like_patterns(alike, events), events)
    return usual if observe is None else as_observe(observe, events)


def _encoder(model: Any, simulator: Simulator, settings: FitSettings) -> TrainedEncoder:
    """The encoder of a model. Raises `SettingsError` for one that cannot summarise the simulator's events."""
    if not hasattr(model, "as_summary"):
        raise SettingsError(
            "summary must be a torch module, or an autoencoder, vae.VAE(...) after its fit, got "
            f"{type(model).__name__}."
        )
    learned: TrainedEncoder = model.as_summary()
    if model.event_shape != simulator.event_shape:
        raise SettingsError(
            f"summary is an autoencoder of events of shape {model.event_shape}, and {simulator.name!r} makes "
            f"{simulator.event_shape}."
        )
    if settings.summary not in ("auto", "encoder"):
        raise SettingsError(
            f"FitSettings(summary={settings.summary!r}) and summary= an autoencoder are two summary "
            "networks; give one."
        )
    return learned


@dataclass(frozen=True)
class _Fitted:
    """What was learnt, from which simulations (by the clock: the starting set).

    used, failed: simulations trained on or held out, and left out. simulating, training: seconds.
    """

    estimate: Estimate
    detector: Detector
    simulations: Simulations
    used: int
    failed: int
    simulating: float
    training: float


def _on_a_fixed_set(
    simulator: Simulator, simulations: Simulations | None, n: int | None, request: Request
) -> _Fitted:
    began = time.monotonic()
    if simulations is not None:
        simulations.check_matches(simulator.prior, simulator.event_shape, simulator.events)
    else:
        with _how_to_allow_more():
            simulations = simulate(simulator, _DEFAULT_SIMULATIONS if n is None else n, seed=request.seed)
    simulated = time.monotonic()
    with torch_defaults():
        found = estimate(simulator.prior, simulations, request)
        detector = _detector(found, simulations, request.seed)
    usable = int(simulations.ok.sum())
    seconds = simulated - began, time.monotonic() - simulated
    return _Fitted(found, detector, simulations, usable, len(simulations) - usable, *seconds)


def _by_the_clock(simulator: Simulator, seconds: float, request: Request) -> _Fitted:
    began, threads = time.monotonic(), torch.get_num_threads()
    _, state = recorded_state(request.checkpoint)
    with _how_to_allow_more(), torch_threads(1), torch_defaults():
        with Supply(simulator, request.seed, block_size=state.get("block_size")) as supply:
            start = starting_set(supply, seconds, rows=state.get("start"))
            simulated = time.monotonic()

            def closing(network: Ensemble, inputs: Inputs) -> float:
                return seconds_to_learn(network, inputs, start.simulations, seconds)

            clock = Clock(began + seconds, closing, threads)
            if clock.left <= 0:
                raise SettingsError(
                    f"minutes={seconds / 60:.3g} is too short: simulating {len(start.simulations):,} rows "
                    f"to begin with took {simulated - began:.2g} s of {seconds:.2g}, and no time is left to "
                    "train. Give more minutes."
                )
            grown = estimate_by_clock(supply, start, request, clock)
        detector = _detector(grown.estimate, start.simulations, request.seed, seconds)
    for text in supply.warnings():
        warnings.warn(text, SimulationWarning, stacklevel=3)
    took = simulated - began, time.monotonic() - simulated
    return _Fitted(grown.estimate, detector, start.simulations, grown.used, grown.failed, *took)


def _detector(found: Estimate, simulations: Simulations, seed: int, seconds: float | None = None) -> Detector:
    """Learn what simulated data look like, from the rows that were trained on and those held out."""
    train_y, held_out_y = (simulations.gather(rows)[1] for rows in rows_to_learn_from(found, seconds))
    return learn(View.of(found), train_y, held_out_y, seed, seconds)


@contextmanager
def _how_to_allow_more() -> Iterator[None]:
    try:
        yield
    except TooManyFailuresError as error:
        error.add_note(
            "fit itself has no max_failures: to allow more, simulate with sf.simulate(..., "
            "max_failures=...), or sbi-flows simulate --max-failures, and fit on those simulations."
        )
        raise


def _posterior(simulator: Simulator, fitted: _Fitted, request: Request, minutes: float | None) -> Posterior:
    found, history = fitted.estimate, fitted.estimate.history
    design = found.design
    Notes(request.say).say(
        "training ended",
        stopped=history.stopped,
        epochs=len(history.valid_loss),
        best_loss=history.best_loss,
        best_epoch=history.best_epoch + 1,
        members=len(found.network.members),
    )
    masked = request.masked
    facts: dict[str, Any] = {
        "simulator": simulator.name,
        "simulations": fitted.used,
        "failed": fitted.failed,
        "simulation_seed": fitted.simulations.seed,
        "block_size": fitted.simulations.block_size,
        "seed": request.seed,
        "minutes": minutes,
        **some_pairs(fitted.simulations),
        "python": ".".join(map(str, sys.version_info[:3])),
        "versions": {name: version(name) for name in _VERSIONS},
    }
    posterior = Posterior(
        prior=simulator.prior,
        event_shape=simulator.event_shape,
        estimator=found.network,
        inputs=design.inputs,
        centre=design.centre,
        scale=design.scale,
        detector=fitted.detector,
        settings=design.settings,
        history=history,
        facts=facts,
        notes=tuple(found.notes),
        seconds={"simulate": fitted.simulating, "train": fitted.training},
        made_of=simulator.events.with_missing() if masked else simulator.events,
        observe=request.observe,
    )
    return _with_resolution(_with_gain(posterior, fitted, request), fitted, request)


def _with_gain(posterior: Posterior, fitted: _Fitted, request: Request) -> Posterior:
    """The posterior, with what it gained over the prior on held-out simulations; a note says if it is
    nothing.
    """
    found = gain_over_prior(posterior, fitted.simulations, fitted.estimate.held_out_rows, request.seed)
    facts = {**posterior.facts, "gain": found.mean, "gain_error": found.error}
    if not nothing_learned(found):
        return replace(posterior, facts=facts)
    notes = Notes(request.say)
    notes.note("nothing learned", gain=found.mean, error=found.error)
    return replace(posterior, facts=facts, notes=(*posterior.notes, *notes))


def _with_resolution(posterior: Posterior, fitted: _Fitted, request: Request) -> Posterior:
    """The posterior, with the parameters of which its network loses what the data tell; a note names them."""
    rows = fitted.estimate.train_rows, fitted.estimate.held_out_rows
    with torch_threads(1):
        lost = unresolved(posterior, fitted.simulations, *rows, request.seed)
    if lost is None:
        return posterior
    notes = Notes(request.say)
    notes.note("not resolved", names=list(lost.names), factors=list(lost.factors))
    return replace(posterior, unresolved=lost, notes=(*posterior.notes, *notes))
