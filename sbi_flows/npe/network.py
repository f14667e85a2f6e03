"""q(u | scaled y) as modules: one estimator, or an ensemble of them.

    q(u | y) = q_flow(u | s(y))          or          sum_k w_k q_k(u | s_k(y))        (Lakshminarayanan et al.
    2017, 1612.01474)

The members of an ensemble differ in the weights that they start from and in how strongly weights decay. Each
is trained as if it were the only one. Where simulations are few they err in different ways, and since -log is
convex the mixture's expected loss is below the mean of theirs. The shares w are those of the largest density
on the rows kept apart: stacking (Yao et al. 2018, 1704.02030).
"""

from __future__ import annotations

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

    @property
    def shares(self) -> Tensor:
        """The one flow's."""
        return torch.ones(1)


class Ensemble(nn.Module):
    """A mixture of estimators, in equal `shares` at first. Its summary is theirs, side by side."""

    shares: Tensor

    def __init__(self, members: Sequence[PosteriorEstimator]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("shares", torch.full((len(members),), 1 / len(members)))

    def summary(self, y: Float[Tensor, "rows *event"]) -> Float[Tensor, "rows features"]:
        """s_1(y), ..., s_K(y)."""
        return torch.cat([member.summary(y) for member in self._members()], dim=-1)

    def forward(self, u: Float[Tensor, "rows d"], y: Float[Tensor, "rows *event"]) -> Float[Tensor, " rows"]:
        """log q(u | y) in nats."""
        return log_mixture([member(u, y) for member in self._members()], self.shares)

    def flows(self) -> list[ConditionalFlow]:
        """The flows, each of which takes its part of the summary as context."""
        return [member.flow for member in self._members()]

    def _members(self) -> list[PosteriorEstimator]:
        return cast("list[PosteriorEstimator]", list(self.members))


Network = PosteriorEstimator | Ensemble

_STACKING_STEPS, _ALIKE = 500, 10


def log_mixture(
    log_densities: Sequence[Float[Tensor, "*rows"]], shares: Float[Tensor, " members"]
) -> Float[Tensor, "*rows"]:
    """log sum_k w_k q_k, in nats, for log q_k and shares w."""
    if len(log_densities) == 1:
        return log_densities[0]
    return torch.logsumexp(
        torch.stack(
            [part + share for part, share in zip(log_densities, shares.log().log_softmax(0), strict=True)]
        ),
        dim=0,
    )


def stacked(log_densities: Float[Tensor, "members rows"]) -> Float[Tensor, " members"]:
    """The shares w that maximise sum_i log sum_k w_k q_k(row_i), as if ten rows more had come from all
    members alike; w > 0 sums to 1.

    Concave in w, so that steps of expectation and maximisation, which never go down, lead to the one maximum.
    """
    members, rows = log_densities.shape
    q = (log_densities.double() - log_densities.double().amax(dim=0)).exp()
    shares = torch.full((members,), 1 / members, dtype=torch.float64)
    for _ in range(_STACKING_STEPS):
        weighted = shares[:, None] * q
        shares = ((weighted / weighted.sum(dim=0)).sum(dim=1) + _ALIKE / members) / (rows + _ALIKE)
    return shares
