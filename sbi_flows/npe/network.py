"""q(u | scaled y) as modules: one estimator, or an ensemble of them.

    q(u | y) = q_flow(u | s(y))          or          (1 / K) sum_k q_k(u | s_k(y))        (Lakshminarayanan et al. 2017, 1612.01474)

The members of an ensemble differ in the weights that they start from alone. Each is trained as if it were the only one. Where simulations
are few they err in different ways, and since -log is convex the mixture's expected loss is below the mean of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.flows.conditional import ConditionalFlow


class PosteriorEstimator(nn.Module):
    """q(u | scaled y): a summary network and a conditional flow."""

    def __init__(self, summary: nn.Module, flow: ConditionalFlow) -> None:
        super().__init__()
        self.summary = summary
        self.flow = flow

    def forward(self, u: Float[Tensor, "rows d"], y: Float[Tensor, "rows *event"]) -> Float[Tensor, " rows"]:
        """log q(u | s(y)) in nats."""
        return self.flow.log_prob(u, self.summary(y))

    def flows(self) -> list[ConditionalFlow]:
        """The flows, each of which takes its part of the summary as context."""
        return [self.flow]


class Ensemble(nn.Module):
    """The equally weighted mixture of estimators. Its summary is theirs, side by side."""

    def __init__(self, members: Sequence[PosteriorEstimator]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def summary(self, y: Float[Tensor, "rows *event"]) -> Float[Tensor, "rows features"]:
        """s_1(y), ..., s_K(y)."""
        return torch.cat([member.summary(y) for member in self._members()], dim=-1)

    def forward(self, u: Float[Tensor, "rows d"], y: Float[Tensor, "rows *event"]) -> Float[Tensor, " rows"]:
        """log q(u | y) in nats."""
        return log_mixture([member(u, y) for member in self._members()])

    def flows(self) -> list[ConditionalFlow]:
        """The flows, each of which takes its part of the summary as context."""
        return [member.flow for member in self._members()]

    def _members(self) -> list[PosteriorEstimator]:
        return cast("list[PosteriorEstimator]", list(self.members))


Network = PosteriorEstimator | Ensemble


def log_mixture(log_densities: Sequence[Float[Tensor, "*rows"]]) -> Float[Tensor, "*rows"]:
    """The log of the mean of densities, in nats."""
    if len(log_densities) == 1:
        return log_densities[0]
    return torch.logsumexp(torch.stack(list(log_densities)), dim=0) - math.log(len(log_densities))
