"""The layers that flows are composed of: conditional affine, autoregressive, coupling, permutation.

Inside a flow the components come first: a value is (d, *rows), a context (k, *rows), with 1 for each axis of
the rows along which it does not vary. Each component is then contiguous in memory, and nothing is computed
twice for one context.

A new layer is a subclass of `Layer`, and an entry in the table of `tests/flows/test_layers.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.errors import SettingsError
from sbi_flows.flows.elementwise import Affine, BoundedAffine, Elementwise
from sbi_flows.flows.masked import ByDegrees, MaskedNet
from sbi_flows.flows.networks import ResidualNet, affine_of
from sbi_flows.flows.spline import Spline

Value = Float[Tensor, "d *rows"]
Context = Float[Tensor, "k *#rows"]

_MAX_LOG_SCALE, _NEARLY = 8.0, 0.999


class Layer(nn.Module):
    """One invertible map, given a context.

    cheap: the directions that cost one pass of the network: "density" (`to_noise`), "sample" (`to_value`).
    """

    cheap: frozenset[str] = frozenset({"density", "sample"})

    def to_noise(self, value: Value, context: Context) -> tuple[Tensor, Tensor]:
        """noise (d, *rows), and log |det d noise / d value| of a shape that broadcasts to rows."""
        raise TypeError(f"{type(self).__name__} has no density direction")

    def to_value(self, noise: Value, context: Context) -> tuple[Tensor, Tensor]:
        """value (d, *rows), and log |det d value / d noise| of a shape that broadcasts to rows."""
        raise TypeError(f"{type(self).__name__} has no sampling direction")

    def value(self, noise: Value, context: Context) -> Tensor:
        """The value alone, where that costs less."""
        return self.to_value(noise, context)[0]


def check_layers(layers: Sequence[object], taker: str) -> None:
    """Raise `SettingsError` unless all of them are layers."""
    if not all(isinstance(layer, Layer) for layer in layers):
        given = ", ".join(type(layer).__name__ for layer in layers)
        raise SettingsError(f"{taker} takes layers of sbi_flows.flows, got {given}.")


def run_to_noise(layers: nn.ModuleList, value: Value, context: Context) -> tuple[Tensor, Tensor]:
    """The layers from first to last, and the sum of their log determinants."""
    log_det = value.new_zeros(value.shape[1:])
    for layer in cast("Iterable[Layer]", layers):
        value, step = layer.to_noise(value, context)
        log_det = log_det + step
    return value, log_det


def run_to_value(layers: nn.ModuleList, noise: Value, context: Context) -> tuple[Tensor, Tensor]:
    """The layers' inverses from last to first, and the sum of their log determinants."""
    log_det = noise.new_zeros(noise.shape[1:])
    for layer in reversed(cast("Sequence[Layer]", layers)):
        noise, step = layer.to_value(noise, context)
        log_det = log_det + step
    return noise, log_det


def cheap_in_all(layers: Iterable[Layer]) -> frozenset[str]:
    """The directions that are cheap in every layer."""
    return Layer.cheap.intersection(*(layer.cheap for layer in layers))


class ConditionalAffine(Layer):
    """noise = (value - m(c)) exp(-s(c)), m and s linear in the context, |s| < 8. Starts at the identity."""

    def __init__(self, d: int, context: int) -> None:
        super().__init__()
        self._linear = nn.Linear(context, 2 * d)
        nn.init.zeros_(self._linear.weight)
        nn.init.zeros_(self._linear.bias)

    @torch.no_grad()
    def fix(self, slopes: Float[Tensor, "d k"], log_scale: Float[Tensor, " d"]) -> None:
        """Set m(c) = slopes c, and s to a constant, which is kept within its bound."""
        d = len(log_scale)
        raw = _MAX_LOG_SCALE * torch.atanh((log_scale / _MAX_LOG_SCALE).clamp(-_NEARLY, _NEARLY))
        self._linear.weight.copy_(torch.cat([slopes, torch.zeros_like(slopes)]))
        self._linear.bias.copy_(torch.cat([torch.zeros(d), raw]))

    def _shift_and_log_scale(self, context: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = affine_of(self._linear, context).chunk(2)
        return shift, _MAX_LOG_SCALE * torch.tanh(raw / _MAX_LOG_SCALE)

    def to_noise(self, value: Value, context: Context) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._shift_and_log_scale(context)
        return (value - shift) * torch.exp(-log_scale), -log_scale.sum(dim=0)

    def to_value(self, noise: Value, context: Context) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._shift_and_log_scale(context)
        return torch.addcmul(shift, noise, torch.exp(log_scale)), log_scale.sum(dim=0)


class Mapped(Layer):
    """A layer of monotone maps of one component, whose parameters a network gives.

    A state says by `free_ends` that its splines have free ends. Those of earlier versions do not hold it: a
    layer that loads one has pinned splines from then on, and none in its own state.
    """

    free_ends: Tensor | None

    def __init__(self, map: Elementwise) -> None:
        super().__init__()
        self._map = map
        self.register_buffer("free_ends", torch.tensor(True) if isinstance(map, Spline) else None)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if isinstance(self._map, Spline) and f"{prefix}free_ends" not in state_dict:
            self._map, self.free_ends = self._map.pinned, None
        super()._load_from_state_dict(state_dict, prefix, *rest)


def has_free_ends(state: Iterable[str]) -> bool:
    """Whether a state, given by its names, is one with free ends of splines."""
    return any(name.endswith("free_ends") for name in state)


class Autoregressive(Mapped):
    """noise_i = f(value_i; parameters_i(value_<i, c)), f a monotone map.

    The density takes one pass; a sample takes its components in turn (`flows.masked.ByDegrees`). Papamakarios
    et al. (2017), 1705.07057, with masks that let component 1 too depend on the context (`flows.bridge`).
    """

    cheap = frozenset({"density"})

    def __init__(self, d: int, context: int, width: int, map: Elementwise) -> None:
        super().__init__(map)
        self.net = MaskedNet(d, context, width, map.start)

    def to_noise(self, value: Value, context: Context) -> tuple[Tensor, Tensor]:
        noise, log_slope = self._map.to_noise(value, self.net(value, context))
        return noise, log_slope.sum(dim=0)

    def to_value(self, noise: Value, context: Context) -> tuple[Tensor, Tensor]:
        by_degrees = ByDegrees(self.net, context, noise.shape[1:])
        value, log_det = noise[:0], noise.new_zeros(())
        for i in range(len(noise)):
            found, log_slope = self._map.to_value(noise[i : i + 1], by_degrees.parameters(i, value))
            value, log_det = torch.cat([value, found]), log_det + log_slope[0]
        return value, log_det

    def value(self, noise: Value, context: Context) -> Tensor:
        by_degrees, value = ByDegrees(self.net, context, noise.shape[1:]), noise[:0]
        for i in range(len(noise)):
            value = torch.cat([value, self._map.value(noise[i : i + 1], by_degrees.parameters(i, value))])
        return value


class Coupling(Mapped):
    """noise_b = f(value_b; parameters(value_a, c)), f a monotone map; the components a pass through.

    a: every second component, from the first, or from the second if `flip`. Both directions cost one pass.
    Dinh et al. (2017), 1605.08803.
    """

    def __init__(self, d: int, context: int, width: int, map: Elementwise, flip: bool) -> None:
        super().__init__(map)
        self._a, self._b = slice(int(flip), None, 2), slice(1 - int(flip), None, 2)
        passing = len(range(d)[self._a])
        self.net = ResidualNet(passing, context, width, d - passing, map.start)

    def to_noise(self, value: Value, context: Context) -> tuple[Tensor, Tensor]:
        moved, log_slope = self._map.to_noise(value[self._b], self.net(value[self._a], context))
        return self._joined(value, moved), log_slope.sum(dim=0)

    def to_value(self, noise: Value, context: Context) -> tuple[Tensor, Tensor]:
        moved, log_slope = self._map.to_value(noise[self._b], self.net(noise[self._a], context))
        return self._joined(noise, moved), log_slope.sum(dim=0)

    def _joined(self, whole: Tensor, moved: Tensor) -> Tensor:
        joined = whole.clone()
        joined[self._b] = moved
        return joined


class Permutation(Layer):
    """noise_i = value_order[i]. Raises `SettingsError` where an index is missing or occurs twice."""

    order: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        if order.ndim != 1 or sorted(order.tolist()) != list(range(len(order))):
            raise SettingsError(f"order must have each of 0, 1, ..., d - 1 once, got {order.tolist()}.")
        self.register_buffer("order", order)

    def to_noise(self, value: Value, context: Context) -> tuple[Tensor, Tensor]:
        return value[self.order], value.new_zeros(())

    def to_value(self, noise: Value, context: Context) -> tuple[Tensor, Tensor]:
        return noise[torch.argsort(self.order)], noise.new_zeros(())


def affine_autoregressive(d: int, context: int, width: int) -> Layer:
    """An autoregressive layer of affine maps."""
    return Autoregressive(d, context, width, Affine())


def spline_autoregressive(d: int, context: int, width: int) -> Layer:
    """An autoregressive layer of rational-quadratic splines."""
    return Autoregressive(d, context, width, Spline())


def affine_coupling(d: int, context: int, width: int, flip: bool) -> Layer:
    """A coupling layer of affine maps with bounded scales."""
    return Coupling(d, context, width, BoundedAffine(), flip)


def spline_coupling(d: int, context: int, width: int, flip: bool) -> Layer:
    """A coupling layer of rational-quadratic splines, their logits tempered by the width of the network."""
    return Coupling(d, context, width, Spline(temper=width**-0.5), flip)
