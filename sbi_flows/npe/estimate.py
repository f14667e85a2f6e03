"""Neural posterior estimation: q(theta | y) as one module, and its training by maximum likelihood.

    q maximises  E_{p(theta) p(y | theta)} [ log q(theta | y) ]        (Papamakarios & Murray 2016,
    1605.06376)

whose maximiser over all densities is p(theta | y) for every y at once: the loss is the expected forward KL
divergence up to the constant E[log p(theta | y)]. theta is seen as u = (T(theta) - m) / c, with T the prior's
map to R^u and m, c the mean and standard deviation of T over the training rows, so

    log q(theta | y) = log q_flow(u | s(y)) - sum log c + log |det dT/dtheta|
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sbi_flows.errors import NonFiniteLossError, SettingsError, TooFewSimulationsError
from sbi_flows.files import write_file
from sbi_flows.flows.recipes import build_flow
from sbi_flows.machine import torch_threads
from sbi_flows.nets.scaling import Scaler
from sbi_flows.nets.screening import relevant_columns
from sbi_flows.nets.summary import Learned, ScreenedSummary, SummaryKind, build_summary, choose_summary
from sbi_flows.npe.ensemble import train_members
from sbi_flows.npe.network import Ensemble, Network, PosteriorEstimator, stacked
from sbi_flows.npe.out_of_core import Convert, Split, StreamedRows, buffers_text, read_in_buffers
from sbi_flows.npe.settings import FitSettings, members_for, size_for, spread, training_for
from sbi_flows.problem.prior import Prior
from sbi_flows.rng import stream, torch_scope
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.training.loop import History, losses, mean_loss
from sbi_flows.training.rows import Rows, TensorRows, digest, split_rows
from sbi_flows.training.settings import TrainSettings

ROWS_A_PARAMETER = 25
LINEAR_PATHS = ("flow.layers.0.", "summary.linear.", "summary.direct.linear.", "summary.head.linear.")
_SCREENED_ROWS, _SCREENED_NUMBERS, _LEAST_SCREENED, _SEES_ALL = 20_000, 5_000_000, 1000, 1
_ROWS_COMPARED, _ALIKE = 1000, (0.3, 3.0)


@dataclass(frozen=True)
class Estimate:
    """All that was learnt, and how. `centre`, `scale`: m and c above.

    history: of the first member of an ensemble.
    train_rows, valid_rows: rows of the simulations that were trained on, or a sample of them where they were
    read in buffers, and all that were kept apart.
    """

    estimator: Network
    scaler: Scaler
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    settings: FitSettings
    history: History
    notes: tuple[str, ...]
    train_rows: NDArray[np.int64]
    valid_rows: NDArray[np.int64]


def build_network(
    settings: FitSettings,
    kind: SummaryKind,
    scaler: Scaler,
    dim: int,
    seed: int,
    learned: Learned | None = None,
) -> Network:
    """The untrained network that `settings` describe for parameters in R^dim, its weights a function of the
    seed.
    """
    members = [
        build_estimator(settings, kind, scaler, dim, seed, k, learned) for k in range(settings.members or 1)
    ]
    return members[0] if len(members) == 1 else Ensemble(members)


def build_estimator(
    settings: FitSettings,
    kind: SummaryKind,
    scaler: Scaler,
    dim: int,
    seed: int,
    member: int = 0,
    learned: Learned | None = None,
) -> PosteriorEstimator:
    """One untrained member of it."""
    with torch_scope(stream(seed, "weights", member)):
        steps, hidden, features = settings.built
        summary = build_summary(kind, scaler.out_shape, features=features, hidden=hidden, learned=learned)
        return PosteriorEstimator(
            summary, build_flow(settings.flow, dim, features, hidden=hidden, steps=steps)
        )


def choose(
    settings: FitSettings, y: NDArray[Any], note: Callable[[str], None], learned: Learned | None = None
) -> tuple[SummaryKind, Scaler]:
    """The summary network and the scaling that suit the data, or those that were learned; `note` receives
    both with the reason.
    """
    if learned is not None:
        rms = float(np.sqrt(np.mean(np.square(learned.scaler(y[:_ROWS_COMPARED])))))
        unlike = (
            ""
            if _ALIKE[0] <= rms <= _ALIKE[1]
            else "; THEY ARE UNLIKE THE DATA THAT IT WAS TRAINED ON, of which this is 1"
        )
        note(
            f"summary network: the encoder that was passed, not trained further, and a vector network of "
            f"its {learned.sizes[1]} numbers"
        )
        note(f"scaling of y: the encoder's; root mean square of the scaled simulations {rms:.3g}{unlike}")
        return "encoder", learned.scaler
    if settings.summary == "encoder":
        raise SettingsError("summary='encoder' needs the autoencoder itself: sf.fit(..., summary=model).")
    kind, reason = choose_summary(y) if settings.summary == "auto" else (settings.summary, "as asked")
    scaler = Scaler.from_data(y, shared=kind == "series")
    note(f"summary network: {kind}, because the data are {reason}")
    note(f"scaling of y: {scaler.describe()}")
    return kind, scaler


def sized(
    settings: FitSettings, dim: int, kind: SummaryKind, timed: bool, note: Callable[[str], None]
) -> FitSettings:
    """The settings with a size; `note` receives it with the reason where it was left open."""
    if settings.size == "auto":
        size, reason = size_for(dim, kind, timed=timed)
        if None in (settings.steps, settings.hidden, settings.features):
            note(f"size: {size}, {reason}")
        settings = replace(settings, size=size)
    steps, hidden, features = settings.built
    return replace(settings, steps=steps, hidden=hidden, features=features)


@dataclass(frozen=True, eq=False)
class Standardised:
    """theta and y as u = (T(theta) - m) / c and scaled y, in float32."""

    prior: Prior
    scaler: Scaler
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]

    def __call__(self, theta: NDArray[np.float64], y: NDArray[Any]) -> tuple[NDArray[np.float32], ...]:
        z, _ = self.prior.to_unconstrained(theta)
        return ((z - self.centre) / self.scale).astype(np.float32), self.scaler.in_float32(y)


def standardised(
    prior: Prior, scaler: Scaler, theta: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], Convert]:
    """m and c of the rows of theta, and the conversion that they give."""
    z, _ = prior.to_unconstrained(theta)
    centre, scale = z.mean(axis=0), z.std(axis=0)
    return centre, scale, Standardised(prior, scaler, centre, scale)


def rows_to_screen(scaler: Scaler, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of `rows` in which columns are screened, evenly spaced: 20,000 at most, and none where they are
    too long to hold enough.
    """
    most = min(_SCREENED_ROWS, _SCREENED_NUMBERS // int(np.prod(scaler.out_shape)))
    chosen = rows[:: -(-len(rows) // most)] if most >= _LEAST_SCREENED else rows[:0]
    return np.asarray(chosen)


def screened(u: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Which columns of scaled vectors y show a dependence on u; None where most do, or none does, and all are
    to be seen.
    """
    seen = relevant_columns(y.astype(np.float64), u.astype(np.float64))
    return seen if 0 < 2 * seen.sum() <= len(seen) else None


def show_only(seen: NDArray[np.bool_], members: Sequence[nn.Module]) -> None:
    """Let all members but the second see these columns only: the shares of the ensemble then tell whether the
    others matter.
    """
    for k, member in enumerate(members):
        summary = member.summary
        if k != _SEES_ALL and isinstance(summary, ScreenedSummary):
            summary.seen.copy_(torch.from_numpy(seen))


def described(network: Network, settings: FitSettings, dim: int) -> str:
    """The flow over R^dim and its size, in words."""
    weights = sum(p.numel() for p in network.parameters())
    flow = settings.flow if dim > 1 else "one spline"
    members, size = len(network.flows()), settings.built
    ensemble = f"an ensemble of {members}, each " if members > 1 else ""
    return f"flow: {ensemble}{flow}, {size.steps} layers of width {size.hidden}; {weights:,} weights in all"


def estimate(
    prior: Prior,
    simulations: Simulations,
    settings: FitSettings,
    *,
    seed: int,
    learned: Learned | None = None,
    checkpoint: str | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Estimate:
    """Train q on the usable rows of `simulations`: held in memory if they take at most a quarter of what is
    free, else read in buffers.

    From buffers, what is chosen before training (summary network, scaling, m and c) is chosen from a seeded
    sample of 20,000 rows at most. Raises what `train`, `Scaler.from_data` and `Simulations.read_block` raise,
    and `TooFewSimulationsError`. The rows of a `NonFiniteLossError` are rows of `simulations`.
    """
    usable = int(simulations.ok.sum())
    if usable < ROWS_A_PARAMETER * prior.d:
        raise TooFewSimulationsError(
            f"{usable} usable simulations are too few for {prior.d} parameters; at least {ROWS_A_PARAMETER} "
            f"a parameter are needed "
            "to train at all, and thousands to train well. Simulate more: n_simulations=10_000."
        )
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        say(text)

    if failed := simulations.failure_text():
        note(failed)
    asked, training = settings.train, settings.train or training_for(usable, timed=False)
    streamed, why = read_in_buffers(simulations, prior.unconstrained_dim, checkpoint)
    say(why)
    split = Split(simulations, training, seed) if streamed else None
    if split is not None:
        notes.append(f"the simulations were {buffers_text()}")
        theta, y, train_rows = split.sample(seed)
        valid_rows, n, centred_on = split.valid_rows, len(split), theta
    else:
        theta, y = simulations.usable()
        numbers = np.flatnonzero(simulations.ok)
        train_places, valid_places = split_rows(usable, training, seed)
        train_rows, valid_rows, n, centred_on = (
            numbers[train_places],
            numbers[valid_places],
            len(train_places),
            theta[train_places],
        )
    kind, scaler = choose(settings, y, note, learned)
    training = asked or training_for(usable, timed=False, kind=kind)
    settings = sized(settings, prior.unconstrained_dim, kind, False, note)
    centre, scale, convert = standardised(prior, scaler, centred_on)
    sample = rows_to_screen(scaler, np.arange(len(theta)) if split is not None else train_places)
    seen = (
        screened(*convert(theta[sample], y[sample]))
        if kind == "vector" and settings.members != 1 and len(sample)
        else None
    )
    count = settings.members or max(members_for(usable), 1 if seen is None else 2)
    settings = replace(settings, summary=kind, train=training, members=count)
    network = build_network(settings, kind, scaler, prior.unconstrained_dim, seed, learned)
    members = list(network.members) if isinstance(network, Ensemble) else [network]
    if seen is not None:
        show_only(seen, members)
        note(
            f"screen: {int((~seen).sum())} of {len(seen)} columns show no dependence on the parameters; "
            f"member {_SEES_ALL + 1} of the "
            f"ensemble sees all of them, the others the remaining {int(seen.sum())}"
        )
    decays = spread(len(members)) if asked is None else [1.0] * len(members)
    note(f"{described(network, settings, prior.unconstrained_dim)}; {n:,} simulations to train on")
    try:
        with _rows(split, theta, y, convert, training, seed) as rows:
            del theta, y, centred_on
            histories = train_members(
                members,
                negative_log_density,
                rows,
                undecayed=LINEAR_PATHS,
                decays=decays,
                checkpoint=checkpoint,
                identity=identity_of(learned),
                progress=progress,
            )
            if isinstance(network, Ensemble):
                with torch_threads(1):
                    network.shares.copy_(
                        stacked(
                            torch.stack(
                                [-losses(member, negative_log_density, rows.valid) for member in members]
                            )
                        )
                    )
                    loss = mean_loss(network, negative_log_density, rows.valid)
                each = ", ".join(
                    f"{history.best_loss:.3f} ({decay:.2g} times the weight decay, share {share:.2f})"
                    for history, decay, share in zip(histories, decays, network.shares.tolist(), strict=True)
                )
                note(f"validation loss {loss:.3f} of the ensemble, {each} of its members")
    except NonFiniteLossError as error:
        if split is None:
            error.rows = numbers[error.rows]
        if checkpoint is not None:
            offending = dict(zip(("theta", "y"), simulations.gather(error.rows), strict=True))
            write_file(f"{checkpoint}.rows", {"rows": error.rows, **offending}, {"kind": "offending rows"})
            error.add_note(f"theta and y of those rows are in {checkpoint}.rows.")
        raise
    return Estimate(
        network, scaler, centre, scale, settings, histories[0], tuple(notes), train_rows, valid_rows
    )


def _rows(
    split: Split | None,
    theta: NDArray[np.float64],
    y: NDArray[Any],
    convert: Convert,
    settings: TrainSettings,
    seed: int,
) -> AbstractContextManager[Rows]:
    if split is not None:
        return StreamedRows(split, convert, settings, seed)
    return nullcontext(TensorRows([torch.from_numpy(part) for part in convert(theta, y)], settings, seed))


def identity_of(learned: Learned | None) -> dict[str, object] | None:
    """What binds a checkpoint to the encoder, if there is one."""
    return None if learned is None else {"encoder": digest(list(learned.encoder.state_dict().values()))}


def negative_log_density(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """The loss of each row, in nats."""
    out: Tensor = -module(*batch)
    return out
