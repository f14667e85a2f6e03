"""The triangular step of a full-rank Gaussian: value = L(c) noise, L lower triangular with ones on its
diagonal, linear in the context.

Its determinant is 1. With the conditional affine layer, which shifts and scales, value = m(c) + diag(s(c))
L(c) noise: a Gaussian whose Cholesky factor is diag(s) L.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.flows.layers import Context, Layer, Value
from sbi_flows.flows.networks import affine_of


class Triangular(Layer):
    """noise = L(c)^-1 value. Starts at the identity; both directions cost one pass."""

    def __init__(self, d: int, context: int) -> None:
        super().__init__()
        self.d = d
        self.below = nn.Linear(context, d * (d - 1) // 2)
        nn.init.zeros_(self.below.weight)
        nn.init.zeros_(self.below.bias)
        self._rows = [slice(i * (i - 1) // 2, i * (i + 1) // 2) for i in range(d)]

    @torch.no_grad()
    def fix(self, lower: Float[Tensor, "d d"]) -> None:
        """Set L to a constant; of `lower` what lies below the diagonal is taken."""
        self.below.weight.zero_()
        self.below.bias.copy_(torch.cat([lower[i, :i] for i in range(self.d)]))

    def to_noise(self, value: Value, context: Context) -> tuple[Tensor, Tensor]:
        below = affine_of(self.below, context)
        noise = value[:1]
        for i in range(1, self.d):
            shift = (below[self._rows[i]] * noise).sum(dim=0, keepdim=True)
            noise = torch.cat([noise, value[i : i + 1] - shift])
        return noise, value.new_zeros(())

    def to_value(self, noise: Value, context: Context) -> tuple[Tensor, Tensor]:
        below = affine_of(self.below, context)
        moved = [noise[:1]]
        for i in range(1, self.d):
            shift = (below[self._rows[i]] * noise[:i]).sum(dim=0, keepdim=True)
            moved.append(noise[i : i + 1] + shift)
        return torch.cat(moved), noise.new_zeros(())
