"""The summary network of grids: convolutions in space, and where on the grid they respond.

    h     = convolutions of (v, m, places), residual, at full and at half resolution
    where = sum_p softmax(a h_k)(p) p, and its spread: of each channel k, the place where it responds
    s(y)  = W z + MLP(z),   z = (mean and sd of h, where, a coarse map of h)

v is the value, 0 where it is missing, m says whether it is there, and places are the coordinates in [-1, 1].
The mean place of a softmax (Levine et al. 2016, 1504.00702) tells where something is more exactly than a
coarse map does.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.nets.masks import observed
from sbi_flows.nets.vector import VectorSummary

_NARROW, _WIDE = 16, 32
_COARSE = {1: 16, 2: 4, 3: 2}
_LARGE = {1: 64, 2: 24, 3: 12}


class GridSummary(nn.Module):
    """One to three axes. (rows, places, c), NaN where nothing was observed -> (rows, summary_features)."""

    places: Tensor
    halved: Tensor

    def __init__(self, axes: tuple[int, ...], channels: int, summary_features: int, width: int) -> None:
        super().__init__()
        k = len(axes)
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[k - 1]
        self.axes = axes
        self.stride = 2 if max(axes) >= _LARGE[k] else 1
        kernel, padding = (4, 1) if self.stride == 2 else (3, 1)
        self.first = conv(2 * channels + k, _NARROW, kernel, stride=self.stride, padding=padding)
        self.convolutions = nn.ModuleList([conv(_NARROW, _NARROW, 3, padding=1) for _ in range(2)])
        self.last = conv(_NARROW, _WIDE, 1)
        self.sharpness = nn.Parameter(torch.zeros(_WIDE))
        self.register_buffer("places", _places(axes), persistent=False)
        shape = tuple((n + 2 * padding - kernel) // self.stride + 1 for n in axes)
        self.register_buffer("halved", _places(shape), persistent=False)
        self.coarse = tuple(min(n, _COARSE[k]) for n in shape)
        self.pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[k - 1](self.coarse)
        inputs = _WIDE * (2 + 2 * k + math.prod(self.coarse)) + 2 * channels
        self.norm = nn.LayerNorm(2 * _WIDE)
        self.head = VectorSummary(inputs, summary_features, width)

    def forward(self, y: Float[Tensor, "rows places c"]) -> Float[Tensor, "rows features"]:
        value, mask = observed(y)
        places = self.places.to(y.dtype).expand(len(y), *self.places.shape)
        x = torch.cat([value, mask, places], dim=-1).transpose(1, 2)
        h = torch.relu(self.first(x.reshape(len(y), -1, *self.axes)))
        for convolution in self.convolutions:
            h = h + torch.relu(convolution(h))
        h = torch.relu(self.last(h))
        flat = h.flatten(2)
        pooled = self.norm(torch.cat([flat.mean(dim=-1), (flat.var(dim=-1) + 1e-6).sqrt()], dim=-1))
        share = mask.mean(dim=1)
        mean = value.sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
        out: Tensor = self.head(
            torch.cat([pooled, self._where(flat), self.pool(h).flatten(1), share, mean], dim=-1)
        )
        return out

    def _where(self, flat: Float[Tensor, "rows k places"]) -> Float[Tensor, "rows features"]:
        """Mean and log sd of the place at which each channel responds."""
        weights = (flat * self.sharpness.exp()[:, None]).softmax(dim=-1)
        at = self.halved.to(flat.dtype)
        mean = weights @ at
        variance = (weights @ at.square() - mean.square()).clamp(min=1e-6)
        return torch.cat([mean.flatten(1), 0.5 * variance.log().flatten(1)], dim=-1)


def _places(axes: tuple[int, ...]) -> Float[Tensor, "places k"]:
    """Coordinates in [-1, 1], one row for each place."""
    lines = [torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in axes]
    return torch.stack([part.flatten() for part in torch.meshgrid(*lines, indexing="ij")], dim=-1)
