"""The only file that imports nflows: the networks inside the layers, each with one residual block.

    masked      h = W_0 v + b_0 + silu(W_c c + b_c)
                h <- h + W_2 silu(W_1 silu(h) + b_1 + W_d c + b_d) + b_2,                 W h + b
    residual    h = W_0 (v, c) + b_0
                h <- h + (W_2 silu(W_1 silu(h) + b_1) + b_2) sigmoid(W_d c + b_d),        W h + b

nflows (PyPI 0.14) gives the modules and their starting weights; `flows.masked` and `flows.networks` evaluate
them. Only `nflows.transforms.made` and `nflows.nn.nets` are used: `nflows.flows` and `nflows.distributions`
import matplotlib.

Degrees. An input i = 1, ..., d has degree i. nflows gives hidden units the degrees 1, ..., d - 1; the
parameters of component 1, which only units of degree 0 may feed, are then constants that the context never
reaches. Here hidden units have the degrees 0, ..., d - 1.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from nflows.nn.nets import ResidualNet
from nflows.transforms.made import MADE
from torch import Tensor, nn


def masked(d: int, context: int, width: int, start: tuple[float, ...]) -> Any:
    """A network for d components, len(start) parameters each: those of component i depend on the context and
    on components 1, ..., i - 1.

    Its hidden units are sorted by degree, in groups as equal as can be (`units_of`); with fewer than d units
    some degrees have none. The masks are not part of the state: they follow from d and `width`.
    """
    net = MADE(d, width, context, num_blocks=1, output_multiplier=len(start), activation=nn.functional.silu)
    inputs, outputs = torch.arange(1, d + 1), torch.arange(1, d + 1).repeat_interleave(len(start))
    units = torch.repeat_interleave(
        torch.arange(d), torch.tensor([s.stop - s.start for s in units_of(d, width)])
    )
    _mask(net.initial_layer, units[:, None] >= inputs, units)
    for layer in net.blocks[0].linear_layers:
        _mask(layer, units[:, None] >= units, units)
    _mask(net.final_layer, outputs[:, None] > units, outputs)
    _start(net.final_layer, start)
    return net


def residual(inputs: int, context: int, width: int, moved: int, start: tuple[float, ...]) -> Any:
    """A network of `inputs` components and the context, for len(start) parameters of `moved` others."""
    outputs, silu = moved * len(start), nn.functional.silu
    net = ResidualNet(inputs, outputs, width, context_features=context, num_blocks=1, activation=silu)
    _start(net.final_layer, start)
    return net


def units_of(d: int, width: int) -> list[slice]:
    """The hidden units of degree 0, ..., d - 1."""
    ends = [-(-degree * width // d) for degree in range(d + 1)]
    return [slice(begin, end) for begin, end in pairwise(ends)]


def _mask(layer: Any, mask: Tensor, degrees: Tensor) -> None:
    layer.register_buffer("mask", mask.to(layer.weight.dtype), persistent=False)
    layer.register_buffer("degrees", degrees, persistent=False)


def _start(final: nn.Linear, start: tuple[float, ...]) -> None:
    with torch.no_grad():
        final.weight.mul_(0.01)
        final.bias.copy_(torch.tensor(start).repeat(len(final.bias) // len(start)))
