"""The sizes of an autoencoder's networks, and how it trains unless told otherwise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sbi_flows.arrays import integer
from sbi_flows.training.settings import TrainSettings

_DECAY_ROWS, _MOST_DECAY = 250, 0.5


@dataclass(frozen=True, kw_only=True)
class VAESettings:
    """hidden: width of the decoder and of the summary network s(x); features: length of s(x), None for twice
    the latent
    numbers, because on few data a longer one is overfitted.

    flow_hidden, steps: width and number of the layers of a flow encoder.
    """

    hidden: int = 128
    features: int | None = None
    flow_hidden: int = 32
    steps: int = 4

    def __post_init__(self) -> None:
        for name, least in (("hidden", 1), ("features", 1), ("flow_hidden", 1), ("steps", 2)):
            value = getattr(self, name)
            if name == "features" and value is None:
                continue
            object.__setattr__(self, name, integer(name, value, least))

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON."""
        return asdict(self)


def training_for(n: int, epochs: int) -> TrainSettings:
    """AdamW at 2e-3 down to zero along a cosine, batches of 64, no stop before the end; weight decay 250 / n
    for n rows, at most 0.5.
    """
    decay = min(_DECAY_ROWS / n, _MOST_DECAY)
    return TrainSettings(
        epochs=epochs, batch_size=64, learning_rate=2e-3, weight_decay=decay, patience=max(epochs, 1)
    )
