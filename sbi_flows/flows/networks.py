"""Networks evaluated with components first, (features, *rows), and the context's part once per context: the
residual network of coupling layers, made by `flows.bridge`, and the products of it and the masked network.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from sbi_flows.flows.bridge import residual

Context = Float[Tensor, "k *#rows"]


class ResidualNet(nn.Module):
    """(value, context) -> p parameters of each of `moved` components."""

    def __init__(self, inputs: int, context: int, width: int, moved: int, start: tuple[float, ...]) -> None:
        super().__init__()
        self.inputs, self.moved, self.p = inputs, moved, len(start)
        net = residual(inputs, context, width, moved, start)
        self.into, self.out = net.initial_layer, net.final_layer
        self.one, self.two = net.blocks[0].linear_layers
        self.context_gate = net.blocks[0].context_layer

    def forward(self, value: Float[Tensor, "i *rows"], context: Context) -> Float[Tensor, "moved p *rows"]:
        sizes = [self.inputs, self.into.in_features - self.inputs]
        of_value, of_context = self.into.weight.split(sizes, dim=1)
        h = affine(of_value, value, affine(of_context, context, column(self.into.bias, context)))
        z = affine_of(self.two, silu(affine_of(self.one, silu(h))))
        h = torch.addcmul(h, z, torch.sigmoid(affine_of(self.context_gate, context)))
        return affine_of(self.out, h).view(self.moved, self.p, *value.shape[1:])


def affine(
    weight: Float[Tensor, "o i"], x: Float[Tensor, "i *rows"], offset: Float[Tensor, "o *#rows"]
) -> Float[Tensor, "o *rows"]:
    """weight x + offset."""
    if x.ndim == 2:
        return torch.addmm(offset, weight, x)
    rows = x.shape[1:]
    return torch.mm(weight, x.reshape(len(x), rows.numel())).view(len(weight), *rows).add_(offset)


def affine_of(layer: nn.Linear, x: Float[Tensor, "i *rows"]) -> Float[Tensor, "o *rows"]:
    """W x + b."""
    return affine(layer.weight, x, column(layer.bias, x))


def column(bias: Float[Tensor, " o"], like: Tensor) -> Tensor:
    """The bias with as many axes as `like`."""
    return bias.view(-1, *(1,) * (like.ndim - 1))
