"""stub"""

from torch import nn
import torch, math
from sbi_flows.nets.masks import observed
from sbi_flows.nets.vector import VectorSummary


class SeveralSummary(nn.Module):
    def __init__(self, parts, features, width):
        super().__init__()
        self.sizes = [math.prod(shape) for shape, _ in parts]
        self.shapes = [shape for shape, _ in parts]
        self.parts = nn.ModuleList([module for _, module in parts])
        self.head = VectorSummary(width * len(parts), features, width)

    def forward(self, y):
        out = [
            m(p.reshape(len(y), *s)) for m, s, p in zip(self.parts, self.shapes, y.split(self.sizes, dim=1))
        ]
        return self.head(torch.cat(out, dim=1))
