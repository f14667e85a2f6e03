"""What is decided before training, once: it is given to the estimate of a fixed set, to the estimate by the
clock and to every process that trains another network.

theta is seen as u = (T(theta) - m) / c, with T the prior's map to R^u and m, c the mean and standard
deviation of T over the training rows, so

    log q(theta | y) = log q_flow(u | s(y)) - sum log c + log |det dT/dtheta|
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor, nn

from sbi_flows.arrays import F
from sbi_flows.errors import SettingsError, TooFewSimulationsError
from sbi_flows.flows.natural import natural_scale_of
from sbi_flows.flows.recipes import build_flow
from sbi_flows.nets.choice import NETWORKS, choose_network, summary_network
from sbi_flows.nets.encoder import EncodedSummary, TrainedEncoder
from sbi_flows.nets.inputs import Declared, Inputs
from sbi_flows.nets.joined import AddedSummaries
from sbi_flows.nets.layout import SEVERAL, Layout, scaled_like
from sbi_flows.nets.own import OWN, OwnSummary
from sbi_flows.nets.scaling import Scaler
from sbi_flows.nets.screening import relevant_columns
from sbi_flows.nets.vector import ScreenedSummary
from sbi_flows.notes import Notes
from sbi_flows.npe.contraction import CONTRACTION_ROWS, soft_edges
from sbi_flows.npe.linear import LINEAR, linear_member
from sbi_flows.npe.network import Ensemble, PosteriorEstimator
from sbi_flows.npe.request import Request, Sample
from sbi_flows.npe.settings import ROWS_PER_PARAMETER, FitSettings, size_for
from sbi_flows.problem.events import Events
from sbi_flows.problem.patterns import Observe
from sbi_flows.problem.prior import Prior
from sbi_flows.rng import stream, torch_scope
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.training.history import History
from sbi_flows.training.rows import digest
from sbi_flows.training.settings import TrainSettings

_MOST_TABLES = 16
LINEAR_PATHS = (
    *(f"flow.layers.{i}._linear." for i in (0, 1)),
    "flow.layers.0.net.gaussian.",
    *(f"summary.{path}linear." for path in ("", "direct.", "head.", "declared.")),
    *(f"summary.network.{path}linear." for path in ("", "direct.", "head.")),
    "summary.item.head.linear.",
    *(f"summary.networks.{i}.{path}linear." for i in range(_MOST_TABLES) for path in ("", "head.")),
)
MATRICES = tuple(
    f"summary.{path}{part}."
    for path in ("", "network.")
    for part in ("convolutions", "head", "linear", "first", "blocks", "last", "pool", "item", "networks")
)
Converted = tuple[NDArray[np.float32], ...]
Convert = Callable[[Float[np.ndarray, "rows d"], Shaped[np.ndarray, " rows *event"]], Converted]

_SCREENED_ROWS, _SCREENED_NUMBERS, _LEAST_SCREENED = 20_000, 5_000_000, 1000
_ROWS_COMPARED, _ALIKE = 1000, (0.3, 3.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Design:
    """The network, the scaling and the settings of a fit.

    inputs: what the network takes of y. own: a summary network of the user's own. observe: patterns of what
    is observed, redrawn when a row is used. centre, scale: m and c above.
    settings: complete: sizes, summary network, training settings and number of members.
    seen: the columns of the input that all members see; None where they see all. sees_all: the member that
    does so anyway. edges: of `flows.natural`, where a flow is of that kind.
    """

    prior: Prior
    kind: str
    inputs: Inputs
    centre: F
    scale: F
    settings: FitSettings
    seed: int
    encoder: TrainedEncoder | None = None
    own: nn.Module | None = None
    observe: Observe | None = None
    seen: Bool[np.ndarray, " columns"] | None = None
    sees_all: int = 1
    edges: F | None = None

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
            dim = self.prior.unconstrained_dim
            kind = self.settings.flows[k % len(self.settings.flows)]
            if kind == LINEAR:
                return linear_member(self.inputs.numbers, dim, None if k == self.sees_all else self.seen)
            if self.own is not None:
                own = OwnSummary(self.own, self.inputs, restart=k > 0)
                summary: nn.Module = own
                features = own.features
            else:
                summary = self._summary(features, width)
            flow = build_flow(kind, dim, features, width=width, layers=layers)
        if self.seen is not None and k != self.sees_all:
            for part in summary.modules():
                if isinstance(part, ScreenedSummary):
                    part.seen.copy_(torch.from_numpy(self.seen))
        natural = natural_scale_of(flow)
        if natural is not None and self.edges is not None:
            natural.place(self.centre, self.scale, self.edges)
        return PosteriorEstimator(summary, flow)

    def _summary(self, features: int, width: int) -> nn.Module:
        shapes = self.inputs.shapes
        if self.encoder is None:
            layout = self.inputs.layout or Layout.plain(self.kind, self.inputs.scaler)
            return summary_network(layout, shapes[1] if len(shapes) > 1 else (), features, width)
        encoded = EncodedSummary(self.encoder.encoder, features, width)
        return encoded if len(shapes) == 1 else AddedSummaries(encoded, shapes[1][0], features, width)

    def network(self) -> Ensemble:
        """The untrained ensemble."""
        return Ensemble([self.member(k) for k in range(self.settings.members or 1)])

    def convert(
        self,
        theta: Float[np.ndarray, "rows d"],
        y: Shaped[np.ndarray, " rows *event"],
        t: Float[np.ndarray, "rows k"] | None = None,
    ) -> Converted:
        """u and what the network takes, in float32: the rows that are trained on. Where there are patterns,
        u and y as it is: `seen_of` does the rest when a row is used.

        t: declared summaries, where they are known.
        """
        z, _ = self.prior.to_unconstrained(theta)
        u = ((z - self.centre) / self.scale).astype(np.float32)
        return (u, y) if self.observe is not None else (u, *self.inputs.in_float32(y, t))

    def seen_of(self, y: Shaped[np.ndarray, "rows *event"], rng: np.random.Generator) -> Converted:
        """What the network takes of events of which a part is observed, in float32."""
        return self.inputs.in_float32(y if self.observe is None else self.observe(y, rng))

    def converted(self, sample: Sample, rng: np.random.Generator) -> Converted:
        """u and what the network takes of a sample, in float32, as a training step gets them."""
        if self.observe is None:
            return self.convert(*sample)
        return self.convert(*sample)[0], *self.seen_of(sample.y, rng)

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


def begin_design(prior: Prior, sample: Sample, request: Request, notes: Notes, *, timed: bool) -> Design:
    """The summary network, the scaling and the sizes that suit simulations; m and c are those of all of
    theta.

    Raises `SettingsError` and what `Scaler.from_data` and `Declared.from_data` raise.
    """
    kind, scaler, layout = summary_and_scaling(request, sample.y, notes)
    declared = joined_summaries(request, sample, notes)
    settings = replace(sized(request.settings, prior.unconstrained_dim, kind, timed, notes), summary=kind)
    if timed and settings.flow == "auto":
        settings = replace(settings, flow="nsf")
    if timed and LINEAR in settings.flows:
        raise SettingsError(
            f"flow={LINEAR!r} is computed from a fixed set of simulations, and by the clock they keep coming:"
            " give simulations= or n_simulations= instead of minutes=, or name another flow."
        )
    none = np.zeros(0)
    design = Design(
        prior=prior, kind=kind, inputs=Inputs(scaler, declared, layout), centre=none, scale=none,
        settings=settings, seed=request.seed, encoder=request.encoder, own=request.own,
        observe=request.observe,
    )  # fmt: skip
    asked = settings.flow == "auto" or "nsf_natural" in settings.flows
    edges = _edges(prior, sample, design) if asked else None
    return replace(design.centred_on(sample.theta), edges=edges)


def _edges(prior: Prior, sample: Sample, design: Design) -> F:
    """The edges of bounded parameters whose posterior is narrow; where values are missing, the mean stands
    in.
    """
    some = sample[:CONTRACTION_ROWS]
    if design.observe is None:
        parts = design.inputs.in_float32(some.y, some.t)
    else:
        parts = design.seen_of(some.y, stream(design.seed, "observed edges"))
    data = np.nan_to_num(np.concatenate([part.reshape(len(some), -1) for part in parts], axis=1), nan=0.0)
    return soft_edges(prior.to_unconstrained(some.theta)[0], prior.bounded, data)


def joined_summaries(request: Request, sample: Sample, notes: Notes) -> Declared | None:
    """The declared summaries that join, and what is said of them."""
    if request.declared is None:
        return None
    if request.joining is None or sample.t is None:
        notes.note("declared summaries left out", reason="switch")
        return None
    y = sample.y
    if request.observe is not None:
        y = request.observe(y, stream(request.seed, "observed summaries"))
    found = Declared.from_data(request.joining, y, sample.t)
    if found is None:
        notes.note("declared summaries left out", reason="constant")
        return None
    missing = int((~np.isfinite(sample.t)).any(axis=1).sum())
    scaling = found.scaler.describe()
    notes.note("declared summaries", count=int(found.scaler.keep.sum()), scaling=scaling, missing=missing)
    return found


def summary_and_scaling(request: Request, y: NDArray[Any], notes: Notes) -> tuple[str, Scaler, Layout | None]:
    """Those that suit the data, or those of the encoder that was passed."""
    settings, encoder = request.settings, request.encoder
    if encoder is not None:
        rms = float(np.sqrt(np.mean(np.square(encoder.scaler(y[:_ROWS_COMPARED])))))
        notes.note("encoder", features=encoder.sizes[1])
        notes.note("encoder scaling", rms=rms, alike=_ALIKE[0] <= rms <= _ALIKE[1])
        return "encoder", encoder.scaler, None
    if settings.summary == "encoder":
        raise SettingsError("summary='encoder' needs the autoencoder itself: sf.fit(..., summary=model).")
    events = request.events or Events.plain(y.shape[1:])
    networks: list[str] = []
    for table in events.tables:
        values = y[:, events.slices[table.name]].reshape(len(y), *table.shape) if events.named else y
        asked = settings.summary != "auto" and not events.named
        network, reason = (settings.summary, "") if asked else choose_network(table, values)
        networks.append(network)
        if request.own is None:
            notes.note("summary network", network=network, reason=reason, table=table.name)
    shared = tuple(NETWORKS[network].shared for network in networks)
    scaler, parts = scaled_like(y, events, tuple(networks), shared)
    layout = Layout(parts, request.masked)
    notes.note("scaling", text=scaler.describe())
    kind = OWN if request.own is not None else SEVERAL if events.named else networks[0]
    if request.own is not None:
        notes.note("own summary network", name=type(request.own).__name__)
    if request.masked:
        notes.note("missing values", redrawn=request.observe is not None)
    return kind, scaler, None if layout.is_plain and request.own is None else layout


def sized(settings: FitSettings, dim: int, kind: str, timed: bool, notes: Notes) -> FitSettings:
    """The settings with layers, width and summary features filled in for parameters in R^dim."""
    if settings.size == "auto":
        size, reason = size_for(dim, kind, timed=timed)
        if None in (settings.layers, settings.width, settings.summary_features):
            notes.note("size", size=size, reason=reason, parameters=dim)
        settings = replace(settings, size=size)
    layers, width, summary_features = settings.built
    return replace(settings, layers=layers, width=width, summary_features=summary_features)


def rows_to_screen(inputs: Inputs, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows in which columns are screened, evenly spaced: 20,000 at most; none where too few would fit."""
    most = min(_SCREENED_ROWS, _SCREENED_NUMBERS // inputs.numbers)
    chosen = rows[:: -(-len(rows) // most)] if most >= _LEAST_SCREENED else rows[:0]
    return np.asarray(chosen)


def screened(u: NDArray[np.float32], *columns: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Which columns of scaled vectors, and of scaled declared summaries, depend on u; None where most do or
    none does, and all are to be seen.
    """
    seen = relevant_columns(np.concatenate(columns, axis=1).astype(np.float64), u.astype(np.float64))
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
