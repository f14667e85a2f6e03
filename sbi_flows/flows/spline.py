"""Monotone rational-quadratic splines of eight bins. Durkan et al. (2019), 1906.04032.

Knots (x_j, y_j) with slopes d_j, j = 0..8. In the bin of x, with w = x_{j+1} - x_j, h = y_{j+1} - y_j, s =
h / w, t = (x - x_j) / w, r = 1 - t and k = (d_j + d_{j+1} - 2 s) t r,

    D = s + k,    G = d_j r + d_{j+1} t - k
    y = y_j + h (s t^2 + d_j t r) / D,    dy/dx = G (s / D)^2

The inverse solves a t^2 + b t + c = 0 by the form of the root that does not cancel for the sign of b. The
parameters of a spline are 8 numbers a_j, 8 logits b_j and 7 numbers q_j for the inner slopes; each height
is at least 1e-3 of its interval.

`Spline` has free ends. Noise has knots on [-3, 3], where nearly all of it lies, and values have them where
the rows are. With p(z) = softplus(z) scaled so that p(0) = 1, floor included, and m the mean of the a_j,

    h_j = 6 softmax(b)_j,    w_j = h_j p(a_j + 3 m),    y_0 = -3,    x_4 = 0
    d_0 = s_0,    d_8 = s_7,    d_j = p(q_j) sqrt(s_{j-1} s_j)

and beyond the ends it is a straight line with the slope of the outermost bin. Draws from there are then on
the scale of the others. A posterior narrower than the prior is mostly a matter of scale: all a_j then fall
together, which their mean helps, and the outer bins, which few rows reach, fall with them.

`PinnedSpline`, which files of earlier versions hold, has its knots on [-5, 5] on both sides and is the
identity outside: d_0 = d_8 = 1, each slope at least 1e-3. What contracts the middle there has to stretch
all that lies between it and the ends: where two such layers had contracted a posterior to a quarter, noise
of 4.4 gave draws 20 standard deviations away, farther than any held-out row. Values outside are moved to
the nearer end first and put back last, so that no gradient is NaN.
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
REACH = 3.0
BOUND = 5.0
_LEAST = 1e-3
_FLOOR = 2 * BOUND * _LEAST
_REST = 2 * BOUND * (1 - BINS * _LEAST)
_LOGITS = 2 * BINS
_TOGETHER = 3.0
_HALVES = math.log(2) / (1 - _LEAST)
_SLOPE_OF_ONE = math.log(math.expm1(1 - _LEAST))


@dataclass(frozen=True)
class PinnedSpline:
    """A spline that is the identity outside [-5, 5]; `temper` multiplies the logits."""

    temper: float = 1.0
    start: tuple[float, ...] = (0.0,) * _LOGITS + (_SLOPE_OF_ONE,) * (BINS - 1)

    def to_noise(self, value: Values, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """y and log dy/dx."""
        x = value.clamp(-BOUND, BOUND)
        bin = _pinned(x, parameters, self.temper, axis=0)
        noise, slope = _image((x - bin.x) / bin.w, bin)
        inside = x == value
        return torch.where(inside, noise, value), torch.where(inside, slope, 1.0).log()

    def to_value(self, noise: Values, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """x and log dx/dy."""
        y = noise.clamp(-BOUND, BOUND)
        bin = _pinned(y, parameters, self.temper, axis=1)
        t = _solved(y, bin)
        inside = y == noise
        return torch.where(inside, torch.addcmul(bin.x, t, bin.w), noise), -torch.where(
            inside, _slope(t, bin), 1.0
        ).log()

    def value(self, noise: Values, parameters: Parameters) -> Tensor:
        """x."""
        y = noise.clamp(-BOUND, BOUND)
        bin = _pinned(y, parameters, self.temper, axis=1)
        return torch.where(y == noise, torch.addcmul(bin.x, _solved(y, bin), bin.w), noise)


@dataclass(frozen=True)
class Spline:
    """A spline with free ends; `temper` multiplies the logits."""

    temper: float = 1.0
    start: tuple[float, ...] = (0.0,) * (3 * BINS - 1)

    @property
    def pinned(self) -> PinnedSpline:
        """What the same parameters meant to earlier versions."""
        return PinnedSpline(self.temper)

    def to_noise(self, value: Values, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """y and log dy/dx."""
        x, bin = _free(value, parameters, self.temper, axis=0)
        noise, slope = _image(((x - bin.x) / bin.w).clamp(0, 1), bin)
        return torch.addcmul(noise, bin.s, value - x), slope.log()

    def to_value(self, noise: Values, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """x and log dx/dy."""
        y, bin = _free(noise, parameters, self.temper, axis=1)
        t = _solved(y, bin).clamp(0, 1)
        value = torch.addcmul(bin.x, t, bin.w)
        return torch.addcdiv(value, noise - y, bin.s), -_slope(t, bin).log()

    def value(self, noise: Values, parameters: Parameters) -> Tensor:
        """x."""
        y, bin = _free(noise, parameters, self.temper, axis=1)
        value = torch.addcmul(bin.x, _solved(y, bin).clamp(0, 1), bin.w)
        return torch.addcdiv(value, noise - y, bin.s)


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


def _image(t: Tensor, bin: _Bin) -> tuple[Tensor, Tensor]:
    """y and dy/dx at the position t in the bin."""
    tt = t * t
    u = t - tt
    curve = bin.bend * u
    denominator = bin.s + curve
    ratio = torch.addcmul(bin.d0 * u, bin.s, tt) / denominator
    slope = (torch.lerp(bin.d0, bin.d1, t) - curve) * (bin.s / denominator).square()
    return torch.addcmul(bin.y, bin.h, ratio), slope


def _solved(y: Tensor, bin: _Bin) -> Tensor:
    """The position t in the bin of the x that has this y."""
    rise = y - bin.y
    b = torch.addcmul(bin.h * bin.d0, rise, bin.bend, value=-1)
    a = torch.addcmul(-b, bin.h, bin.s)
    c = bin.s * rise
    root = torch.addcmul(b * b, a, c, value=4).clamp_(min=torch.finfo(y.dtype).tiny).sqrt()
    falls = b < 0
    return torch.where(falls, root - b, c + c) / torch.where(falls, a + a, b + root)


def _slope(t: Tensor, bin: _Bin) -> Tensor:
    """dy/dx at the position t in the bin."""
    curve = bin.bend * (t - t * t)
    return (torch.lerp(bin.d0, bin.d1, t) - curve) * (bin.s / (bin.s + curve)).square()


def _free(v: Tensor, parameters: Tensor, temper: float, axis: int) -> tuple[Tensor, _Bin]:
    """v moved to the nearer end, and its bin along x (axis 0) or y (axis 1), of a spline with free ends."""
    c = len(parameters)
    logits = parameters if temper == 1 else temper * parameters
    a, b, q = logits.split([BINS, BINS, BINS - 1], dim=1)
    h = torch.add(torch.softmax(b, dim=1), _LEAST / (1 - BINS * _LEAST)) * (2 * REACH * (1 - BINS * _LEAST))
    ratio = softplus(torch.add(a, a.mean(dim=1, keepdim=True), alpha=_TOGETHER), _HALVES) + _LEAST
    w, s = h * ratio, 1 / ratio
    root = s.sqrt()
    d = (softplus(q, _HALVES) + _LEAST) * (root[:, 1:] * root[:, :-1])
    x, y = torch.cumsum(w, dim=1), torch.cumsum(h, dim=1) - REACH
    x = x - x[:, BINS // 2 - 1 : BINS // 2]
    x_0, y_0 = x - w, y - h
    first, last = (x_0, y_0)[axis], (x, y)[axis]
    v = torch.clamp(v, first[:, 0], last[:, -1])
    index = (last[:, :-1] <= v[:, None]).sum(dim=1, keepdim=True)
    parts = [x_0, y_0, w, h, torch.cat([s[:, :1], d], dim=1), torch.cat([d, s[:, -1:]], dim=1), s]
    at = index[:, None].expand(c, len(parts), 1, *v.shape[1:])
    stacked = torch.stack(parts, dim=1).expand(c, len(parts), BINS, *v.shape[1:])
    x_0, y_0, w, h, d0, d1, s = torch.gather(stacked, 2, at).squeeze(2).unbind(1)
    return v, _Bin(x_0, y_0, w, h, d0, d1, s, torch.sub(d0 + d1, s, alpha=2))


def _pinned(v: Tensor, parameters: Tensor, temper: float, axis: int) -> _Bin:
    """The bin along x (axis 0) or y (axis 1), pinned: all knots are compared with v, then one is gathered."""
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
