"""The options of training, checked when they are set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from sbi_flows.arrays import integer
from sbi_flows.errors import SettingsError

OptimiserKind = Literal["muon", "adamw"]
OPTIMISERS = get_args(OptimiserKind)


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How `train` runs.

    epochs: the length of the schedule. An epoch is a pass over the training rows, or over the next
    `epoch_rows` of them.
    batch_size: rows per step.
    optimiser: "muon", orthogonalised momentum for the matrices of a summary network and AdamW for all else
    (see `training.optimiser`), or "adamw" for everything.
    learning_rate: the peak, reached after `warmup` (a share of the schedule), then lowered to zero along a
    cosine.
    weight_decay: decoupled, per unit of the learning rate. clip: the largest norm of the gradient.
    averaging: decay, per step, of the running average of the weights, which is validated and kept (0: no
    averaging).
    patience: epochs without improvement before training stops.
    validation_share, validation_most: rows to hold out, as a share and at most; all are scored after each
    epoch. Raises `SettingsError`.
    """

    epochs: int = 50
    batch_size: int = 128
    epoch_rows: int = 50_000
    optimiser: OptimiserKind = "muon"
    learning_rate: float = 4e-3
    warmup: float = 0.02
    weight_decay: float = 1e-4
    clip: float = 5.0
    averaging: float = 0.998
    patience: int = 20
    validation_share: float = 0.1
    validation_most: int = 5_000

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "validation_most", "epoch_rows"):
            object.__setattr__(self, name, integer(name, getattr(self, name)))
        for name, high in (
            ("learning_rate", 1),
            ("warmup", 1),
            ("clip", float("inf")),
            ("validation_share", 1),
        ):
            if not 0 < getattr(self, name) < high:
                raise SettingsError(
                    f"{name} must lie strictly between 0 and {high}, got {getattr(self, name)!r}."
                )
        if self.optimiser not in OPTIMISERS:
            raise SettingsError(f"optimiser must be one of {', '.join(OPTIMISERS)}, got {self.optimiser!r}.")
        if not 0 <= self.weight_decay <= 10:
            raise SettingsError(f"weight_decay must lie in [0, 10], got {self.weight_decay!r}.")

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Settings from a file, also of the time before there was a choice of optimiser."""
        return cls(**{"optimiser": "adamw", **record})
