"""The summary network of sets: exchangeable members, any number of which may be absent.

    h_i = phi(y_i, mask_i, (y_i - m) / sd)
    s(y) = W z + MLP(z),    z = (m, log sd, artanh r, mean_i h_i, max_i h_i, n)

m, sd and r are means, standard deviations and correlations of the channels over the members that are there,
and n is how many those are, as log n, 1 / sqrt(n) and more. Any continuous function of a set is of the form
rho(sum_i phi(y_i)): deep sets (Zaheer et al. 2017, 1703.06114). The first moments are given to the network,
because a posterior from n members needs them to within a share of sd / sqrt(n), more exactly than phi would
learn them; seen in the set's own location and scale, members look alike wherever the set lies.

Where what matters lies between members, attention takes the place of mean and maximum (`nets.attention`). It
costs five times as much a step, and is no better where members are independent given the parameters.

No member is told from another: s is the same in any order, and absent members change nothing.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sbi_flows.nets.attention import AttentivePooling
from sbi_flows.nets.masks import masked_mean, observed
from sbi_flows.nets.vector import VectorSummary

PoolingKind = Literal["deep", "attention"]

_LEAST_VARIANCE = 1e-10
_MOST_CORRELATED = 1 - 1e-6
_MOST_PAIRED = 8
_FURTHEST = 10.0
_LEAST_FEATURE_VARIANCE = 1e-6


class Numbers(nn.Module):
    """How many of at most `members` are there, as numbers of the order of 1: log n and 1 / sqrt(n), and
    whether n is 0, and 1. (rows, k) counts -> (rows, 4 k).
    """

    def __init__(self, members: int) -> None:
        super().__init__()
        self.half_log = max(math.log(members), 1.0) / 2

    def forward(self, n: Float[Tensor, "rows k"]) -> Float[Tensor, "rows features"]:
        least_one = n.clamp(min=1.0)
        parts = [
            (least_one.log() - self.half_log) / self.half_log,
            least_one.rsqrt(),
            n < 0.5,
            (n - 1).abs() < 0.5,
        ]
        return torch.cat([part.to(n.dtype) for part in parts], dim=-1)


class Pooling(nn.Module):
    """phi of each member, two residual blocks; its mean and its largest value over the members that are
    there. (rows, members, k), present (rows, members) -> (rows, 2 width).
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])

    def forward(
        self, x: Float[Tensor, "rows members k"], present: Bool[Tensor, "rows members"]
    ) -> Float[Tensor, "rows features"]:
        h = nn.functional.silu(self.first(x[present]))
        for block in self.blocks:
            h = h + nn.functional.silu(block(h))
        every = h.new_zeros((*x.shape[:2], h.shape[-1]))
        every[present] = h
        there = present[..., None]
        mean = masked_mean(every, there.to(h.dtype))
        largest = every.masked_fill(~there, -torch.inf).amax(dim=1)
        largest = largest.masked_fill(~present.any(dim=1, keepdim=True), 0.0)
        return torch.cat([mean, largest], dim=-1)


def _pooling(kind: PoolingKind, members: int, inputs: int, width: int) -> nn.Module:
    return AttentivePooling(members, inputs, width) if kind == "attention" else Pooling(inputs, width)


class SetSummary(nn.Module):
    """Moments and pooled features of the members, and a `VectorSummary` of them. (rows, N, c) -> (rows,
    summary_features).

    A member is absent where all its values are NaN; one that is there may have gaps. `members` is the usual
    largest N; the network takes any. pooling: "deep", each member by itself, or "attention", for what lies
    between members.
    """

    def __init__(
        self, members: int, channels: int, summary_features: int, width: int, *, pooling: PoolingKind = "deep"
    ) -> None:
        super().__init__()
        self.numbers = Numbers(members)
        self.pool = _pooling(pooling, members, 3 * channels, width)
        self.paired = channels if channels <= _MOST_PAIRED else 0
        moments = 2 * channels + self.paired * (self.paired - 1) // 2
        counted = 4 * (channels + 1 if channels > 1 else 1)
        self.head = VectorSummary(moments + counted + 2 * width, summary_features, width)

    def forward(self, y: Float[Tensor, "rows members c"]) -> Float[Tensor, "rows features"]:
        value, mask = observed(y)
        present = mask.any(dim=-1)
        mean = masked_mean(value, mask)
        deviation = (value - mean[:, None]) * mask
        counts = mask.sum(dim=1)
        variance = deviation.square().sum(dim=1) / (counts - 1).clamp(min=1.0) + _LEAST_VARIANCE
        inside = (deviation * variance.rsqrt()[:, None]).clamp(-_FURTHEST, _FURTHEST)
        pooled = self.pool(torch.cat([value, mask, inside], dim=-1), present)
        log_sd = torch.where(counts > 1, variance.log() / 2, 0.0)
        number = present.sum(dim=1, keepdim=True).to(y.dtype)
        if counts.shape[1] > 1:
            number = torch.cat([number, counts], dim=-1)
        z = [mean, log_sd, self._correlations(deviation), self.numbers(number), pooled]
        out: Tensor = self.head(torch.cat(z, dim=-1))
        return out

    def _correlations(self, deviation: Float[Tensor, "rows members c"]) -> Float[Tensor, "rows pairs"]:
        """artanh r of each pair of channels."""
        size = deviation.square().sum(dim=1).clamp(min=_LEAST_VARIANCE).rsqrt()
        unit = (deviation * size[:, None])[..., : self.paired]
        i, j = torch.triu_indices(self.paired, self.paired, 1, device=deviation.device)
        together = (unit.mT @ unit)[:, i, j]
        return together.clamp(-_MOST_CORRELATED, _MOST_CORRELATED).atanh()


class SetOf(nn.Module):
    """A set whose members are tables: `item`, (rows, steps, c) -> (rows, features), takes each member that is
    there, and mean and sd of its features over members join the pooled ones. (rows, members x steps, c) ->
    (rows, summary_features).

    A member is absent where all its values are NaN. `members` is the usual largest number; the network takes
    any.
    """

    def __init__(
        self,
        members: int,
        steps: int,
        item: nn.Module,
        features: int,
        summary_features: int,
        width: int,
        *,
        pooling: PoolingKind = "deep",
    ) -> None:
        super().__init__()
        self.steps = steps
        self.item = item
        self.numbers = Numbers(members)
        self.pool = _pooling(pooling, members, features, width)
        self.head = VectorSummary(2 * features + 4 + 2 * width, summary_features, width)

    def forward(self, y: Float[Tensor, "rows all c"]) -> Float[Tensor, "rows features"]:
        tables = y.unflatten(1, (-1, self.steps))
        present = ~tables.isnan().all(dim=-1).all(dim=-1)
        taken = present.clone()
        taken[0, 0] = True  # so that the network never sees 0 rows
        found: Tensor = self.item(tables[taken])
        x = found.new_zeros((*present.shape, found.shape[-1]))
        x[taken] = found
        there = present[..., None].to(y.dtype)
        mean = masked_mean(x, there)
        sd = (masked_mean((x - mean[:, None]).square(), there) + _LEAST_FEATURE_VARIANCE).sqrt()
        number = self.numbers(there.sum(dim=1))
        out: Tensor = self.head(torch.cat([mean, sd, number, self.pool(x, present)], dim=-1))
        return out
