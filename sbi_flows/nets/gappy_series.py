"""The summary network of series with gaps, of any length.

    x_t = (v_t, m_t, v_t - v_b, log(t - b)),   b the last step before t with a value
    h   = convolutions of x along time, dilated by 1, 2, 4
    s(y) = W z + MLP(z),   z = (mean and sd of h over the steps that are there; h at the first and the last
                                one; mean, log variance, log mean square of v_t - v_{t-k} for k = 1, 2, 4, 8,
                                mean products of channels; n)

v is the value, 0 where it is missing, and m says whether it is there. Convolutions see which of their steps
are missing; differences reach over gaps. The moments are given to the network, because a posterior needs them
more exactly than convolutions learn them. No weight depends on the length, and what lies behind the last
value changes nothing.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sbi_flows.nets.masks import masked_mean, observed
from sbi_flows.nets.vector import VectorSummary

_NARROW, _WIDE = 32, 64
_DILATIONS = (1, 2, 4)
_LAGS = (1, 2, 4, 8)
_LEAST = 1e-4
_MOST_PAIRED = 8
_TYPICAL_LENGTH = 50.0


class MaskedSeries(nn.Module):
    """(rows, T, c), NaN where nothing was observed -> (rows, summary_features), for any T."""

    def __init__(self, channels: int, summary_features: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(4 * channels, _NARROW, 5, padding=2)
        self.convolutions = nn.ModuleList(
            [nn.Conv1d(_NARROW, _NARROW, 3, padding=dilation, dilation=dilation) for dilation in _DILATIONS]
        )
        self.last = nn.Conv1d(_NARROW, _WIDE, 1)
        self.norm = nn.LayerNorm(2 * _WIDE)
        self.paired = channels if channels <= _MOST_PAIRED else 1
        moments = channels * (2 + 2 * len(_LAGS)) + self.paired * (self.paired - 1) // 2 + 4
        self.head = VectorSummary(4 * _WIDE + moments, summary_features, width)

    def forward(self, y: Float[Tensor, "rows T c"]) -> Float[Tensor, "rows features"]:
        value, mask = observed(y)
        there = mask.amax(dim=-1)
        inside = there.flip(1).cummax(dim=1).values.flip(1)[:, None]
        h = torch.relu(self.first(_across_gaps(value, mask).transpose(1, 2))) * inside
        for convolution in self.convolutions:
            h = (h + torch.relu(convolution(h))) * inside
        h = torch.relu(self.last(h)).transpose(1, 2)
        mean = masked_mean(h, there[..., None])
        sd = (masked_mean((h - mean[:, None]).square(), there[..., None]) + 1e-6).sqrt()
        pooled = self.norm(torch.cat([mean, sd], dim=-1))
        paired = slice(0, self.paired)
        products = _products(value[..., paired], mask[..., paired])
        z = [pooled, *_ends(h, there > 0), _moments(value, mask), products, _numbers(there)]
        out: Tensor = self.head(torch.cat(z, dim=-1))
        return out


def _across_gaps(
    value: Float[Tensor, "rows T c"], mask: Float[Tensor, "rows T c"]
) -> Float[Tensor, "rows T features"]:
    """x_t: value, mask, and the difference from the last value before, with the log of how long ago it
    was.
    """
    steps = torch.arange(value.shape[1], device=value.device)[:, None].expand(value.shape)
    last = torch.where(mask > 0, steps, -1).cummax(dim=1).values
    before = torch.cat([torch.full_like(last[:, :1], -1), last[:, :-1]], dim=1)
    known = (mask > 0) & (before >= 0)
    difference = torch.where(known, value - value.gather(1, before.clamp(min=0)), 0.0)
    ago = torch.where(known, (steps - before).to(value.dtype).log(), 0.0)
    return torch.cat([value, mask, difference, ago], dim=-1)


def _ends(
    h: Float[Tensor, "rows T k"], there: Bool[Tensor, "rows T"]
) -> tuple[Float[Tensor, "rows k"], Float[Tensor, "rows k"]]:
    """h at the first and at the last step that is there; 0 where none is."""
    steps, any_there = torch.arange(h.shape[1], device=h.device), there.any(dim=1)
    last = torch.where(there, steps, -1).amax(dim=1).clamp(min=0)
    first = torch.where(there, steps, h.shape[1]).amin(dim=1).clamp(max=h.shape[1] - 1)
    rows = torch.arange(len(h), device=h.device)
    found = (h[rows, place] * any_there[:, None] for place in (first, last))
    return next(found), next(found)


def _moments(
    value: Float[Tensor, "rows T c"], mask: Float[Tensor, "rows T c"]
) -> Float[Tensor, "rows moments"]:
    """Mean, log variance and log mean squares of lagged differences, channel by channel; and whether a lag
    has any pair.
    """
    mean = masked_mean(value, mask)
    variance = masked_mean((value - mean[:, None]).square(), mask)
    parts = [mean, (variance + _LEAST).log()]
    for lag in _LAGS:
        if lag < value.shape[1]:
            both = mask[:, lag:] * mask[:, :-lag]
            squares = masked_mean((value[:, lag:] - value[:, :-lag]).square(), both)
            known = (both.sum(dim=1) > 0).to(value.dtype)
        else:
            squares = known = torch.zeros_like(mean)
        parts += [(squares + _LEAST).log() * known, known]
    return torch.cat(parts, dim=-1)


def _products(
    value: Float[Tensor, "rows T c"], mask: Float[Tensor, "rows T c"]
) -> Float[Tensor, "rows pairs"]:
    """Mean products of two channels over the steps at which both are there."""
    i, j = torch.triu_indices(value.shape[-1], value.shape[-1], 1, device=value.device)
    return masked_mean(value[..., i] * value[..., j], mask[..., i] * mask[..., j])


def _numbers(there: Float[Tensor, "rows T"]) -> Float[Tensor, "rows 4"]:
    """How many steps are there, and over how many they spread, as numbers of the order of 1."""
    n = there.sum(dim=1)
    spread = there.flip(1).cummax(dim=1).values.sum(dim=1)
    least = n.clamp(min=1.0)
    parts = [(least / _TYPICAL_LENGTH).log(), least.rsqrt(), n / spread.clamp(min=1.0), (n < 0.5).to(n.dtype)]
    return torch.stack(parts, dim=1)
