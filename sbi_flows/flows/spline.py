"""Monotone rational-quadratic splines on [-5, 5], the identity outside. Durkan et al. (2019), 1906.04032.

Knots (x_j, y_j) with slopes d_j, j = 0..8, d_0 = d_8 = 1. In the bin of x, with w = x_{j+1} - x_j, h =
y_{j+1} - y_j, s = h / w, t = (x - x_j) / w, r = 1 - t and k = (d_j + d_{j+1} - 2 s) t r,

    D = s + k,    G = d_j r + d_{j+1} t - k
    y = y_j + h (s t^2 + d_j t r) / D,    dy/dx = G (s / D)^2

The inverse solves a t^2 + b t + c = 0 by the form of the root that does not cancel for the sign of b. The
parameters of a spline are 8 logits of the widths w, 8 of the heights h and 7 inner slopes. Each width and
height is at least 1e-3 of the interval, each slope at least 1e-3. Values outside are moved to the nearer end
first and put back last, so that no gradient is NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from sbi_flows.flows.elementwise import Parameters, Values

BINS = 8
BOUND = 5.0
_LEAST = 1e-3
_FLOOR = 2 * BOUND * _LEAST
_REST = 2 * BOUND * (1 - BINS * _LEAST)
_LOGITS = 2 * BINS
_SLOPE_OF_ONE = math.log(math.expm1(1 - _LEAST))


@dataclass(frozen=True)
class Spline:
    """A rational-quadratic spline; `temper` multiplies the logits."""

    temper: float = 1.0
    start: tuple[float, ...] = (0.0,) * _LOGITS + (_SLOPE_OF_ONE,) * (BINS - 1)

    def to_noise(self, value: Values, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """y and log dy/dx."""
        x = value.clamp(-BOUND, BOUND)
        bin = _find(x, parameters, self.temper, axis=0)
        t = (x - bin.x) / bin.w
        tt = t * t
        u = t - tt
        curve = bin.bend * u
        denominator = bin.s + curve
        ratio = torch.addcmul(bin.d0 * u, bin.s, tt) / denominator
        slope = (torch.lerp(bin.d0, bin.d1, t) - curve) * (bin.s / denominator).square()
        inside = x == value
        noise = torch.where(inside, torch.addcmul(bin.y, bin.h, ratio), value)
        return noise, torch.where(inside, slope, 1.0).log()

    def to_value(self, noise: Values, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """x and log dx/dy."""
        value, bin, t, inside = self._solved(noise, parameters)
        curve = bin.bend * (t - t * t)
        slope = (torch.lerp(bin.d0, bin.d1, t) - curve) * (bin.s / (bin.s + curve)).square()
        return value, -torch.where(inside, slope, 1.0).log()

    def value(self, noise: Values, parameters: Parameters) -> Tensor:
        """x."""
        return self._solved(noise, parameters)[0]

    def _solved(self, noise: Tensor, parameters: Tensor) -> tuple[Tensor, _Bin, Tensor, Tensor]:
        """x, its bin, its position t in the bin, and whether it lies inside."""
        y = noise.clamp(-BOUND, BOUND)
        bin = _find(y, parameters, self.temper, axis=1)
        rise = y - bin.y
        b = torch.addcmul(bin.h * bin.d0, rise, bin.bend, value=-1)
        a = torch.addcmul(-b, bin.h, bin.s)
        c = bin.s * rise
        root = torch.addcmul(b * b, a, c, value=4).clamp_(min=torch.finfo(y.dtype).tiny).sqrt()
        falls = b < 0
        t = torch.where(falls, root - b, c + c) / torch.where(falls, a + a, b + root)
        inside = y == noise
        return torch.where(inside, torch.addcmul(bin.x, t, bin.w), noise), bin, t, inside


class _Bin(NamedTuple):
    """The bin of each value: lower left corner (x, y), size (w, h), slopes d0 and d1, and d0 + d1 - 2 s."""

    x: Tensor
    y: Tensor
    w: Tensor
    h: Tensor
    d0: Tensor
    d1: Tensor
    s: Tensor
    bend: Tensor


def _find(v: Tensor, parameters: Tensor, temper: float, axis: int) -> _Bin:
    """The bin along x (axis 0) or y (axis 1): all knots are compared with v, then one bin is gathered."""
    c, _, *own = parameters.shape
    rows = v.shape[1:]
    logits = parameters[:, :_LOGITS].view(c, 2, BINS, *own)
    shares = torch.softmax(logits if temper == 1 else temper * logits, dim=2)
    floors = torch.linspace(_FLOOR - BOUND, BINS * _FLOOR - BOUND, BINS, dtype=v.dtype, device=v.device)
    upper = torch.add(floors.view(-1, *(1,) * len(rows)), torch.cumsum(shares, dim=2), alpha=_REST)
    index = (upper[:, axis, :-1] <= v[:, None]).sum(dim=1, keepdim=True)
    at = index[:, None].expand(c, 2, 1, *rows)
    size = torch.gather(shares.expand(c, 2, BINS, *rows), 2, at).squeeze(2) * _REST + _FLOOR
    corner = torch.gather(upper.expand(c, 2, BINS, *rows), 2, at).squeeze(2) - size
    end = parameters.new_full((c, 1, *own), _SLOPE_OF_ONE)
    slopes = torch.cat([end, parameters[:, _LOGITS:], end], dim=1).expand(c, BINS + 1, *rows)
    slopes = softplus(torch.gather(slopes, 1, torch.cat([index, index + 1], dim=1))) + _LEAST
    (x, y), (w, h), (d0, d1) = corner.unbind(1), size.unbind(1), slopes.unbind(1)
    s = h / w
    return _Bin(x, y, w, h, d0, d1, s, torch.sub(d0 + d1, s, alpha=2))
