"""The summary network of grids: convolutions in space, and where on the grid they respond.

    h    = residual convolutions, the first with a stride and a large kernel
    at_k = sum_p w_kp (p, p^2, V h_p),   w_k = softmax_p(a_k . h_p),   p the places, for each head k
    s(y) = W z + MLP(z),   z = (at_k, log sum_p exp(a_k . h_p), mean and log sd of h, a coarse map of h)

A head is the expectation under a distribution over places: where something is, how well that is known, and
what stands there (Levine et al. 2016, 1504.00702). It is the same wherever on the grid that is, so few
simulations teach it; the coarse map also tells what lies at places of a meaning of their own. The log of the
posterior of a place is itself a smooth map of the data, and a large first kernel smooths at little cost.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.nets.masks import observed
from sbi_flows.nets.vector import VectorSummary

_CONVOLUTION: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_POOL: dict[int, Any] = {1: nn.functional.adaptive_avg_pool1d, 2: nn.functional.adaptive_avg_pool2d,
         3: nn.functional.adaptive_avg_pool3d}  # fmt: skip
_MOST_PLACES = {1: 64, 2: 16, 3: 8}
_REACH = {1: 2, 2: 2, 3: 1}
_MOST_COARSE = {1: 16, 2: 4, 3: 3}
_CHANNELS, _BLOCKS = 16, 2
_HEADS, _SQUEEZED = 8, 4
_SHARPNESS = 4.0


class GridSummary(nn.Module):
    """One to three axes, channels last. (rows, P, c) with P the product of axes -> (rows, summary_features);
    NaN where nothing was observed.

    Long axes are strided to at most 64, 16 x 16 or 8 x 8 x 8 places.
    """

    places: Tensor

    def __init__(self, axes: tuple[int, ...], channels: int, summary_features: int, width: int) -> None:
        super().__init__()
        self.axes, k = tuple(axes), len(axes)
        strides = [-(-n // _MOST_PLACES[k]) for n in axes]
        shape = tuple((n - 1) // stride + 1 for n, stride in zip(axes, strides, strict=True))
        convolution = _CONVOLUTION[k]
        reach = [min(_REACH[k] * stride, n - 1) for n, stride in zip(axes, strides, strict=True)]
        self.first = convolution(
            2 * channels,
            _CHANNELS,
            tuple(2 * r + 1 for r in reach),
            stride=tuple(strides),
            padding=tuple(reach),
        )
        self.convolutions = nn.ModuleList(
            [convolution(_CHANNELS, _CHANNELS, 3, padding=1) for _ in range(_BLOCKS)]
        )
        self.last = nn.Conv1d(_CHANNELS, 2 * _HEADS + _SQUEEZED, 1)
        self.register_buffer("places", _places(shape), persistent=False)
        self.coarse = tuple(min(n, _MOST_COARSE[k]) for n in shape)
        self.norm = nn.LayerNorm(2 * _CHANNELS)
        numbers = 2 * _CHANNELS + _HEADS * (2 * k + _HEADS + 1) + _SQUEEZED * math.prod(self.coarse)
        self.head = VectorSummary(numbers + 2 * channels, summary_features, width)

    def forward(self, y: Float[Tensor, "rows places c"]) -> Float[Tensor, "rows features"]:
        value, mask = observed(y)
        h = torch.cat([value.mT, mask.mT], dim=1).unflatten(-1, self.axes)
        h = nn.functional.silu(self.first(h))
        for convolution in self.convolutions:
            h = h + nn.functional.silu(convolution(h))
        shape, flat = h.shape[2:], h.flatten(2)
        mean = flat.mean(dim=-1)
        square = (flat - mean[..., None]).square().mean(dim=-1)
        scores, values, map_ = self.last(flat).split([_HEADS, _HEADS, _SQUEEZED], dim=1)
        coarse = _POOL[len(shape)](map_.unflatten(-1, shape), self.coarse).flatten(1)
        share = mask.mean(dim=1)
        of_all = value.sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        pooled = self.norm(torch.cat([mean, (square + 1e-6).log() / 2], dim=-1))
        out: Tensor = self.head(
            torch.cat([pooled, self._where(scores, values), coarse, share, of_all], dim=-1)
        )
        return out

    def _where(
        self, scores: Float[Tensor, "rows heads places"], values: Float[Tensor, "rows values places"]
    ) -> Float[Tensor, "rows numbers"]:
        """Of each head the expectation of the coordinates, of their squares and of the values, and the log of
        the mean weight.
        """
        total = (_SHARPNESS * scores).logsumexp(dim=-1, keepdim=True)
        weights = (_SHARPNESS * scores - total).exp()
        at = torch.cat([weights @ self.places.to(scores.dtype), weights @ values.mT], dim=-1)
        return torch.cat([at.flatten(1), total[..., 0] - math.log(scores.shape[-1])], dim=1)


def _places(shape: tuple[int, ...]) -> Float[Tensor, "places k"]:
    """Coordinates in [-1, 1] and their squares, one row for each place."""
    lines = [torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in shape]
    at = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1).reshape(-1, len(shape))
    return torch.cat([at, at.square()], dim=1)
