"""Monotone maps of one component, whose parameters a network gives: the inside of autoregressive and coupling
layers.

A map takes values (c, *rows) and parameters (c, p, *rows), whose rows may have length 1 along an axis. It
gives the image and the log slope elementwise; the log slope may keep the parameters' rows.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

_LEAST_SCALE = 1e-3
_MAX_LOG_SCALE = 3.0

Values = Float[Tensor, "c *rows"]
Parameters = Float[Tensor, "c p *#rows"]


@runtime_checkable
class Elementwise(Protocol):
    """A monotone map."""

    @property
    def start(self) -> tuple[float, ...]:
        """The p parameters at which it is close to the identity."""

    def to_noise(self, value: Values, parameters: Parameters) -> tuple[Tensor, Tensor]: ...
    def to_value(self, noise: Values, parameters: Parameters) -> tuple[Tensor, Tensor]: ...
    def value(self, noise: Values, parameters: Parameters) -> Tensor:
        """The image alone, for draws without their density."""


class Affine:
    """noise = s value + m,   s = softplus(raw) + 1e-3."""

    start = (math.log(math.expm1(1.0)), 0.0)

    def to_noise(self, value: Values, parameters: Parameters) -> tuple[Tensor, Tensor]:
        scale = torch.nn.functional.softplus(parameters[:, 0]) + _LEAST_SCALE
        return torch.addcmul(parameters[:, 1], scale, value), torch.log(scale)

    def to_value(self, noise: Values, parameters: Parameters) -> tuple[Tensor, Tensor]:
        scale = torch.nn.functional.softplus(parameters[:, 0]) + _LEAST_SCALE
        return (noise - parameters[:, 1]) / scale, -torch.log(scale)

    def value(self, noise: Values, parameters: Parameters) -> Tensor:
        return self.to_value(noise, parameters)[0]


class BoundedAffine:
    """noise = (value - m) exp(-s),   s = 3 tanh(raw / 3)."""

    start = (0.0, 0.0)

    def to_noise(self, value: Values, parameters: Parameters) -> tuple[Tensor, Tensor]:
        log_scale = _MAX_LOG_SCALE * torch.tanh(parameters[:, 1] / _MAX_LOG_SCALE)
        return (value - parameters[:, 0]) * torch.exp(-log_scale), -log_scale

    def to_value(self, noise: Values, parameters: Parameters) -> tuple[Tensor, Tensor]:
        log_scale = _MAX_LOG_SCALE * torch.tanh(parameters[:, 1] / _MAX_LOG_SCALE)
        return noise * torch.exp(log_scale) + parameters[:, 0], log_scale

    def value(self, noise: Values, parameters: Parameters) -> Tensor:
        return self.to_value(noise, parameters)[0]
