"""The options of a fit, and the rules that fill in those left open."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from sbi_flows.arrays import integer, renamed
from sbi_flows.errors import SettingsError
from sbi_flows.flows.recipes import RECIPES, FlowKind
from sbi_flows.nets.choice import NETWORKS
from sbi_flows.nets.layout import SEVERAL
from sbi_flows.nets.own import OWN
from sbi_flows.npe.linear import LINEAR
from sbi_flows.training.settings import TrainSettings

_MOST_ROWS_SEEN = 3_000_000
_EPOCH_ROWS = TrainSettings().epoch_rows
_UNTIL_THE_LIMIT = 100_000
_MOST_EPOCHS = 200
_BATCHES = ((4_000, 64), (50_000, 128))
_LARGEST_BATCH, _BATCH_BY_THE_CLOCK = 256, 128
_SPREAD = 3.0
_MANY_PARAMETERS = 16
_MANY_MEMBERS = 4
_MEMBERS = ((20_000, 4), (200_000, 2))
ROWS_PER_PARAMETER = 25

DensityKind = FlowKind | Literal["linear_gaussian"]
DENSITIES = (*RECIPES, LINEAR)


class Size(NamedTuple):
    """Layers of the flow, width of its networks and of the summary network, length of s(y)."""

    layers: int
    width: int
    summary_features: int


SIZES = {"small": Size(3, 64, 32), "medium": Size(5, 128, 32), "large": Size(6, 256, 64)}
_OLD_NAMES = {"steps": "layers", "hidden": "width", "features": "summary_features"}


@renamed(**_OLD_NAMES)
@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """What `sf.fit` trains.

    flow: "maf", "nsf", "nsf_natural", "coupling", "spline_coupling" or "matching" (`flows.recipes`), or
        "linear_gaussian", in closed form (`npe.linear`); or several, such as ("nsf", "matching"), which the
        networks of an ensemble take in turn, the first one first; or "auto" for what `flows_for` chooses.
    size: "small", "medium", "large", or "auto" for what `size_for` chooses. It fills in what is None of
    layers, of the flow; width, of its networks and of the summary network; and summary_features, the length
    of s(y).
    summary: the summary network: "auto" (what is declared of y, else chosen from the data), "vector",
        "series", "set" or "grid". A finished fit says "several" where y is a mapping, "encoder" or "own"
        where it had an autoencoder or a module of the user's own as `summary=`.
    members: how many networks, from different starting weights, are mixed. None: what `members_for` gives,
        with flow="auto" and two or more also the linear Gaussian posterior, where it helps. By the clock one
        per core, at most 4, where a thread simulates twice as fast as training needs, else 1. Cores are those
        that the process may use, by its affinity, a quota of its control group and LOKY_MAX_CPU_COUNT.
    declared_summaries: whether summaries that the simulator declares join the input of the summary network.
    train: the training settings. None: what `training_for` gives, with a weight decay that differs between
        members by factors of 3 to 1/3; with settings of your own all members have the weight decay that you
        ask for.

    Raises `SettingsError`.
    """

    flow: DensityKind | tuple[DensityKind, ...] | Literal["auto"] = "auto"
    size: Literal["auto", "small", "medium", "large"] = "auto"
    layers: int | None = None
    width: int | None = None
    summary: str = "auto"
    summary_features: int | None = None
    members: int | None = None
    train: TrainSettings | None = None
    declared_summaries: bool = True

    def __post_init__(self) -> None:
        self._check_flow()
        if self.summary not in ("auto", *NETWORKS, "encoder", SEVERAL, OWN):
            raise SettingsError(
                f"summary must be 'auto', {', '.join(map(repr, NETWORKS))}, got {self.summary!r}. An "
                "autoencoder goes in sf.fit(..., summary=model)."
            )
        if self.size not in ("auto", *SIZES):
            raise SettingsError(f"size must be 'auto', {', '.join(map(repr, SIZES))}, got {self.size!r}.")
        if self.train is not None and not isinstance(self.train, TrainSettings):
            raise SettingsError(
                f"train must be sf.TrainSettings(...) or None, got {type(self.train).__name__}."
            )
        if not isinstance(self.declared_summaries, bool):
            raise SettingsError(f"declared_summaries must be True or False, got {self.declared_summaries!r}.")
        for name, least in (("layers", 2), ("width", 1), ("summary_features", 1), ("members", 1)):
            value = getattr(self, name)
            if value is None:
                continue
            object.__setattr__(self, name, integer(name, value, least))

    def _check_flow(self) -> None:
        """Keep several flows as a tuple. Raises `SettingsError`."""
        several = isinstance(self.flow, list | tuple)
        kinds: tuple[object, ...] = tuple(self.flow) if several else (self.flow,)
        known = all(isinstance(kind, str) and kind in DENSITIES for kind in kinds)
        if self.flow != "auto" and not (kinds and known):
            raise SettingsError(
                f"flow must be 'auto', one of {', '.join(DENSITIES)}, or a tuple of them for the networks in "
                f"turn, got {self.flow!r}."
            )
        if several:
            object.__setattr__(self, "flow", kinds)
        if isinstance(self.members, int) and 0 < self.members < len(kinds):
            raise SettingsError(
                f"members must be at least {len(kinds)}, one for each of {', '.join(map(str, kinds))}, got "
                f"{self.members}. Leave it out, or name fewer flows."
            )

    @property
    def flows(self) -> tuple[DensityKind, ...]:
        """The flows that the networks of an ensemble take in turn."""
        if self.flow == "auto":
            return ("nsf",)
        return (self.flow,) if isinstance(self.flow, str) else self.flow

    @property
    def built(self) -> Size:
        """The sizes asked for, else those of `size` ("auto": small)."""
        size = SIZES.get(self.size, SIZES["small"])
        return Size(
            self.layers or size.layers,
            self.width or size.width,
            self.summary_features or size.summary_features,
        )

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON, without `declared_summaries` at its default, as before there was a choice."""
        record = asdict(self)
        if self.declared_summaries:
            del record["declared_summaries"]
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> FitSettings:
        """Settings from `to_json`, also of the first version."""
        named = {_OLD_NAMES.get(name, name): value for name, value in record.items()}
        train = named["train"]
        return cls(**{**named, "train": None if train is None else TrainSettings.from_json(train)})


def size_for(d: int, kind: str, *, timed: bool) -> tuple[Literal["small", "medium", "large"], str]:
    """The size for d unconstrained parameters and data of that kind, and the reason: a key of
    `notes.SIZE_REASONS`.

    Vectors: medium, which gave a higher held-out density than small at 1,000 and 10,000 simulations on the
    tasks tried, for twice the time per step; by the clock small, because the number of steps counts. Series:
    small, which was better on Ricker; the summary has to be learned there, and larger networks overfit
    sooner. Large from 17 parameters: a masked network has width / d units per parameter.
    """
    if d > _MANY_PARAMETERS:
        return "large", "many parameters"
    if timed:
        return "small", "timed"
    series = kind == SEVERAL or (kind in NETWORKS and NETWORKS[kind].shared)
    return ("small", "series") if series else ("medium", "vector")


def members_for(n: int) -> int:
    """How many networks are mixed for n usable simulations: 4 below 20,000, 2 below 200,000, else 1."""
    return next((members for most, members in _MEMBERS if n < most), 1)


def flows_for(members: int, d: int, *, narrow: bool) -> tuple[FlowKind, ...]:
    """The flows of an ensemble for d unconstrained parameters.

    Four networks of one kind err alike: where a posterior is close to Gaussian, splines overfit 1,000
    simulations and affine layers do not; couplings are better where it is far from it. narrow: whether a
    bounded parameter has a narrow posterior, for which the natural scale is better; one network of
    several remains without it, for data whose posterior is wide.
    """
    natural: FlowKind = "nsf_natural"
    if members == 1:
        return (natural,) if narrow else ("nsf",)
    if narrow:
        return (natural, "nsf", *(natural for _ in range(members - 2)))
    return ("nsf",) if members < _MANY_MEMBERS or d == 1 else ("nsf", "nsf", "maf", "spline_coupling")


def decay_factors(members: int) -> list[float]:
    """Factors on the weight decay of the members, 3 to 1/3; the mixture weights then tell how much a problem
    needs.
    """
    return [1.0] if members == 1 else [_SPREAD ** (1 - 2 * k / (members - 1)) for k in range(members)]


def training_for(n: int, *, timed: bool, kind: str = "vector") -> TrainSettings:
    """Training settings for n usable simulations.

    About 30 n rows are seen, at least 1,000,000 and at most 3,000,000 (all, if there are more), in at most
    200 epochs; of grids, which take longer, 25 n and at least 500,000. With a time
    limit, the clock alone ends training. Small sets are overfitted, and series sooner, so the weight decay is
    1000 / n, at most 0.3; for series and sets 3000 / n, at most 0.5; for grids 12,000 / n, at most 1.
    """
    n = max(n, 1)
    batch_size = next((size for most, size in _BATCHES if n < most), _LARGEST_BATCH)
    if timed:
        batch_size = min(batch_size, _BATCH_BY_THE_CLOCK)
    network = NETWORKS["series"] if kind == SEVERAL else NETWORKS.get(kind, NETWORKS["vector"])
    rows = max(min(max(network.passes * n, network.least_rows), _MOST_ROWS_SEEN), n)
    epochs = _UNTIL_THE_LIMIT if timed else min(round(rows / min(n, _EPOCH_ROWS)), _MOST_EPOCHS)
    patience = _UNTIL_THE_LIMIT if timed else TrainSettings().patience
    decay = min(network.decay_rows / n, network.most_decay)
    return TrainSettings(epochs=epochs, batch_size=batch_size, weight_decay=decay, patience=patience)
