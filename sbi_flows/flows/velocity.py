"""The network of a velocity field F(x, eta; c), and its derivative along directions of x.

    F       = G + D silu(h)
    h_0     = A x + B_0 c + C_0 f(eta)
    h_j + 1 = h_j + V_j silu(W_j silu(h_j) + B_j c + C_j f(eta))

f(eta) are sines and cosines of low frequency. What depends on the context or on the time alone is computed
once per context and once per time. G is what F would be if the value were N(m(c), diag s(c)^2),

    G = sigma m + alpha sigma (s^2 - 1) / (alpha^2 s^2 + sigma^2) (x - alpha m),    alpha^2 + sigma^2 = 1

with m and log s linear in the context, |log s| < 8. They and D start at zero, and so does F.

Derivatives are carried forward by hand: along a direction w, silu(a) has the derivative silu'(a) a_w. Each
direction costs as much as the value itself, and no graph is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from sbi_flows.flows.networks import affine_of, column

_FREQUENCIES, MAX_LOG_SCALE = 6, 8.0


class Given(NamedTuple):
    """m (d, *rows), s^2 (d, *rows), and B c of all layers (o, *rows)."""

    m: Tensor
    s_squared: Tensor
    offsets: Tensor


class VelocityNet(nn.Module):
    """F(x, eta; c) with components first. All rows may share one time, and rows along an axis one context."""

    def __init__(self, d: int, context: int, width: int, blocks: int, end: float) -> None:
        super().__init__()
        self.end = end
        self.gaussian = nn.Linear(context, 2 * d)
        self.into = nn.Linear(d, width)
        self.of_context = nn.Linear(context, width * (1 + blocks), bias=False)
        self.of_time = nn.Linear(1 + 2 * _FREQUENCIES, width * (1 + blocks))
        self.one = nn.ModuleList([nn.Linear(width, width, bias=False) for _ in range(blocks)])
        self.two = nn.ModuleList([nn.Linear(width, width) for _ in range(blocks)])
        self.out = nn.Linear(width, d)
        for zero in (*self.gaussian.parameters(), *self.out.parameters()):
            nn.init.zeros_(zero)

    def given(self, context: Float[Tensor, "k *rows"]) -> Given:
        """What depends on the context alone."""
        m, raw = affine_of(self.gaussian, context).chunk(2)
        log_s = MAX_LOG_SCALE * torch.tanh(raw / MAX_LOG_SCALE)
        return Given(m, torch.exp(2 * log_s), torch.tensordot(self.of_context.weight, context, 1))

    def forward(
        self, x: Float[Tensor, "d j *rows"], eta: Float[Tensor, "*#rows"], given: Given
    ) -> Float[Tensor, "d j *rows"]:
        """F at x[:, 0], and its derivatives along the directions x[:, 1:]."""
        first, *rest = (given.offsets + self._of_time(eta)).split(self.into.out_features)
        h = _linear(self.into.weight, x, first + column(self.into.bias, first))
        blocks = cast("Iterable[tuple[nn.Linear, nn.Linear]]", zip(self.one, self.two, strict=True))
        for (one, two), offset in zip(blocks, rest, strict=True):
            z = _linear(one.weight, _silu(h), offset)
            h = h + _linear(two.weight, _silu(z), column(two.bias, offset))
        found = _linear(self.out.weight, _silu(h), column(self.out.bias, first))
        sigma, alpha = 1 / torch.cosh(eta), torch.tanh(eta)
        slope = alpha * sigma * (given.s_squared - 1) / (alpha.square() * given.s_squared + sigma.square())
        found[:, 0] += given.m * (sigma - alpha * slope)
        return torch.addcmul(found, slope[:, None], x)

    def _of_time(self, eta: Float[Tensor, " *rows"]) -> Float[Tensor, "o *rows"]:
        """C f(eta) of all layers."""
        share = eta[None] / self.end
        angles = math.pi * share * column(torch.arange(1, _FREQUENCIES + 1).to(eta), share)
        return affine_of(self.of_time, torch.cat([2 * share - 1, torch.sin(angles), torch.cos(angles)]))


def _linear(weight: Tensor, x: Tensor, offset: Tensor) -> Tensor:
    """weight x + offset; directions have no offset."""
    found: Tensor = torch.tensordot(weight, x, 1)
    found[:, 0] += offset
    return found


def _silu(a: Tensor) -> Tensor:
    if a.shape[1] == 1:
        return silu(a)
    gate = torch.sigmoid(a[:, :1])
    value = a[:, :1] * gate
    return torch.cat([value, (gate + value * (1 - gate)) * a[:, 1:]], dim=1)
