"""q(u | scaled y) as modules: an ensemble of estimators, of one or more.

    q(u | y) = sum_k w_k q_k(u | s_k(y))                (Lakshminarayanan et al. 2017, 1612.01474)

The members of an ensemble differ in the weights that they start from and in how strongly weights decay. Each
is trained on its own. Where simulations are few they err in different ways, and since -log is convex the
expected loss of the mixture is below the mean of theirs. The mixture weights w maximise the density of the
held-out rows: stacking (Yao et al. 2018, 1704.02030).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.flows.conditional import ConditionalFlow

_STACKING_STEPS, _PRIOR_ROWS = 500, 10
_ROWS_TO_SETTLE = 256


class PosteriorEstimator(nn.Module):
    """q_k(u | scaled y): a summary network and a conditional flow, one member of an ensemble.

    data: what the summary network takes: scaled y and, where they join, scaled declared summaries.
    """

    def __init__(self, summary: nn.Module, flow: ConditionalFlow) -> None:
        super().__init__()
        self.summary = summary
        self.flow = flow

    def forward(self, u: Float[Tensor, "rows d"], *data: Float[Tensor, "rows ..."]) -> Float[Tensor, " rows"]:
        """log q_k(u | s_k(y)) in nats."""
        return self.flow.log_prob(u, self.summary(*data))

    def loss(self, u: Float[Tensor, "rows d"], *data: Float[Tensor, "rows ..."]) -> Float[Tensor, " rows"]:
        """What training minimises, per row, in nats: -log q_k, or the flow's bound on it."""
        return self.flow.loss(u, self.summary(*data))

    @torch.no_grad()
    def settle(self, u: Float[Tensor, "rows d"], *data: Float[Tensor, "rows ..."]) -> None:
        """Let the flow choose what it chooses after training, by held-out rows; at most 256 are used."""
        self.flow.settle(u[:_ROWS_TO_SETTLE], self.summary(*(part[:_ROWS_TO_SETTLE] for part in data)))


class Ensemble(nn.Module):
    """A mixture of estimators, with equal `mixture_weights` at first. Its summary concatenates theirs."""

    mixture_weights: Tensor

    def __init__(self, members: Sequence[PosteriorEstimator]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("mixture_weights", torch.full((len(members),), 1 / len(members)))

    def summary(self, *data: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows features"]:
        """s_1(y), ..., s_K(y)."""
        return torch.cat([member.summary(*data) for member in self.estimators()], dim=-1)

    def forward(self, u: Float[Tensor, "rows d"], *data: Float[Tensor, "rows ..."]) -> Float[Tensor, " rows"]:
        """log q(u | y) in nats."""
        return log_mixture([member(u, *data) for member in self.estimators()], self.mixture_weights)

    def settle(self, u: Float[Tensor, "rows d"], *data: Float[Tensor, "rows ..."]) -> None:
        """Let the flows choose what they choose after training, by held-out rows."""
        for member in self.estimators():
            member.settle(u, *data)

    def flows(self) -> list[ConditionalFlow]:
        """The flows, each of which takes its part of the summary as context."""
        return [member.flow for member in self.estimators()]

    def estimators(self) -> list[PosteriorEstimator]:
        """The members."""
        return cast("list[PosteriorEstimator]", list(self.members))


def log_mixture(
    log_densities: Sequence[Float[Tensor, "*rows"]], weights: Float[Tensor, " members"]
) -> Float[Tensor, "*rows"]:
    """log sum_k w_k q_k, in nats, for log q_k and mixture weights w."""
    if len(log_densities) == 1:
        return log_densities[0]
    log_weights = weights.log().log_softmax(0)
    weighted = [part + weight for part, weight in zip(log_densities, log_weights, strict=True)]
    return torch.logsumexp(torch.stack(weighted), dim=0)


def stacking_weights(log_densities: Float[Tensor, "members rows"]) -> Float[Tensor, " members"]:
    """The w that maximise sum_i log sum_k w_k q_k(row_i), as if ten more rows had come from all members
    alike.

    w > 0 sums to 1. The objective is concave in w, so steps of expectation and maximisation, which never
    lower it, lead to the one maximum.
    """
    members, rows = log_densities.shape
    q = (log_densities.double() - log_densities.double().amax(dim=0)).exp()
    weights = torch.full((members,), 1 / members, dtype=torch.float64)
    for _ in range(_STACKING_STEPS):
        weighted = weights[:, None] * q
        weights = ((weighted / weighted.sum(dim=0)).sum(dim=1) + _PRIOR_ROWS / members) / (rows + _PRIOR_ROWS)
    return weights
