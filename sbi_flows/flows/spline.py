"""Monotone rational-quadratic splines of eight bins. Durkan et al. (2019), 1906.04032.

Knots (x_j, y_j) with slopes d_j, j = 0..8. In the bin of x, with w = x_{j+1} - x_j, h = y_{j+1} - y_j, s = h / w,
t = (x - x_j) / w, r = 1 - t and k = (d_j + d_{j+1} - 2 s) t r,

    D = s + k,    G = d_j r + d_{j+1} t - k
    y = y_j + h (s t^2 + d_j t r) / D,    dy/dx = G (s / D)^2

The inverse solves a t^2 + b t + c = 0 by the form of the root that does not cancel for the sign of b. The
parameters of a spline are 8 logits a_j, 8 logits b_j and 7 inner slopes; each height is at least 1e-3 of the
interval.

`Spline` has its ends free. Noise has knots on [-3, 3], where nearly all of it lies, and values have them where
the rows are:

    h_j = 6 softmax(b)_j,    w_j = h_j exp(3 tanh((a_j + 3 mean a) / 3)),    y_0 = -3,    x_4 = 0
    d_0 = s_0,    d_8 = s_7,    d_j = (softplus(.) + 1e-3) sqrt(s_{j-1} s_j)

and beyond the ends it goes on in a straight line, with the slope of the outermost bin. Draws from there are then
on the scale of the others. A posterior narrower than the prior is mostly a matter of scale: all a_j then fall
together, which the mean helps (its weight 3 was chosen by held-out density), and the outer bins, which few rows
reach, fall with them.

`PinnedSpline`, which files of earlier versions hold, has its knots on [-5, 5] on both sides and is the identity
outside: d_0 = d_8 = 1, each slope at least 1e-3. What contracts the middle then has to stretch all that lies
between it and the ends. Where three such layers contracted a posterior to a quarter, noise of 4.4 gave draws 20 standard
deviations away, which no held-out row was. Values outside are moved to the nearer end first and put back last, so that
no gradient is NaN.
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
_MOST, _TOGETHER = 3.0, 3.0
_SLOPE_OF_ONE = math.log(math.expm1(1 - _LEAST))


@dataclass(frozen=True)
class PinnedSpline:
    """A spline that is the identity outside [-5, 5]; `temper` multiplies the logits."""

    temper: float = 1.0
    start: tuple[float, ...] = (0.0,) * _LOGITS + (_SLOPE_OF_ONE,) * (BINS - 1)

    def to_noise(self, value: Values, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """y and log dy/dx."""
        x = value.clamp(-BOUND, BOUND)
        noise, slope = _image(x, _pinned(x, parameters, self.temper, axis=0))
        inside = x == value
        return torch.where(inside, noise, value), torch.where(inside, slope, 1.0).log()

    def to_value(self, noise: Values, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """x and log dx/dy."""
        y = noise.clamp(-BOUND, BOUND)
        bin = _pinned(y, parameters, self.temper, axis=1)
        value, t = _solved(y, bin)
        inside = y == noise
        return torch.where(inside, value, noise), -torch.where(inside, _slope(t, bin), 1.0).log()

    def value(self, noise: Values, parameters: Parameters) -> Tensor:
        """x."""
        y = noise.clamp(-BOUND, BOUND)
        found, _ = _solved(y, _pinned(y, parameters, self.temper, axis=1))
        return torch.where(y == noise, found, noise)


@dataclass(frozen=True)
class Spline:
    """A spline with free ends; `temper` multiplies the logits."""

    temper: float = 1.0
    start: tuple[float, ...] = (0.0,) * _LOGITS + (_SLOPE_OF_ONE,) * (BINS - 1)

    @property
    def pinned(self) -> PinnedSpline:
        """What the same parameters meant to earlier versions."""
        return PinnedSpline(self.temper, self.start)

    def to_noise(self, value: Values, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """y and log dy/dx."""
        x, bin = _free(value, parameters, self.temper, axis=0)
        noise, slope = _image(x, bin)
        return torch.addcmul(noise, bin.s, value - x), slope.log()

    def to_value(self, noise: Values, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """x and log dx/dy."""
        y, bin = _free(noise, parameters, self.temper, axis=1)
        value, t = _solved(y, bin)
        return torch.addcdiv(value, noise - y, bin.s), -_slope(t, bin).log()

    def value(self, noise: Values, parameters: Parameters) -> Tensor:
        """x."""
        y, bin = _free(noise, parameters, self.temper, axis=1)
        return torch.addcdiv(_solved(y, bin)[0], noise - y, bin.s)


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


def _image(x: Tensor, bin: _Bin) -> tuple[Tensor, Tensor]:
    """y and dy/dx."""
    t = (x - bin.x) / bin.w
    tt = t * t
    u = t - tt
    curve = bin.bend * u
    denominator = bin.s + curve
    ratio = torch.addcmul(bin.d0 * u, bin.s, tt) / denominator
    slope = (torch.lerp(bin.d0, bin.d1, t) - curve) * (bin.s / denominator).square()
    return torch.addcmul(bin.y, bin.h, ratio), slope


def _solved(y: Tensor, bin: _Bin) -> tuple[Tensor, Tensor]:
    """x, and its position t in the bin."""
    rise = y - bin.y
    b = torch.addcmul(bin.h * bin.d0, rise, bin.bend, value=-1)
    a = torch.addcmul(-b, bin.h, bin.s)
    c = bin.s * rise
    root = torch.addcmul(b * b, a, c, value=4).clamp_(min=torch.finfo(y.dtype).tiny).sqrt()
    falls = b < 0
    t = torch.where(falls, root - b, c + c) / torch.where(falls, a + a, b + root)
    return torch.addcmul(bin.x, t, bin.w), t


def _slope(t: Tensor, bin: _Bin) -> Tensor:
    """dy/dx at the position t in the bin."""
    curve = bin.bend * (t - t * t)
    return (torch.lerp(bin.d0, bin.d1, t) - curve) * (bin.s / (bin.s + curve)).square()


def _free(v: Tensor, parameters: Tensor, temper: float, axis: int) -> tuple[Tensor, _Bin]:
    """v moved to the nearer end, and its bin along x (axis 0) or y (axis 1), of a spline with free ends."""
    c, _, *own = parameters.shape
    rows = v.shape[1:]
    logits = parameters[:, :_LOGITS].view(c, 2, BINS, *own)
    a, b = (logits if temper == 1 else temper * logits).unbind(1)
    log_w = _MOST * torch.tanh((a + _TOGETHER * a.mean(dim=1, keepdim=True)) / _MOST)  # log w - log h
    h = torch.softmax(b, dim=1) * (2 * REACH * (1 - BINS * _LEAST)) + 2 * REACH * _LEAST
    size = torch.stack([h * log_w.exp(), h], dim=1)
    upper = torch.cumsum(size, dim=2)
    begin = torch.stack([-upper[:, 0, BINS // 2 - 1], torch.full_like(upper[:, 1, 0], -REACH)], dim=1)
    upper = upper + begin[:, :, None]
    v = torch.minimum(torch.maximum(v, begin[:, axis]), upper[:, axis, -1])
    index = (upper[:, axis, :-1] <= v[:, None]).sum(dim=1, keepdim=True)
    at = index[:, None].expand(c, 2, 1, *rows)
    size = torch.gather(size.expand(c, 2, BINS, *rows), 2, at).squeeze(2)
    corner = torch.gather(upper.expand(c, 2, BINS, *rows), 2, at).squeeze(2) - size
    beside = torch.cat([log_w[:, :1], log_w, log_w[:, -1:]], dim=1).expand(c, BINS + 2, *rows)
    beside = torch.gather(beside, 1, torch.cat([index, index + 1, index + 2], dim=1))
    end = parameters.new_full((c, 1, *own), _SLOPE_OF_ONE)
    slopes = torch.cat([end, parameters[:, _LOGITS:], end], dim=1).expand(c, BINS + 1, *rows)
    slopes = softplus(torch.gather(slopes, 1, torch.cat([index, index + 1], dim=1))) + _LEAST
    d0, d1 = (slopes * torch.exp(-0.5 * (beside[:, :2] + beside[:, 1:]))).unbind(1)
    (x, y), (w, h) = corner.unbind(1), size.unbind(1)
    s = h / w
    return v, _Bin(x, y, w, h, d0, d1, s, torch.sub(d0 + d1, s, alpha=2))


def _pinned(v: Tensor, parameters: Tensor, temper: float, axis: int) -> _Bin:
    """The bin along x (axis 0) or y (axis 1), of a pinned spline: all knots are compared with v, then one bin is gathered."""
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
