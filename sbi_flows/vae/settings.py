"""The sizes of an autoencoder's networks, and how it trains unless told otherwise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from sbi_flows.arrays import integer, renamed
from sbi_flows.training.settings import TrainSettings

_DECAY_ROWS, _MOST_DECAY = 250, 0.5
OLD_NAMES = {
    "hidden": "width",
    "features": "summary_features",
    "flow_hidden": "flow_width",
    "steps": "layers",
}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes that each settings record of `vae` has in part, as integers, and as JSON."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and name in _LEAST:
                object.__setattr__(self, name, integer(name, value, _LEAST[name]))

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Settings from `to_json`, also of the first version."""
        return cls(**{OLD_NAMES.get(name, name): value for name, value in record.items()})


_LEAST = {"width": 1, "summary_features": 1, "flow_width": 1, "layers": 2, "embedding": 1, "context": 1}


@renamed(**OLD_NAMES)
@dataclass(frozen=True, kw_only=True)
class VAESettings(Sizes):
    """width: of the decoder and of the summary network s(x).

    summary_features: length of s(x), None for twice the latent numbers; with few data a longer one overfits.
    flow_width, layers: width and number of the layers of a flow encoder.
    """

    width: int = 128
    summary_features: int | None = None
    flow_width: int = 32
    layers: int = 4


def training_for(n: int, epochs: int) -> TrainSettings:
    """AdamW at 2e-3 down to zero along a cosine, batches of 64, no early stop; weight decay 250 / n for n
    rows, at most 0.5.
    """
    decay = min(_DECAY_ROWS / n, _MOST_DECAY)
    return TrainSettings(
        epochs=epochs, batch_size=64, learning_rate=2e-3, weight_decay=decay, patience=max(epochs, 1)
    )
