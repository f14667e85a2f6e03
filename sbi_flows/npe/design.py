"""What is decided before training, once: it is given to the estimate of a fixed set, to the estimate by the
clock and to every process that trains another network.

theta is seen as u = (T(theta) - m) / c, with T the prior's map to R^u and m, c the mean and standard
deviation of T over the training rows, so

    log q(theta | y) = log q_flow(u | s(y)) - sum log c + log |det dT/dtheta|
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor, nn

from sbi_flows.arrays import F
from sbi_flows.errors import SettingsError, TooFewSimulationsError
from sbi_flows.flows.recipes import build_flow
from sbi_flows.nets.choice import NETWORKS, choose_summary
from sbi_flows.nets.encoder import EncodedSummary, TrainedEncoder
from sbi_flows.nets.scaling import Scaler
from sbi_flows.nets.screening import relevant_columns
from sbi_flows.nets.vector import ScreenedSummary
from sbi_flows.notes import Notes, Say
from sbi_flows.npe.network import Ensemble, PosteriorEstimator
from sbi_flows.npe.settings import ROWS_PER_PARAMETER, FitSettings, size_for
from sbi_flows.problem.prior import Prior
from sbi_flows.rng import stream, torch_scope
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.training.history import History
from sbi_flows.training.loop import Progress
from sbi_flows.training.rows import digest
from sbi_flows.training.settings import TrainSettings

LINEAR_PATHS = (
    "flow.layers.0._linear.",
    "flow.layers.0.net.gaussian.",
    "summary.linear.",
    "summary.direct.linear.",
    "summary.head.linear.",
)
Converted = tuple[NDArray[np.float32], ...]
Convert = Callable[[Float[np.ndarray, "rows d"], Shaped[np.ndarray, " rows *event"]], Converted]

_SCREENED_ROWS, _SCREENED_NUMBERS, _LEAST_SCREENED = 20_000, 5_000_000, 1000
_ROWS_COMPARED, _ALIKE = 1000, (0.3, 3.0)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of a fit asked for.

    encoder: a network that was trained elsewhere and summarises y. checkpoint: a file to resume from.
    say: takes each note as it is made. progress: called as progress(done, total, text).
    """

    settings: FitSettings = field(default_factory=FitSettings)
    seed: int = 0
    encoder: TrainedEncoder | None = None
    checkpoint: str | None = None
    say: Say | None = None
    progress: Progress | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Design:
    """The network, the scaling and the settings of a fit.

    centre, scale: m and c above.
    settings: complete: sizes, summary network, training settings and number of members.
    seen: the columns of y that all members see; None where they see all. sees_all: the member that does so
    anyway.
    """

    prior: Prior
    kind: str
    scaler: Scaler
    centre: F
    scale: F
    settings: FitSettings
    seed: int
    encoder: TrainedEncoder | None = None
    seen: Bool[np.ndarray, " columns"] | None = None
    sees_all: int = 1

    @property
    def training(self) -> TrainSettings:
        """The training settings. They are chosen before any network is trained."""
        return self.settings.train or TrainSettings()

    @property
    def identity(self) -> Mapping[str, object] | None:
        """What binds a checkpoint to the encoder, if there is one."""
        return (
            None
            if self.encoder is None
            else {"encoder": digest(list(self.encoder.encoder.state_dict().values()))}
        )

    def member(self, k: int = 0) -> PosteriorEstimator:
        """Untrained member k; its weights are a function of the seed and k."""
        layers, width, features = self.settings.built
        with torch_scope(stream(self.seed, "weights", k)):
            if self.encoder is None:
                summary = NETWORKS[self.kind].build(self.scaler.out_shape, features, width)
            else:
                summary = EncodedSummary(self.encoder.encoder, features, width)
            dim = self.prior.unconstrained_dim
            kind = self.settings.flows[k % len(self.settings.flows)]
            flow = build_flow(kind, dim, features, width=width, layers=layers)
        if self.seen is not None and k != self.sees_all and isinstance(summary, ScreenedSummary):
            summary.seen.copy_(torch.from_numpy(self.seen))
        return PosteriorEstimator(summary, flow)

    def network(self) -> Ensemble:
        """The untrained ensemble."""
        return Ensemble([self.member(k) for k in range(self.settings.members or 1)])

    def convert(self, theta: Float[np.ndarray, "rows d"], y: Shaped[np.ndarray, " rows *event"]) -> Converted:
        """u and scaled y, in float32: the rows that are trained on."""
        z, _ = self.prior.to_unconstrained(theta)
        return ((z - self.centre) / self.scale).astype(np.float32), self.scaler.in_float32(y)

    def centred_on(self, theta: Float[np.ndarray, "rows d"]) -> Design:
        """The same with m and c of these rows."""
        z, _ = self.prior.to_unconstrained(theta)
        return replace(self, centre=z.mean(axis=0), scale=z.std(axis=0))


@dataclass(frozen=True)
class Estimate:
    """What was learnt.

    history: of the first member. notes: what was chosen, and why.
    train_rows: the simulations that were trained on, or a sample of them where they were read in buffers.
    held_out_rows: all that were held out.
    """

    design: Design
    network: Ensemble
    history: History
    notes: Notes
    train_rows: NDArray[np.int64]
    held_out_rows: NDArray[np.int64]


def check_enough(prior: Prior, simulations: Simulations) -> int:
    """The number of usable simulations. Raises `TooFewSimulationsError`."""
    usable = int(simulations.ok.sum())
    if usable < ROWS_PER_PARAMETER * prior.d:
        raise TooFewSimulationsError(
            f"{usable} usable simulations are too few for {prior.d} parameters; training needs at least "
            f"{ROWS_PER_PARAMETER} per parameter, and thousands to be good. Simulate more: "
            f"n_simulations=10_000."
        )
    return usable


def begin_design(
    prior: Prior,
    simulations: tuple[Float[np.ndarray, "rows d"], Shaped[np.ndarray, " rows *event"]],
    request: Request,
    notes: Notes,
    *,
    timed: bool,
) -> Design:
    """The summary network, the scaling and the sizes that suit simulations (theta, y); m and c are those of
    all of theta.

    Raises `SettingsError` and what `Scaler.from_data` raises.
    """
    theta, y = simulations
    kind, scaler = _summary_and_scaling(request, y, notes)
    settings = replace(sized(request.settings, prior.unconstrained_dim, kind, timed, notes), summary=kind)
    none = np.zeros(0)
    design = Design(
        prior=prior, kind=kind, scaler=scaler, centre=none, scale=none, settings=settings, seed=request.seed,
        encoder=request.encoder,
    )  # fmt: skip
    return design.centred_on(theta)


def _summary_and_scaling(request: Request, y: NDArray[Any], notes: Notes) -> tuple[str, Scaler]:
    """Those that suit the data, or those of the encoder that was passed."""
    settings, encoder = request.settings, request.encoder
    if encoder is not None:
        rms = float(np.sqrt(np.mean(np.square(encoder.scaler(y[:_ROWS_COMPARED])))))
        notes.note("encoder", features=encoder.sizes[1])
        notes.note("encoder scaling", rms=rms, alike=_ALIKE[0] <= rms <= _ALIKE[1])
        return "encoder", encoder.scaler
    if settings.summary == "encoder":
        raise SettingsError("summary='encoder' needs the autoencoder itself: sf.fit(..., summary=model).")
    kind, reason = choose_summary(y) if settings.summary == "auto" else (settings.summary, "")
    scaler = Scaler.from_data(y, shared=NETWORKS[kind].shared)
    notes.note("summary network", network=kind, reason=reason)
    notes.note("scaling", text=scaler.describe())
    return kind, scaler


def sized(settings: FitSettings, dim: int, kind: str, timed: bool, notes: Notes) -> FitSettings:
    """The settings with layers, width and summary features filled in for parameters in R^dim."""
    if settings.size == "auto":
        size, reason = size_for(dim, kind, timed=timed)
        if None in (settings.layers, settings.width, settings.summary_features):
            notes.note("size", size=size, reason=reason, parameters=dim)
        settings = replace(settings, size=size)
    layers, width, summary_features = settings.built
    return replace(settings, layers=layers, width=width, summary_features=summary_features)


def rows_to_screen(scaler: Scaler, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows in which columns are screened, evenly spaced: 20,000 at most; none where too few would fit."""
    most = min(_SCREENED_ROWS, _SCREENED_NUMBERS // int(np.prod(scaler.out_shape)))
    chosen = rows[:: -(-len(rows) // most)] if most >= _LEAST_SCREENED else rows[:0]
    return np.asarray(chosen)


def screened(u: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Which columns of scaled vectors y depend on u; None where most do or none does, and all are to be
    seen.
    """
    seen = relevant_columns(y.astype(np.float64), u.astype(np.float64))
    return seen if 0 < 2 * seen.sum() <= len(seen) else None


def note_flow(design: Design, network: nn.Module, members: int, notes: Notes, n: int | None = None) -> None:
    """Say which flow is trained, how large it is, and on how many simulations, if that is known."""
    of_splines = design.prior.unconstrained_dim == 1
    kinds = ["one spline" if of_splines and kind != "matching" else kind for kind in design.settings.flows]
    flow = " and ".join(dict.fromkeys(kinds[:members]))
    layers, width, _ = design.settings.built
    weights = sum(p.numel() for p in network.parameters())
    notes.note("flow", flow=flow, members=members, layers=layers, width=width, weights=weights, simulations=n)


def training_loss(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """What a member is trained by, per row, in nats: -log q or a bound on it."""
    out: Tensor = cast(PosteriorEstimator, module).loss(*batch)
    return out


def negative_log_density(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """-log q per row, in nats."""
    out: Tensor = -module(*batch)
    return out
