"""Members of a set that look at one another: a set transformer (Lee et al. 2019, 1810.00825).

    MAB(x, z) = a + MLP(a),   a = x + attention(x -> z)
    h <- MAB(h, h), twice;    pooled = MAB(seeds, h)

For what lies between members, such as distances of points in a plane, which a mean of functions of single
members knows only through many moments. Above `_MOST_IN_PAIRS` members, h <- MAB(h, MAB(points, h)) with a
few learned points, whose cost grows as n and not as n^2. Norms stand before each part and there is no
dropout, so a row does not depend on its batch.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

_HEADS, _LAYERS, _SEEDS, _POINTS = 4, 2, 2, 16
_MOST_IN_PAIRS = 64
_FAR = -1e9


class Attention(nn.Module):
    """MAB: x (rows, n, width) looks at z (rows, m, width) where `present` (rows, m), or everywhere."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)  # a bias of keys cancels
        self.content = nn.Linear(width, width)
        self.back = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(
        self,
        x: Float[Tensor, "rows n width"],
        z: Float[Tensor, "rows m width"],
        present: Bool[Tensor, "rows m"] | None,
    ) -> Float[Tensor, "rows n width"]:
        of_x, of_z = self.norms[0](x), self.norms[1](z)
        parts = (self.query(of_x), self.key(of_z), self.content(of_z))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        hidden = None if present is None else z.new_zeros(present.shape).masked_fill(~present, _FAR)
        mask = None if hidden is None else hidden[:, None, None]
        seen = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.back(seen.transpose(1, 2).flatten(2))
        out: Tensor = x + self.narrow(silu(self.wide(self.norms[2](x))))
        return out


class AttentivePooling(nn.Module):
    """What `set.Pooling` is, by attention among the members that are there. (rows, members, k), present
    (rows, members) -> (rows, 2 width); 0 where there are none.

    members: the usual largest number, by which it is chosen whether all pairs are looked at.
    """

    def __init__(self, members: int, inputs: int, width: int) -> None:
        super().__init__()
        heads = next(heads for heads in (_HEADS, 2, 1) if width % heads == 0)
        self.first = nn.Linear(inputs, width)
        self.members = nn.ModuleList([Attention(width, heads) for _ in range(_LAYERS)])
        induced = _LAYERS if members > _MOST_IN_PAIRS else 0
        self.induced = nn.ModuleList([Attention(width, heads) for _ in range(induced)])
        self.points = nn.ParameterList(
            [nn.Parameter(0.5 * torch.randn(1, _POINTS, width)) for _ in range(induced)]
        )
        self.seeds = nn.Parameter(0.5 * torch.randn(1, _SEEDS, width))
        self.pooled = Attention(width, heads)

    def forward(
        self, x: Float[Tensor, "rows members k"], present: Bool[Tensor, "rows members"]
    ) -> Float[Tensor, "rows features"]:
        h = self.first(x)
        for i, layer in enumerate(self.members):
            if len(self.induced):
                points = self.induced[i](self.points[i].expand(len(x), -1, -1), h, present)
                h = layer(h, points, None)
            else:
                h = layer(h, h, present)
        pooled: Tensor = self.pooled(self.seeds.expand(len(x), -1, -1), h, present).flatten(1)
        return pooled.masked_fill(~present.any(dim=1, keepdim=True), 0.0)
