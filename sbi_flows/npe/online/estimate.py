"""Neural posterior estimation by the clock: simulating continues while q is trained.

    q maximises  E_{p(theta) p(y | theta)} [ log q(theta | y) ]

Each step follows the gradient of this expectation, estimated from pairs that no step has seen before, as long
as simulating keeps up. The network, the scaling, m, c and the held-out rows are chosen from a starting set.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from sbi_flows.errors import NonFiniteLossError
from sbi_flows.machine import free_memory, torch_threads
from sbi_flows.nets.inputs import Inputs
from sbi_flows.notes import Notes
from sbi_flows.npe.design import (
    LINEAR_PATHS,
    MATRICES,
    Converted,
    Design,
    Estimate,
    begin_design,
    note_flow,
    training_loss,
)
from sbi_flows.npe.estimate import mix
from sbi_flows.npe.network import Ensemble, PosteriorEstimator
from sbi_flows.npe.online.parallel import Task, Trained, how_many, in_parallel
from sbi_flows.npe.online.replay import ReplayRows, StartRows, save_rows
from sbi_flows.npe.online.start import Start
from sbi_flows.npe.online.throughput import Terms, Throughput, Trial, arrange, trial_seconds
from sbi_flows.npe.redrawn import as_seen
from sbi_flows.npe.request import Request, Sample
from sbi_flows.npe.settings import training_for
from sbi_flows.rng import stream
from sbi_flows.simulation.supply import Supply
from sbi_flows.training.checkpoint import recorded_state
from sbi_flows.training.history import History
from sbi_flows.training.loop import TrainOptions, mean_loss, train
from sbi_flows.training.rows import LEAST_HELD_OUT, Batch, Rows
from sbi_flows.training.settings import TrainSettings

_HELD_OUT_OF_START = 0.25
_EPOCHS, _TRAINING_PER_VALIDATION = 20, 15.0
_TRAINING_SHARE, _LEAST_SECONDS, _MARGIN = 0.25, 0.2, 1.25
_KEPT_BYTES, _KEPT_SHARE, _KEPT_WHERE_FRESH = 1_000_000_000, 0.25, 64_000_000
_CLEARLY_FASTER = 2.0
_TIMES_CONVERTED = 3


@dataclass(frozen=True)
class Clock:
    """ends: when all must be done, by `time.monotonic`. closing(network, inputs): the seconds of what comes
    after training.

    threads: that torch may use at most.
    """

    ends: float
    closing: Callable[[Ensemble, Inputs], float]
    threads: int

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.ends - time.monotonic()


@dataclass(frozen=True)
class Grown:
    """estimate: what was learnt; its rows are rows of the starting set.

    used: rows trained on or held out; failed: rows left out.
    """

    estimate: Estimate
    used: int
    failed: int


def estimate_by_clock(supply: Supply, start: Start, request: Request, clock: Clock) -> Grown:
    """Train q until the clock ends, on the starting set and on what the supply makes meanwhile.

    A checkpoint resumes with its weights, in the time that it had left, and with blocks that it had not come
    to. The rows of a `NonFiniteLossError` are rows of the campaign. Raises what `train`, `Scaler.from_data`
    and the supply raise.
    """
    notes = Notes(request.say)
    run = _prepared(supply, start, request, clock, notes)
    count, throughput = _arranged(supply, run, request, clock, notes)
    with torch_threads(throughput.threads):
        try:
            history, others = _trained(supply, run, request, clock, (count, throughput), notes)
        except NonFiniteLossError as error:
            if request.checkpoint is not None:
                save_rows(f"{request.checkpoint}.rows", error, supply)
            raise
        network = _mixed(run, others, notes)
    rows = run.rows
    notes.note("rows used", used=rows.used, times=rows.drawn / max(rows.used, 1))
    if others:
        notes.note("rows of other networks", used=sum(found.used for found in others.values()))
    design = replace(run.design, settings=replace(run.design.settings, members=len(network.members)))
    found = Estimate(design, network, history, notes, run.train_rows, run.held_out_rows)
    used, failed = (sum(getattr(other, what) for other in others.values()) for what in ("used", "failed"))
    return Grown(found, rows.used + len(run.held_out_rows) + used, rows.failed + failed)


@dataclass(frozen=True, eq=False)
class _Run:
    """What a fit by the clock is made of before it is arranged.

    seen: the rows as the network takes them.
    trial: times steps of `first`; alone: the seconds of one with one thread and nothing in parallel, and of
    converting its rows; converting: of the latter.
    resumes: whether a checkpoint has been begun. train_rows, held_out_rows: rows of the starting set.
    """

    design: Design
    first: PosteriorEstimator
    rows: ReplayRows
    seen: Rows
    start: StartRows
    trial: Trial
    alone: float
    converting: float
    resumes: bool
    train_rows: NDArray[np.int64]
    held_out_rows: NDArray[np.int64]


def _prepared(supply: Supply, start: Start, request: Request, clock: Clock, notes: Notes) -> _Run:
    """Choose all that is chosen before training, from the starting set and one trial."""
    prior, simulations = supply.simulator.prior, start.simulations
    sample = Sample.of(*simulations.usable(), request)
    rate = supply.rate * max(supply.workers, 1)
    notes.say("starting set", simulations=len(sample))
    if failed := simulations.failure_text():
        notes.note("failures", text=failed)
    design = begin_design(prior, sample, request, notes, timed=True)
    first = design.member()
    note_flow(design, first, 1, notes)
    asked, kind = request.settings.train, design.kind
    guessed = asked or training_for(int(len(sample) + rate * clock.left), timed=True, kind=kind)
    batch, converting = _converted(design, sample[: guessed.batch_size])
    trial = Trial(first, tuple(map(torch.from_numpy, batch)), guessed)
    alone = trial(1, trial_seconds(clock.left)) + converting
    expected = int(len(sample) + min(rate, guessed.batch_size / alone) * clock.left)
    recorded, state = recorded_state(request.checkpoint)
    training = asked or (
        TrainSettings.from_json(recorded) if state else training_for(expected, timed=True, kind=kind)
    )
    held_out = int(state.get("held_out", state.get("apart", 0))) or held_out_of_start(
        len(sample), expected, training
    )
    order = stream(supply.seed, "split").permutation(len(sample))
    places = np.sort(order[held_out:]), np.sort(order[:held_out])
    design = replace(
        design.centred_on(sample.theta[places[0]]), settings=replace(design.settings, train=training)
    )
    first = design.member()  # the same weights, with the final m and c
    numbers = np.flatnonzero(simulations.ok)

    def rows_at(at: NDArray[np.int64]) -> Batch:
        return numbers[at], tuple(map(torch.from_numpy, design.convert(*sample[at])))

    kept = _KEPT_WHERE_FRESH if rate * alone > _CLEARLY_FASTER * guessed.batch_size else _KEPT_BYTES
    kept = min(kept, int(_KEPT_SHARE * free_memory()))
    parts = StartRows(rows_at(places[0]), rows_at(places[1]), len(simulations), kept)
    rows = ReplayRows(supply, design.convert, training, parts)
    for block in start.later:
        rows.add(block)
    trained, held = numbers[places[0]], numbers[places[1]]
    seen = as_seen(rows, design)
    return _Run(design, first, rows, seen, parts, trial, alone, converting, bool(state), trained, held)


def _converted(design: Design, sample: Sample) -> tuple[Converted, float]:
    """Converted rows, and the seconds that it takes, declared summaries included."""
    seconds = []
    for _ in range(_TIMES_CONVERTED):
        began = time.perf_counter()
        rows = design.converted(Sample(sample.theta, sample.y, None), stream(design.seed, "trial"))
        seconds.append(time.perf_counter() - began)
    return rows, min(seconds)


def held_out_of_start(usable: int, expected: int, settings: TrainSettings) -> int:
    """How many rows of a starting set to hold out: for as many rows as are expected in the end, but at most a
    quarter.
    """
    wanted = max(int(settings.validation_share * max(expected, usable)), LEAST_HELD_OUT)
    most = int(max(settings.validation_share, _HELD_OUT_OF_START) * usable)
    return min(wanted, most, settings.validation_most)


def _arranged(
    supply: Supply, run: _Run, request: Request, clock: Clock, notes: Notes
) -> tuple[int, Throughput]:
    """How many networks to train, and where to simulate meanwhile."""
    asked, rate = request.settings.members, supply.rate * max(supply.workers, 1)
    faster = rate * run.alone / run.trial.settings.batch_size
    count, why_fewer = how_many(asked, faster, clock.left)
    terms = Terms(run.alone, clock.left, clock.threads, count, run.converting)
    throughput = arrange(supply, run.rows, run.trial, terms, notes)
    if supply.workers:
        count, why_fewer = 1, why_fewer or "simulator's core"
    if count < (asked or 1):
        notes.note("fewer networks", networks=count, asked=asked, reason=why_fewer, seconds_left=clock.left)
    return count, throughput


def _trained(
    supply: Supply, run: _Run, request: Request, clock: Clock, arranged: tuple[int, Throughput], notes: Notes
) -> tuple[History, dict[int, Trained]]:
    """Train the first network here and the others in parallel, until what has to come after fits into the
    rest.
    """
    count, throughput = arranged
    design, rows = run.design, run.rows
    began = time.monotonic()
    mean_loss(run.first, training_loss, run.seen.valid)
    validating = time.monotonic() - began
    left = clock.left
    closing = clock.closing(Ensemble([run.first] * count), design.inputs)
    after = _MARGIN * ((count + (count > 1)) * validating + closing)
    limit = max(left - after, _TRAINING_SHARE * left, _LEAST_SECONDS)
    rows.steps = _steps_per_epoch(rows, limit, validating, throughput.training_rate)
    task = Task(
        design, supply.simulator, supply.block_size, supply.most_ahead, run.start, rows.steps,
        time.monotonic() + limit, request.checkpoint,
    )  # fmt: skip
    with in_parallel(task, count - 1, run.resumes, notes) as wait:
        options = TrainOptions(
            undecayed=LINEAR_PATHS,
            matrices=MATRICES,
            limit_seconds=max(task.until - time.monotonic(), _LEAST_SECONDS),
            checkpoint=request.checkpoint,
            identity=design.identity,
            progress=request.progress,
        )
        history = train(run.first, training_loss, run.seen, options)
        return history, wait()


def _steps_per_epoch(rows: ReplayRows, limit: float, validating: float, rate: float) -> int:
    """Steps between validations: a twentieth of the time or more, so that validating takes little of it."""
    seconds = max(limit / _EPOCHS, _TRAINING_PER_VALIDATION * validating)
    return max(min(rows.steps, int(seconds * rate / rows.batch_size)), 1)


def _mixed(run: _Run, others: dict[int, Trained], notes: Notes) -> Ensemble:
    """The networks as one, with the mixture weights of the largest held-out density."""
    members = [run.first]
    for k, found in others.items():
        members.append(run.design.member(k))
        members[-1].load_state_dict({name: torch.from_numpy(value) for name, value in found.state.items()})
    network = Ensemble(members).eval()
    network.settle(*run.seen.valid)
    if others:
        loss, alone = mix(network, run.seen.valid)
        notes.note("mixture", loss=loss, losses=alone, weights=network.mixture_weights.tolist())
    return network
