"""Composition and inversion of layers, as operations on layers that give layers.

    (A o B)(v) = A(B(v)),     log |det d(A o B)/dv| = log |det dB/dv| at v  +  log |det dA/du| at u = B(v)
    (A o B)^-1 = B^-1 o A^-1

`compose(a, b, c)` reads from left to right, as data go: `to_noise` runs a, then b, then c; `to_value` runs
them backwards. `Inverse` turns a layer round, and with it what is cheap: an autoregressive layer has a cheap
density; turned round it has a cheap sample (inverse autoregressive flow, Kingma et al. 2016, 1606.04934).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sbi_flows.errors import SettingsError
from sbi_flows.flows.layers import (
    Context,
    Layer,
    Value,
    cheap_in_all,
    check_layers,
    run_to_noise,
    run_to_value,
)

_TURNED = {"density": "sample", "sample": "density"}


class Composed(Layer):
    """The layers one after the other; cheap is what is cheap in all of them."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        check_layers(layers, "Composed")
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.cheap = cheap_in_all(layers)

    def to_noise(self, value: Value, context: Context) -> tuple[Tensor, Tensor]:
        return run_to_noise(self.layers, value, context)

    def to_value(self, noise: Value, context: Context) -> tuple[Tensor, Tensor]:
        return run_to_value(self.layers, noise, context)


class Inverse(Layer):
    """The layer turned round: its `to_noise` is the other's `to_value`. Raises `SettingsError`."""

    def __init__(self, layer: Layer) -> None:
        check_layers([layer], "Inverse")
        super().__init__()
        self.layer = layer
        self.cheap = frozenset(_TURNED[direction] for direction in layer.cheap)

    def to_noise(self, value: Value, context: Context) -> tuple[Tensor, Tensor]:
        return self.layer.to_value(value, context)

    def to_value(self, noise: Value, context: Context) -> tuple[Tensor, Tensor]:
        return self.layer.to_noise(noise, context)


def compose(*layers: Layer) -> Layer:
    """The layer whose `to_noise` runs the given ones from the first to the last. Raises `SettingsError`."""
    if not layers:
        raise SettingsError("compose takes one or more layers of sbi_flows.flows, got nothing.")
    check_layers(layers, "compose")
    return Composed(layers)
