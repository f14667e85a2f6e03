"""stub"""

import math

import torch
from torch import nn

from sbi_flows.nets.masks import observed
from sbi_flows.nets.vector import VectorSummary


class GridSummary(nn.Module):
    def __init__(self, axes, channels, features, width):
        super().__init__()
        self.net = VectorSummary(2 * channels * math.prod(axes), features, width)

    def forward(self, y):
        v, m = observed(y)
        return self.net(torch.cat([v, m], dim=-1).flatten(1))
