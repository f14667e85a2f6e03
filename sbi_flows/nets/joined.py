"""Summary networks of y together with summaries t(y) that the simulator declares.

vectors        s(y) = network(y, t(y))                   t as further columns
all others     s(y) = network(y) + W t(y) + MLP(t(y))
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.nets.vector import VectorSummary


class JoinedColumns(nn.Module):
    """A network of vectors that sees t(y) as further columns. (rows, m), (rows, k) -> (rows,
    summary_features).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, y: Float[Tensor, "rows m"], t: Float[Tensor, "rows k"]
    ) -> Float[Tensor, "rows features"]:
        out: Tensor = self.network(torch.cat([y, t], dim=-1))
        return out


class AddedSummaries(nn.Module):
    """Any network, plus a `VectorSummary` of t(y). (rows, *event), (rows, k) -> (rows, summary_features)."""

    def __init__(self, network: nn.Module, declared: int, summary_features: int, width: int) -> None:
        super().__init__()
        self.network = network
        self.declared = VectorSummary(declared, summary_features, width)

    def forward(
        self, y: Float[Tensor, "rows *event"], t: Float[Tensor, "rows k"]
    ) -> Float[Tensor, "rows features"]:
        out: Tensor = self.network(y) + self.declared(t)
        return out
