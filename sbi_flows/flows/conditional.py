"""The conditional flow q(value | context): one class for q(theta | y) and for q(z | x).

    noise = T(value; c),   noise ~ N(0, I):     log q(value | c) = log N(T(value; c); 0, I) + log |det dT/dvalue|

T is a conditional affine layer followed by the layers of a recipe (`flows.recipes`). Papamakarios et al. (2021), 1912.02762.
Directions are called `to_noise` and `to_value`; `cheap` says which of "density" and "sample" costs one pass a layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.errors import ShapeError
from sbi_flows.flows.bridge import Layer

_LOG_2PI = math.log(2 * math.pi)
_MAX_LOG_SCALE = 8.0


class ConditionalAffine(Layer):
    """noise = (value - m(c)) exp(-s(c)), with m and s linear in the context, |s| < 8. Starts at the identity."""

    def __init__(self, d: int, context: int) -> None:
        super().__init__()
        self._linear = nn.Linear(context, 2 * d)
        nn.init.zeros_(self._linear.weight)
        nn.init.zeros_(self._linear.bias)

    def _shift_and_log_scale(self, context: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = self._linear(context).chunk(2, dim=-1)
        return shift, _MAX_LOG_SCALE * torch.tanh(raw / _MAX_LOG_SCALE)

    def to_noise(self, value: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._shift_and_log_scale(context)
        return (value - shift) * torch.exp(-log_scale), -log_scale.sum(dim=-1)

    def to_value(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._shift_and_log_scale(context)
        return noise * torch.exp(log_scale) + shift, log_scale.sum(dim=-1)


class ConditionalFlow(nn.Module):
    """q(value | context) over R^d. context has shape (rows, k); k may be 0, where context is (rows, 0)."""

    def __init__(self, d: int, context: int, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.d = d
        self.context = context
        self.layers = nn.ModuleList([ConditionalAffine(d, context), *layers])
        self.cheap: frozenset[str] = frozenset.intersection(*(layer.cheap for layer in layers), frozenset({"density", "sample"}))

    def to_noise(
        self, value: Float[Tensor, "rows d"], context: Float[Tensor, "rows k"]
    ) -> tuple[Float[Tensor, "rows d"], Float[Tensor, " rows"]]:
        """noise = T(value; c) and log |det dT/dvalue|."""
        self._check(value, context)
        log_det = value.new_zeros(len(value))
        for layer in cast("Sequence[Layer]", self.layers):
            value, step = layer.to_noise(value, context)
            log_det = log_det + step
        return value, log_det

    def to_value(
        self, noise: Float[Tensor, "rows d"], context: Float[Tensor, "rows k"]
    ) -> tuple[Float[Tensor, "rows d"], Float[Tensor, " rows"]]:
        """value = T^-1(noise; c) and log |det dvalue/dnoise|."""
        self._check(noise, context)
        log_det = noise.new_zeros(len(noise))
        for layer in reversed(cast("Sequence[Layer]", self.layers)):
            noise, step = layer.to_value(noise, context)
            log_det = log_det + step
        return noise, log_det

    def log_prob(self, value: Float[Tensor, "rows d"], context: Float[Tensor, "rows k"]) -> Float[Tensor, " rows"]:
        """log q(value | context) in nats, one value a row of context."""
        noise, log_det = self.to_noise(value, context)
        return log_det - 0.5 * (noise.square().sum(dim=-1) + self.d * _LOG_2PI)

    def _check(self, value: Tensor, context: Tensor) -> None:
        if value.shape[1:] != (self.d,) or context.shape != (len(value), self.context):
            raise ShapeError(
                f"the flow takes values (rows, {self.d}) and contexts (rows, {self.context}), "
                f"got {tuple(value.shape)} and {tuple(context.shape)}."
            )
