"""Neural posterior estimation: q(theta | y) as one module, and its training by maximum likelihood.

    q maximises  E_{p(theta) p(y | theta)} [ log q(theta | y) ]        (Papamakarios & Murray 2016, 1605.06376)

whose maximiser over all densities is p(theta | y) for every y at once: the loss is the expected forward KL divergence up to the
constant E[log p(theta | y)]. theta is seen as u = (T(theta) - m) / c, with T the prior's map to R^u and m, c the mean and standard
deviation of T over the training rows, so

    log q(theta | y) = log q_flow(u | s(y)) - sum log c + log |det dT/dtheta|
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from sbi_flows.errors import NonFiniteLossError, TooFewSimulationsError
from sbi_flows.files import write_file
from sbi_flows.flows.conditional import ConditionalFlow
from sbi_flows.flows.recipes import build_flow
from sbi_flows.nets.scaling import Scaler
from sbi_flows.nets.summary import SummaryKind, build_summary, choose_summary
from sbi_flows.npe.settings import FitSettings, training_for
from sbi_flows.problem.prior import Prior
from sbi_flows.rng import stream, torch_scope
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.training.loop import History, train
from sbi_flows.training.rows import TensorRows, split_rows
from sbi_flows.training.settings import TrainSettings

_ROWS_A_PARAMETER = 25
_LINEAR_PATHS = ("flow.layers.0.", "summary.linear.", "summary.direct.linear.")


class PosteriorEstimator(nn.Module):
    """q(u | scaled y): a summary network and a conditional flow."""

    def __init__(self, summary: nn.Module, flow: ConditionalFlow) -> None:
        super().__init__()
        self.summary = summary
        self.flow = flow

    def forward(self, u: Float[Tensor, "rows d"], y: Float[Tensor, "rows *event"]) -> Float[Tensor, " rows"]:
        """log q(u | s(y)) in nats."""
        return self.flow.log_prob(u, self.summary(y))


@dataclass(frozen=True)
class Estimate:
    """All that was learnt, and how. `centre`, `scale`: m and c above; `train_rows`, `valid_rows`: places in the usable simulations."""

    estimator: PosteriorEstimator
    scaler: Scaler
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    settings: FitSettings
    history: History
    notes: tuple[str, ...]
    train_rows: NDArray[np.int64]
    valid_rows: NDArray[np.int64]


def build_estimator(settings: FitSettings, kind: SummaryKind, scaler: Scaler, dim: int, seed: int) -> PosteriorEstimator:
    """The untrained module that `settings` describe for parameters in R^dim, its weights a function of the seed."""
    with torch_scope(stream(seed, "weights")):
        summary = build_summary(kind, scaler.out_shape, features=settings.features, hidden=settings.hidden)
        return PosteriorEstimator(summary, build_flow(settings.flow, dim, settings.features, hidden=settings.hidden, steps=settings.steps))


def estimate(
    prior: Prior,
    simulations: Simulations,
    settings: FitSettings,
    *,
    seed: int,
    limit_seconds: float | None = None,
    checkpoint: str | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Estimate:
    """Train q on the usable rows of `simulations`. Raises what `train` and `Scaler.from_data` raise, and `TooFewSimulationsError`."""
    theta, y = simulations.usable()
    if len(theta) < _ROWS_A_PARAMETER * prior.d:
        raise TooFewSimulationsError(
            f"{len(theta)} usable simulations are too few for {prior.d} parameters; at least {_ROWS_A_PARAMETER} a parameter are needed "
            "to train at all, and thousands to train well. Simulate more: n_simulations=10_000."
        )
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        say(text)

    if failed := simulations.failure_text():
        note(failed)
    kind, reason = choose_summary(y) if settings.summary == "auto" else (settings.summary, "as asked")
    scaler = Scaler.from_data(y, shared=kind == "series")
    if settings.train is None:
        settings = replace(settings, train=training_for(len(theta), timed=limit_seconds is not None))
    settings = replace(settings, summary=kind)
    training = settings.train or TrainSettings()
    note(f"summary network: {kind}, because the data are {reason}")
    note(f"scaling of y: {scaler.describe()}")
    train_rows, valid_rows = split_rows(len(theta), training, seed)
    z, _ = prior.to_unconstrained(theta)
    centre, scale = z[train_rows].mean(axis=0), z[train_rows].std(axis=0)
    estimator = build_estimator(settings, kind, scaler, prior.unconstrained_dim, seed)
    weights = sum(p.numel() for p in estimator.parameters())
    flow = settings.flow if prior.unconstrained_dim > 1 else "one spline"
    size = f"{settings.steps} layers of width {settings.hidden}; {weights:,} weights in all"
    note(f"flow: {flow}, {size}; {len(train_rows):,} simulations to train on")
    tensors = (torch.from_numpy(((z - centre) / scale).astype(np.float32)), torch.from_numpy(scaler.in_float32(y)))
    try:
        history = train(
            estimator,
            _negative_log_density,
            TensorRows(tensors, training, seed),
            undecayed=_LINEAR_PATHS,
            limit_seconds=limit_seconds,
            checkpoint=checkpoint,
            progress=progress,
        )
    except NonFiniteLossError as error:
        if checkpoint is not None:
            rows = {"rows": error.rows, "theta": theta[error.rows], "y": y[error.rows]}
            write_file(f"{checkpoint}.rows", rows, {"kind": "offending rows"})
            error.add_note(f"theta and y of those rows are in {checkpoint}.rows.")
        raise
    return Estimate(estimator, scaler, centre, scale, settings, history, tuple(notes), train_rows, valid_rows)


def _negative_log_density(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    out: Tensor = -module(*batch)
    return out
