"""The summary network of several tables: a network each, and one that fuses them.

s(y) = W z + MLP(z),    z = (s_1(y_1), ..., s_K(y_K), which tables are wholly missing)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.nets.vector import VectorSummary


@dataclass(frozen=True, eq=False)
class Part:
    """A table among the numbers of an event.

    columns: where its numbers are, in the order of the table flattened. shape: of the table. network: (rows,
    *shape) -> (rows, features).
    """

    columns: slice | Sequence[int]
    shape: tuple[int, ...]
    network: nn.Module
    features: int


class SeveralSummary(nn.Module):
    """A network for each table, and a `VectorSummary` of all their features. (rows, total), NaN where nothing
    was observed -> (rows, summary_features).

    The features of a table of which nothing was observed are 0, whatever its network makes of that.
    """

    def __init__(self, parts: Sequence[Part], summary_features: int, width: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList([part.network for part in parts])
        self._shapes = [part.shape for part in parts]
        self._columns: list[slice | None] = []
        for i, part in enumerate(parts):
            contiguous = isinstance(part.columns, slice)
            self._columns.append(cast(slice, part.columns) if contiguous else None)
            if not contiguous:
                index = torch.as_tensor(cast("Sequence[int]", part.columns), dtype=torch.long)
                self.register_buffer(f"columns_{i}", index, persistent=False)
        inputs = sum(part.features for part in parts) + len(parts)
        self.head = VectorSummary(inputs, summary_features, width)

    def forward(self, y: Float[Tensor, "rows total"]) -> Float[Tensor, "rows features"]:
        features, missing = [], []
        for i, (network, shape) in enumerate(zip(self.networks, self._shapes, strict=True)):
            columns = self._columns[i]
            table = y[:, getattr(self, f"columns_{i}") if columns is None else columns]
            nothing = table.isnan().all(dim=1, keepdim=True)
            found: Tensor = network(table.reshape(len(y), *shape))
            features.append(found.masked_fill(nothing, 0.0))
            missing.append(nothing.to(y.dtype))
        out: Tensor = self.head(torch.cat([*features, *missing], dim=-1))
        return out
