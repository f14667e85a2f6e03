"""The summary network of an autoencoder, trained before and elsewhere, and a vector network of what it
gives.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.nets.scaling import Scaler
from sbi_flows.nets.vector import VectorSummary


class EncodedSummary(nn.Module):
    """s(y) = W e(y) + MLP(e(y)), e an encoder's network that is not trained further. (rows, m) -> (rows,
    summary_features).
    """

    def __init__(self, encoder: VectorSummary, summary_features: int, width: int) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).float().requires_grad_(False)
        self.head = VectorSummary(encoder.linear.out_features, summary_features, width)

    def forward(self, y: Float[Tensor, "rows m"]) -> Float[Tensor, "rows features"]:
        out: Tensor = self.head(self.encoder(y))
        return out


@dataclass(frozen=True, eq=False)
class TrainedEncoder:
    """An encoder's network, and the scaling of y that it was trained with."""

    encoder: VectorSummary
    scaler: Scaler

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers in, numbers out, and width."""
        return (
            self.encoder.linear.in_features,
            self.encoder.linear.out_features,
            self.encoder.first.out_features,
        )
