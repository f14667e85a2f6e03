"""The summary network of series: convolutions along time, mean and standard deviation over time, and a vector
network.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.nets.vector import VectorSummary

_CHANNELS = (16, 32, 64)


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
