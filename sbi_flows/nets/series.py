"""The summary networks of series: convolutions along time, mean and standard deviation over time, and a
vector network; for complete series of one length, and for series of any length with gaps.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.nets.masks import observed
from sbi_flows.nets.memory import Memory
from sbi_flows.nets.vector import VectorSummary

_CHANNELS, _KERNELS, _CLOCKS = (16, 32, 64), (5, 3, 3), 2
_MOST_PAIRED = 8


class SeriesSummary(nn.Module):
    """Three convolutions; mean and sd over time; perceptron; plus a `VectorSummary` of all values.
    (rows, T, c) -> (rows, summary_features).

    The pooled part is blind to where in the series something happens; the vector part sees that.
    """

    def __init__(self, length: int, channels: int, summary_features: int, width: int) -> None:
        super().__init__()
        self.direct = VectorSummary(length * channels, summary_features, width)
        narrow, middle, wide = _CHANNELS
        self.convolutions = nn.Sequential(
            nn.Conv1d(channels, narrow, 5, padding=2),
            nn.ReLU(),
            Pooling(),
            nn.Conv1d(narrow, middle, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(middle, wide, 3, padding=1),
            nn.ReLU(),
        )
        self.norm = nn.LayerNorm(2 * wide)
        self.head = nn.Sequential(
            nn.Linear(2 * wide, 2 * width), nn.ReLU(), nn.Linear(2 * width, summary_features)
        )

    def forward(self, y: Float[Tensor, "rows T c"]) -> Float[Tensor, "rows features"]:
        h = self.convolutions(y.transpose(1, 2))
        mean = h.mean(dim=-1)
        sd = (h - mean[..., None]).square().mean(dim=-1).add(1e-6).sqrt()
        out: Tensor = self.head(self.norm(torch.cat([mean, sd], dim=-1))) + self.direct(y.flatten(1))
        return out


class Pooling(nn.Module):
    """Nothing; in networks from older files, whose state has no `pooled`, max-pooling over 2 steps."""

    pooled: Tensor
    start = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pooled", torch.tensor(self.start))

    def forward(self, h: Float[Tensor, "rows c T"]) -> Float[Tensor, "rows c t"]:
        return nn.functional.max_pool1d(h, 2) if self.pooled else h

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state_dict.setdefault(f"{prefix}pooled", torch.tensor(True))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class MaskedSeries(nn.Module):
    """Convolutions along values, masks and a memory of the past; mean and log sd of them over the observed
    steps; these and a few numbers of the whole series into a vector network.
    (rows, T, c) -> (rows, summary_features), for any T; NaN where nothing was observed.

    The series ends with its last observed value: NaN after it change nothing. A step counts as observed
    where a channel is. No weight depends on T, which is seen as a number, as is how many steps were observed.
    """

    def __init__(self, channels: int, summary_features: int, width: int) -> None:
        super().__init__()
        self.memory = Memory()
        self.convolutions = nn.ModuleList()
        inputs = (2 + 2 * Memory.averages) * channels + _CLOCKS
        for outputs, kernel in zip(_CHANNELS, _KERNELS, strict=True):
            self.convolutions.append(nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2))
            inputs = outputs
        self.norm = nn.LayerNorm(2 * inputs)
        self.paired = channels if channels <= _MOST_PAIRED else 1
        numbers = 4 * (channels + 1) + self.paired * (self.paired - 1) // 2
        self.head = VectorSummary(2 * inputs + numbers, summary_features, width)

    def forward(self, y: Float[Tensor, "rows T c"]) -> Float[Tensor, "rows features"]:
        value, mask = observed(y.mT)
        seen = mask.amax(dim=1, keepdim=True)
        inside = seen.flip(-1).cummax(dim=-1).values.flip(-1)
        average, known = self.memory(value, mask)
        innovation = (value[:, :, None] - average) * mask[:, :, None]
        clock = torch.cat(_clock(inside), dim=1)
        h = torch.cat([value, mask, innovation.flatten(1, 2), known.flatten(1, 2), clock], dim=1) * inside
        for layer in self.convolutions:
            h = layer(h).relu() * inside
        pooled = self.norm(torch.cat(_moments(h, seen), dim=1))
        products = _products(value[:, : self.paired], mask[:, : self.paired])
        out: Tensor = self.head(torch.cat([pooled, products, *_of_the_whole(value, mask)], dim=1))
        return out


def _products(
    value: Float[Tensor, "rows c T"], mask: Float[Tensor, "rows c T"]
) -> Float[Tensor, "rows pairs"]:
    """Mean products of two channels over the steps at which both are there."""
    i, j = torch.triu_indices(value.shape[1], value.shape[1], 1, device=value.device)
    both = mask[:, i] * mask[:, j]
    return (value[:, i] * value[:, j]).sum(dim=-1) / both.sum(dim=-1).clamp(min=1)


def _clock(inside: Float[Tensor, "rows 1 T"]) -> tuple[Tensor, Tensor]:
    """When a step is: the steps since the start, on a log scale, and their share of the series."""
    steps = torch.arange(inside.shape[-1], dtype=inside.dtype, device=inside.device)
    return steps.log1p() / 4 * inside, steps / inside.sum(dim=-1, keepdim=True).clamp(min=1) * inside


def _moments(h: Float[Tensor, "rows k T"], weight: Float[Tensor, "rows #k T"]) -> tuple[Tensor, Tensor]:
    """Mean and log sd over the steps of weight 1; of nothing 0 and the least log sd."""
    n = weight.sum(dim=-1).clamp(min=1)
    mean = (h * weight).sum(dim=-1) / n
    variance = ((h - mean[..., None]).square() * weight).sum(dim=-1) / n
    return mean, variance.add(1e-6).log() / 2


def _of_the_whole(value: Float[Tensor, "rows c T"], mask: Float[Tensor, "rows c T"]) -> list[Tensor]:
    """Four numbers for each channel: first and last observed value, mean and log sd; and four for the series:
    its length and number of observed steps (logarithms), their ratio, and 1 / sqrt(their number).
    """
    seen = mask.amax(dim=1)
    steps = torch.arange(1, seen.shape[-1] + 1, dtype=seen.dtype, device=seen.device)
    length, n = (seen * steps).amax(dim=-1, keepdim=True), seen.sum(dim=-1, keepdim=True)
    first, last = (
        value.gather(-1, place.argmax(dim=-1, keepdim=True))[..., 0] for place in (mask, mask * steps)
    )
    sizes = [length.log1p() / 2 - 2, n.log1p() / 2 - 2, n / length.clamp(min=1), (n + 1).rsqrt()]
    return [first, last, *_moments(value, mask), *sizes]
