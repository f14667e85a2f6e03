"""Summary networks of vectors: a residual perceptron plus a linear path.

s(y) = W y + MLP(y)

`MaskedVector` sees y with gaps: as values, 0 where there is none, and as the mask of what is there.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.nets.masks import observed


class VectorSummary(nn.Module):
    """Two residual blocks; the last layer of the MLP starts at zero. (rows, m) -> (rows,
    summary_features).
    """

    def __init__(self, inputs: int, summary_features: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, summary_features)
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
        self.last = nn.Linear(width, summary_features)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, y: Float[Tensor, "rows m"]) -> Float[Tensor, "rows features"]:
        h = nn.functional.silu(self.first(y))
        for block in self.blocks:
            h = h + nn.functional.silu(block(h))
        out: Tensor = self.linear(y) + self.last(h)
        return out


class ScreenedSummary(VectorSummary):
    """A `VectorSummary` of the columns that are `seen` (m,), 1 or 0: at first all of them."""

    seen: Tensor

    def __init__(self, inputs: int, summary_features: int, width: int) -> None:
        super().__init__(inputs, summary_features, width)
        self.register_buffer("seen", torch.ones(inputs))

    def forward(self, y: Float[Tensor, "rows m"]) -> Float[Tensor, "rows features"]:
        return super().forward(y * self.seen)


class MaskedVector(VectorSummary):
    """A `VectorSummary` of values and mask. (rows, m), NaN where nothing was observed -> (rows,
    summary_features).
    """

    def __init__(self, inputs: int, summary_features: int, width: int) -> None:
        super().__init__(2 * inputs, summary_features, width)

    def forward(self, y: Float[Tensor, "rows m"]) -> Float[Tensor, "rows features"]:
        return super().forward(torch.cat(observed(y), dim=-1))
