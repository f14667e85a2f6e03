"""Planar steps: value = noise + u tanh(w . noise + b), with u, w and b linear in the context. Rezende &
Mohamed (2015), 1505.05770.

    det = 1 + psi . u,   psi = (1 - tanh^2(w . noise + b)) w

It is invertible if and only if w . u > -1. So u is replaced by u + (k - w . u) w / |w|^2, whose product with
w is k = softplus(w . u) - 0.999 > -1. The step has no inverse in closed form: the density of its own draws is
known, but not that of a value that comes from elsewhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from sbi_flows.errors import SettingsError
from sbi_flows.flows.layers import Context, Layer, Value
from sbi_flows.flows.networks import affine_of

_START = 0.1
_LEAST_SQUARE = 1e-12
_LEAST_DET = 1e-3


class Planar(Layer):
    """One planar step. Starts near the identity: w a random direction, b = 0, and w . u such that k = 0."""

    cheap = frozenset({"sample"})

    def __init__(self, d: int, context: int) -> None:
        super().__init__()
        self.d = d
        self.parameters_of = nn.Linear(context, 2 * d + 1)
        with torch.no_grad():
            self.parameters_of.weight.mul_(_START)
            w = torch.randn(d)
            w = w / w.norm()
            u = math.log(math.expm1(1 - _LEAST_DET)) * w
            self.parameters_of.bias.copy_(torch.cat([u, w, torch.zeros(1)]))

    def to_noise(self, value: Value, context: Context) -> tuple[Tensor, Tensor]:
        raise SettingsError(
            "planar steps have no inverse in closed form, so only the density of the flow's own draws is "
            "known. Use a 'coupling', 'iaf' or Gaussian flow for log_prob of given values."
        )

    def to_value(self, noise: Value, context: Context) -> tuple[Tensor, Tensor]:
        u, w, b = affine_of(self.parameters_of, context).split([self.d, self.d, 1])
        along = (w * u).sum(dim=0)
        product = softplus(along) - (1 - _LEAST_DET)
        u = u + (product - along) * w / w.square().sum(dim=0).clamp(min=_LEAST_SQUARE)
        bent = torch.tanh((w * noise).sum(dim=0) + b[0])
        return noise + u * bent, torch.log1p((1 - bent.square()) * product)
