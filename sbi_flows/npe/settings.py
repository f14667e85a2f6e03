"""The knobs of a fit, and the rule that fills in those left open."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from sbi_flows.arrays import integer
from sbi_flows.errors import SettingsError
from sbi_flows.flows.recipes import RECIPES, FlowKind
from sbi_flows.nets.summary import SummaryKind
from sbi_flows.training.settings import TrainSettings

_ROWS_SEEN = 1_000_000
_EPOCH_ROWS = TrainSettings().epoch_rows
_UNTIL_THE_LIMIT = 100_000
_DECAY: dict[SummaryKind, tuple[float, float]] = {
    "vector": (1000, 0.3),
    "series": (3000, 0.5),
    "encoder": (1000, 0.3),
}
_MOST_EPOCHS = 200
_BATCHES = ((4_000, 64),)
_LARGEST_BATCH = 128
_SPREAD = 3.0
_MANY_PARAMETERS = 16
_MEMBERS = ((20_000, 4), (100_000, 2))


class Size(NamedTuple):
    """Layers of the flow, width of the networks, length of s(y)."""

    steps: int
    hidden: int
    features: int


SIZES = {"small": Size(3, 64, 32), "medium": Size(5, 128, 32), "large": Size(6, 256, 64)}


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """What `sf.fit` trains.

    flow: "maf", "nsf", "coupling" or "spline_coupling". summary: "auto" (chosen from the data), "vector" or
        "series"; "encoder" is what a fit with `summary=` an autoencoder says it had.
    size: "small", "medium", "large", or "auto" for that which `size_for` gives. It fills in those of these
        that are None: steps, the layers of the flow; hidden, the width of its networks and of the summary
        network; features, the length of s(y).
    members: how many such networks, from different starting weights, are mixed, in the shares of the largest
        density on the simulations kept apart; None for the number that `members_for` gives, and in a fit by
        the clock for one a core, at most 4, where a thread simulates twice as quickly as training goes
        (`npe.online.parallel`), else 1. Cores are those that the process may use, by its affinity, a quota of
        its cgroup, and the environment variable LOKY_MAX_CPU_COUNT.
    train: the training settings, or None for those that `training_for` gives. With None, members differ in
        their weight decay too, 3 to 1/3 times what `training_for` gives; with settings of your own, all have
        the weight decay that is asked for.
    Integers of NumPy are taken and kept as int. Raises `SettingsError`.
    """

    flow: FlowKind = "nsf"
    size: Literal["auto", "small", "medium", "large"] = "auto"
    steps: int | None = None
    hidden: int | None = None
    summary: Literal["auto", "vector", "series", "encoder"] = "auto"
    features: int | None = None
    members: int | None = None
    train: TrainSettings | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.flow, str) or self.flow not in RECIPES:
            raise SettingsError(f"flow must be one of {', '.join(RECIPES)}, got {self.flow!r}.")
        if self.summary not in ("auto", "vector", "series", "encoder"):
            raise SettingsError(
                f"summary must be 'auto', 'vector' or 'series', got {self.summary!r}. An autoencoder goes "
                f"in sf.fit(..., summary=model)."
            )
        if self.size not in ("auto", *SIZES):
            raise SettingsError(f"size must be 'auto', {', '.join(map(repr, SIZES))}, got {self.size!r}.")
        if self.train is not None and not isinstance(self.train, TrainSettings):
            raise SettingsError(
                f"train must be sf.TrainSettings(...) or None, got {type(self.train).__name__}."
            )
        for name, least in (("steps", 2), ("hidden", 1), ("features", 1), ("members", 1)):
            value = getattr(self, name)
            if value is None:
                continue
            object.__setattr__(self, name, integer(name, value, least))

    @property
    def built(self) -> Size:
        """Layers, width and features: those asked for, else those of the size ("auto": small)."""
        size = SIZES.get(self.size, SIZES["small"])
        return Size(self.steps or size.steps, self.hidden or size.hidden, self.features or size.features)

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> FitSettings:
        """Settings from `to_json`."""
        train = record["train"]
        return cls(**{**record, "train": None if train is None else TrainSettings(**train)})


def size_for(d: int, kind: SummaryKind, *, timed: bool) -> tuple[Literal["small", "medium", "large"], str]:
    """The size for d unconstrained parameters and data of that kind, and the reason in words.

    Vectors: medium, at 1,000 simulations as at 10,000 denser than small on the tasks that were tried, for
    twice the time a step; by the clock small, because steps count. Series: small, which was the denser one on
    Ricker; it is the summary that has to be learnt there, and larger networks overfit sooner. Large from 17
    parameters: a masked network has hidden / d units for each parameter.
    """
    if d > _MANY_PARAMETERS:
        return "large", f"because of {d} parameters"
    if timed:
        return "small", "because the time is limited"
    if kind == "series":
        return "small", "because a larger network learns too much of single series by heart"
    return "medium", f"for {d} parameter{'s' if d > 1 else ''}, a vector and a fixed number of simulations"


def members_for(n: int) -> int:
    """How many networks are mixed for n usable simulations: 4 below 20,000, 2 below 100,000, else 1."""
    return next((members for most, members in _MEMBERS if n < most), 1)


def spread(members: int) -> list[float]:
    """Factors on the weight decay of the members of an ensemble, 3 to 1/3: how much a problem needs, their
    shares then tell.
    """
    return [1.0] if members == 1 else [_SPREAD ** (1 - 2 * k / (members - 1)) for k in range(members)]


def training_for(n: int, *, timed: bool, kind: SummaryKind = "vector") -> TrainSettings:
    """Training settings for n usable simulations.

    About 1,000,000 rows are seen (all, if there are more) in at most 200 epochs, unless the time decides,
    which then alone ends it. It is
    small sets of simulations that are overfitted, and series sooner: the weight decay is 1000 / n, at most
    0.3, for series 3000 / n, at most 0.5.
    """
    n = max(n, 1)
    batch_size = next((size for most, size in _BATCHES if n < most), _LARGEST_BATCH)
    epochs = _UNTIL_THE_LIMIT if timed else min(round(max(_ROWS_SEEN, n) / min(n, _EPOCH_ROWS)), _MOST_EPOCHS)
    patience = _UNTIL_THE_LIMIT if timed else TrainSettings().patience
    rows, most = _DECAY[kind]
    return TrainSettings(
        epochs=epochs, batch_size=batch_size, weight_decay=min(rows / n, most), patience=patience
    )
