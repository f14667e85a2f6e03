"""stub"""

from torch import nn
import torch
from sbi_flows.nets.masks import observed
from sbi_flows.nets.vector import VectorSummary


class SetSummary(nn.Module):
    def __init__(self, channels, features, width):
        super().__init__()
        self.one = VectorSummary(2 * channels, width, width)
        self.head = VectorSummary(2 * width + 1, features, width)

    def forward(self, y):
        v, m = observed(y)
        there = m.amax(dim=-1, keepdim=True)
        h = torch.nn.functional.silu(self.one(torch.cat([v, m], dim=-1))) * there
        n = there.sum(dim=1).clamp(min=1)
        return self.head(torch.cat([h.sum(1) / n, h.sum(1) / n.sqrt(), n.log()], dim=-1))


class SetOf(nn.Module):
    def __init__(self, members, item, item_features, features, width):
        super().__init__()
        self.members, self.item = members, item
        self.head = VectorSummary(2 * item_features + 1, features, width)

    def forward(self, y):
        rows = len(y)
        each = y.reshape(rows * self.members, -1, y.shape[-1])
        there = (~torch.isnan(each)).any(dim=-1).any(dim=-1).to(y.dtype).reshape(rows, self.members, 1)
        h = self.item(each).reshape(rows, self.members, -1) * there
        n = there.sum(dim=1).clamp(min=1)
        return self.head(torch.cat([h.sum(1) / n, h.sum(1) / n.sqrt(), n.log()], dim=-1))
