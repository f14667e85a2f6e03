"""Neural posterior estimation by the clock: simulating goes on while q is trained.

    q maximises  E_{p(theta) p(y | theta)} [ log q(theta | y) ]

and each step follows the gradient of this expectation, estimated from pairs that no step has seen before, as
long as simulating keeps up. All that is chosen before training (summary network, scaling, m and c, the rows
kept apart) is chosen from a starting set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbi_flows.errors import NonFiniteLossError
from sbi_flows.machine import free_memory, torch_threads
from sbi_flows.nets.scaling import Scaler
from sbi_flows.nets.summary import Learned
from sbi_flows.npe.estimate import (
    LINEAR_PATHS,
    Estimate,
    build_estimator,
    choose,
    described,
    identity_of,
    negative_log_density,
    sized,
    standardised,
)
from sbi_flows.npe.network import Ensemble, Network, PosteriorEstimator, log_mixture, stacked
from sbi_flows.npe.online.parallel import Partner, Trained, how_many, partners
from sbi_flows.npe.online.replay import GrowingRows, save_rows
from sbi_flows.npe.online.start import Start
from sbi_flows.npe.online.throughput import arrange, trial_seconds
from sbi_flows.npe.online.trial import step_seconds
from sbi_flows.npe.settings import FitSettings, training_for
from sbi_flows.rng import stream
from sbi_flows.simulation.supply import Supply
from sbi_flows.training.checkpoint import recorded_state
from sbi_flows.training.loop import losses, mean_loss, train
from sbi_flows.training.rows import LEAST_APART, Batch
from sbi_flows.training.settings import TrainSettings

_APART_OF_START = 0.25
_EPOCHS, _TRAINING_PER_VALIDATION = 20, 15.0
_TRAINING_SHARE, _LEAST_SECONDS, _MARGIN = 0.25, 0.2, 1.25
_KEPT_BYTES, _KEPT_SHARE, _KEPT_WHERE_FRESH = 1_000_000_000, 0.25, 64_000_000
_CLEARLY_QUICKER = 2.0
_ONCE = 1.005


@dataclass(frozen=True)
class Clock:
    """ends: when all must be done, by `time.monotonic`. closing(network, scaler): the seconds of what comes
    after training.

    threads: that torch may use at most.
    """

    ends: float
    closing: Callable[[Network, Scaler], float]
    threads: int

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.ends - time.monotonic()


@dataclass(frozen=True)
class Grown:
    """estimate: what was learnt; its rows are rows of the starting set. used: rows trained on or kept apart;
    failed: rows left out.
    """

    estimate: Estimate
    used: int
    failed: int


def estimate_by_clock(
    supply: Supply,
    start: Start,
    settings: FitSettings,
    clock: Clock,
    *,
    learned: Learned | None = None,
    checkpoint: str | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Grown:
    """Train q until the clock ends, on the starting set and on what the supply makes meanwhile.

    A checkpoint goes on with its weights, in the time that it had left, and with blocks that it had not come
    to. The rows of a `NonFiniteLossError` are rows of the campaign. Raises what `train`, `Scaler.from_data`
    and the supply raise.
    """
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        say(text)

    prior, seed, dim = supply.simulator.prior, supply.seed, supply.simulator.prior.unconstrained_dim
    theta, y = start.simulations.usable()
    rate = supply.rate * max(supply.workers, 1)
    say(f"{len(theta):,} simulations to begin with, from which the network and the scaling are chosen")
    if failed := start.simulations.failure_text():
        note(failed)
    kind, scaler = choose(settings, y, note, learned)
    settings = sized(settings, dim, kind, True, note)
    estimator = build_estimator(settings, kind, scaler, dim, seed, learned=learned)
    note(described(estimator, settings, dim))

    guessed = settings.train or training_for(int(len(theta) + rate * clock.left), timed=True, kind=kind)
    a_batch = standardised(prior, scaler, theta)[2](theta[: guessed.batch_size], y[: guessed.batch_size])
    step = _Step(estimator, tuple(map(torch.from_numpy, a_batch)), guessed)
    alone = step(1, trial_seconds(clock.left))
    expected = int(len(theta) + min(rate, guessed.batch_size / alone) * clock.left)
    recorded, state = recorded_state(checkpoint)
    training = settings.train or (
        TrainSettings(**recorded) if state else training_for(expected, timed=True, kind=kind)
    )

    apart = int(state.get("apart", 0)) or rows_apart_of_start(len(theta), expected, training)
    order = stream(seed, "split").permutation(len(theta))
    train_places, valid_places = np.sort(order[apart:]), np.sort(order[:apart])
    centre, scale, convert = standardised(prior, scaler, theta[train_places])
    numbers = np.flatnonzero(start.simulations.ok)

    def rows_at(places: NDArray[np.int64]) -> Batch:
        return numbers[places], tuple(map(torch.from_numpy, convert(theta[places], y[places])))

    kept = _KEPT_WHERE_FRESH if rate * alone > _CLEARLY_QUICKER * guessed.batch_size else _KEPT_BYTES
    kept = min(kept, int(_KEPT_SHARE * free_memory()))
    to_train, apart_rows = rows_at(train_places), rows_at(valid_places)
    rows = GrowingRows(supply, convert, to_train, apart_rows, training, len(start.simulations), kept)
    for block in start.later:
        rows.add(block)
    del theta, y
    count, why_one = how_many(settings.members, rate * alone / guessed.batch_size, clock.left)
    pace = arrange(supply, rows, step, alone, clock.left, clock.threads, networks=count)
    if supply.workers:
        count, why_one = 1, why_one or "the simulator takes a core of its own"
    for text in pace.said:
        note(text)
    if count < (settings.members or 1):
        note(f"{count} network{'s' * (count > 1)}, not {settings.members}: {why_one}")
    members = [build_estimator(settings, kind, scaler, dim, seed, k, learned) for k in range(1, count)]
    network: Network = Ensemble([estimator, *members]) if members else estimator
    try:
        with torch_threads(pace.threads):
            began = time.monotonic()
            mean_loss(estimator, negative_log_density, rows.valid)
            validating = time.monotonic() - began
            left = clock.left
            after = _MARGIN * ((count + (count > 1)) * validating + clock.closing(network, scaler))
            limit = max(left - after, _TRAINING_SHARE * left, _LEAST_SECONDS)
            rows.steps = _steps_an_epoch(rows, limit, validating, pace.trains)
            partner = Partner(
                simulator=supply.simulator,
                seed=seed,
                block_size=supply.block_size,
                most_ahead=supply.most_ahead,
                settings=settings,
                kind=kind,
                scaler=scaler,
                dim=dim,
                learned=learned,
                convert=convert,
                train=to_train,
                valid=apart_rows,
                training=training,
                start=len(start.simulations),
                kept_bytes=kept,
                steps=rows.steps,
                until=time.monotonic() + limit,
                checkpoint=checkpoint,
                identity=identity_of(learned),
            )
            with partners(partner, count - 1, bool(state), note) as wait:
                history = train(
                    estimator,
                    negative_log_density,
                    rows,
                    undecayed=LINEAR_PATHS,
                    limit_seconds=max(partner.until - time.monotonic(), _LEAST_SECONDS),
                    checkpoint=checkpoint,
                    identity=identity_of(learned),
                    progress=progress,
                )
                others = wait()
            network = _mixed(
                estimator, [(members[k - 1], found) for k, found in others.items()], rows.valid, note
            )
    except NonFiniteLossError as error:
        if checkpoint is not None:
            save_rows(f"{checkpoint}.rows", error, supply)
        raise
    note(_mix(rows))
    if others:
        note(f"the other networks were trained on {sum(found.used for found in others.values()):,} besides")
    settings = replace(settings, summary=kind, train=training, members=len(network.flows()))
    train_rows, valid_rows = numbers[train_places], numbers[valid_places]
    found = Estimate(network, scaler, centre, scale, settings, history, tuple(notes), train_rows, valid_rows)
    used, failed = (sum(getattr(other, what) for other in others.values()) for what in ("used", "failed"))
    return Grown(found, rows.used + len(valid_rows) + used, rows.failed + failed)


def _mixed(
    estimator: PosteriorEstimator,
    others: Sequence[tuple[PosteriorEstimator, Trained]],
    valid: tuple[Tensor, ...],
    note: Callable[[str], None],
) -> Network:
    """The networks as one, in the shares that suit the rows kept apart best."""
    if not others:
        return estimator
    for member, found in others:
        member.load_state_dict({name: torch.from_numpy(value) for name, value in found.state.items()})
    network = Ensemble([estimator, *(member for member, _ in others)]).eval()
    each = torch.stack([-losses(member, negative_log_density, valid) for member in network.members])
    network.shares.copy_(stacked(each))
    loss = -float(log_mixture(list(each), network.shares).mean())
    pairs = zip(each.mean(dim=1).tolist(), network.shares.tolist(), strict=True)
    parts = ", ".join(f"{-density:.3f} (share {share:.2f})" for density, share in pairs)
    note(f"validation loss {loss:.3f} of the {len(network.members)} networks together, {parts} of each")
    return network


def rows_apart_of_start(usable: int, expected: int, settings: TrainSettings) -> int:
    """How many rows of a starting set are kept apart: for as many as are expected in the end, but at most a
    quarter of what is there.
    """
    wanted = max(int(settings.validation_share * max(expected, usable)), LEAST_APART)
    return min(
        wanted, int(max(settings.validation_share, _APART_OF_START) * usable), settings.validation_most
    )


def _steps_an_epoch(rows: GrowingRows, limit: float, validating: float, rate: float) -> int:
    """Steps between validations: a twentieth of the time or more, so that validating takes a small part of
    it, but no more than usual.
    """
    seconds = max(limit / _EPOCHS, _TRAINING_PER_VALIDATION * validating)
    return max(min(rows.steps, int(seconds * rate / rows.batch_size)), 1)


@dataclass(frozen=True)
class _Step:
    """A training step on one batch, for trials."""

    estimator: PosteriorEstimator
    batch: tuple[Tensor, ...]
    settings: TrainSettings

    def __call__(self, threads: int, seconds: float, between: Callable[[], object] = lambda: None) -> float:
        return step_seconds(
            self.estimator,
            negative_log_density,
            self.batch,
            self.settings,
            threads=threads,
            seconds=seconds,
            between=between,
        )


def _mix(rows: GrowingRows) -> str:
    times = rows.drawn / max(rows.used, 1)
    seen = "each of them once" if times < _ONCE else f"each {times:.3g} times on average"
    return f"{rows.used:,} simulations were trained on, {seen}"
