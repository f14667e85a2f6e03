"""The networks of a latent SDE: drift and diffusion of the prior, the control that steers it to the data, and
the encoder of the data.

    prior        dz = h(z, t) dt + g(z, t) dW,              z_0 ~ N(m, diag(s^2))
    posterior    dz = (h + g u)(z, t, c) dt + g dW,         u = a(z, c, r) - B(z, c, r) z
    encoder      c_k = GRU(x_k, mask of x_k, r_k; c_{k+1}),  from the last time to the first

r is the time to the next observation and c the state of the encoder there. For a Gaussian process observed
with Gaussian noise, the exact u is affine in z, a form that a and B contain. All times are in the model's own
units.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sbi_flows.arrays import F

_LEAST_DIFFUSION, _FIRST_DIFFUSION = 1e-3, 0.5
_NEAR = 0.1


class Perceptron(nn.Module):
    """Two hidden layers, and a last layer that starts at zero: (rows, m) -> (rows, k)."""

    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, y: Float[Tensor, "rows m"]) -> Float[Tensor, "rows k"]:
        h = nn.functional.silu(self.first(y))
        out: Tensor = self.last(nn.functional.silu(self.second(h)))
        return out


class Drift(nn.Module):
    """h(z) = -A z + MLP(z), or of z and t. It starts at -z / 2, which reverts to 0."""

    def __init__(self, d: int, hidden: int, *, timed: bool) -> None:
        super().__init__()
        self.timed = timed
        self.linear = nn.Linear(d, d, bias=False)
        self.net = Perceptron(d + timed, d, hidden)
        with torch.no_grad():
            self.linear.weight.copy_(-0.5 * torch.eye(d))

    def forward(self, z: Float[Tensor, "rows d"], t: Float[Tensor, " rows"]) -> Float[Tensor, "rows d"]:
        out: Tensor = self.linear(z) + self.net(torch.cat([z, t[:, None]], dim=1) if self.timed else z)
        return out


class Diffusion(nn.Module):
    """g_i(z_i) > 0, or of z_i and t: one network per component, which sees no other; or one constant each."""

    def __init__(self, d: int, hidden: int, *, constant: bool, timed: bool) -> None:
        super().__init__()
        self.constant, self.timed = constant, timed
        self.level = nn.Parameter(torch.full((d,), math.log(math.expm1(_FIRST_DIFFUSION))))
        if not constant:
            self.into = nn.Parameter(torch.randn(d, 1 + timed, hidden))
            self.bias = nn.Parameter(torch.randn(d, hidden))
            self.out = nn.Parameter(torch.zeros(d, hidden))

    def forward(self, z: Float[Tensor, "rows d"], t: Float[Tensor, " rows"]) -> Float[Tensor, "rows d"]:
        level = self.level.expand_as(z)
        if not self.constant:
            inputs = torch.stack([z, t[:, None].expand_as(z)], dim=-1) if self.timed else z[..., None]
            hidden = torch.tanh((inputs[..., None] * self.into).sum(dim=-2) + self.bias)
            level = level + (hidden * self.out).sum(dim=-1)
        return nn.functional.softplus(level) + _LEAST_DIFFUSION


class Own(nn.Module):
    """A user's module in the model's units: it is given the user's time, and its value is multiplied by unit
    ** power.
    """

    def __init__(self, net: nn.Module, power: float) -> None:
        super().__init__()
        self.net, self.power = net, power
        self.origin, self.unit = 0.0, 1.0

    def forward(self, z: Float[Tensor, "rows d"], t: Float[Tensor, " rows"]) -> Float[Tensor, "rows d"]:
        out: Tensor = self.net(z, self.origin + self.unit * t) * float(self.unit**self.power)
        return out


class Control(nn.Module):
    """u = a - B z, with a and B from one network of z, the context and the time to the next observation. It
    starts at 0.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, d: int, context: int, hidden: int, mean: F, sd: F) -> None:
        super().__init__()
        self.net = Perceptron(d + context + 2, d + d * d, hidden)
        self.register_buffer("centre", torch.tensor(mean))
        self.register_buffer("scale", torch.tensor(sd))

    def forward(
        self, z: Float[Tensor, "rows d"], context: Float[Tensor, "rows k"], ahead: Float[Tensor, " rows"]
    ) -> Float[Tensor, "rows d"]:
        d, standard = z.shape[1], (z - self.centre) / self.scale
        when = torch.stack([torch.log1p(ahead), _NEAR / (_NEAR + ahead)], dim=1)
        a, b = self.net(torch.cat([standard, context, when], dim=1)).split([d, d * d], dim=1)
        out: Tensor = a - torch.einsum("rij,rj->ri", b.reshape(-1, d, d), standard)
        return out


class BackwardEncoder(nn.Module):
    """The state c_k of a recurrent network that has read the data from the last time back to the k-th.

    A time without observations changes neither the state nor the time between observations.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, m: int, context: int, *, counts: bool) -> None:
        super().__init__()
        self.cell = nn.GRUCell(2 * m + 2, context)
        self.counts = counts
        self.register_buffer("centre", torch.zeros(m))
        self.register_buffer("scale", torch.ones(m))

    def forward(
        self, x: Float[Tensor, "rows T m"], seen: Bool[Tensor, "rows T m"], times: Float[Tensor, "rows T"]
    ) -> tuple[Float[Tensor, "rows T k"], Float[Tensor, "rows T"], Bool[Tensor, "rows T"]]:
        """c, the time of the next observation (now or later), and whether there is one, at each time."""
        standard = ((torch.log1p(x) if self.counts else x) - self.centre) / self.scale
        known = torch.where(seen, standard, torch.zeros_like(x))
        there = seen.any(dim=2)
        state = x.new_zeros(len(x), self.cell.hidden_size)
        following, any_left = times[:, -1], torch.zeros_like(there[:, -1])
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for k in reversed(range(x.shape[1])):
            now = there[:, k]
            gap = torch.where(any_left, torch.log1p(following - times[:, k]), torch.zeros_like(following))
            inputs = torch.cat([known[:, k], seen[:, k].to(x), gap[:, None], any_left[:, None].to(x)], dim=1)
            state = torch.where(now[:, None], self.cell(inputs, state), state)
            following, any_left = torch.where(now, times[:, k], following), any_left | now
            found.append((state, following, any_left))
        states, nexts, lefts = zip(*reversed(found), strict=True)
        return torch.stack(states, dim=1), torch.stack(nexts, dim=1), torch.stack(lefts, dim=1)
