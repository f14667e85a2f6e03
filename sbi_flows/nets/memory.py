"""Exponential averages of the past of a series: a memory of many lengths that takes gaps as they are.

    m_t = sum_{s < t} a^(t-s-1) w_s y_s / (e + sum_{s < t} a^(t-s-1) w_s),   w_s = 1 where y_s is observed

Each is the steady state of a Kalman filter for one ratio of the variances of a random walk and of the noise
on it (Muth 1960, doi:10.1080/01621459.1960.10482064), and y_t - m_t the innovation. The sum underneath tells
how much of the past was seen, and the decays a are learned.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

_STEPS = (0.5, 1.5, 4.0, 12.0, 40.0)
_LITTLE = 1e-3


class Memory(nn.Module):
    """(value, mask), each (rows, c, T) -> the averages m (rows, c, K, T), and log(1 + how much was seen).

    K = 5 decays, at first exp(-1 / steps) for 0.5, 1.5, 4, 12 and 40 steps. Before the first observed value
    both are 0.
    """

    averages = len(_STEPS)

    def __init__(self) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor([-math.log(math.expm1(1 / steps)) for steps in _STEPS]))

    def forward(
        self, value: Float[Tensor, "rows c T"], mask: Float[Tensor, "rows c T"]
    ) -> tuple[Float[Tensor, "rows c k T"], Float[Tensor, "rows c k T"]]:
        both = torch.stack([value * mask, mask], dim=2)[:, :, :, None, :]
        sums = decayed_sum(nn.functional.pad(both[..., :-1], (1, 0)), self.logit.sigmoid())
        above, beneath = sums.unbind(2)
        return above / (_LITTLE + beneath), beneath.log1p()


def decayed_sum(x: Float[Tensor, "... 1 T"], decay: Float[Tensor, " k"]) -> Float[Tensor, "... k T"]:
    """sum_{s <= t} a^(t-s) x_s for each decay a, in log2 T steps: a sum over 2n steps is one over n, and that
    one n steps before times a^n.
    """
    power, steps = decay[:, None], 1
    x = x.expand(*x.shape[:-2], len(decay), x.shape[-1])
    while steps < x.shape[-1]:
        x = x + power * nn.functional.pad(x[..., :-steps], (steps, 0))
        power, steps = power * power, 2 * steps
    return x
