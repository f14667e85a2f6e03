"""The only file that imports nflows: its masked networks, splines and permutations as layers that start at the identity.

Direction. A layer's `to_noise(value, context)` returns (noise, log |det d noise / d value|); `to_value` is its inverse. nflows calls
these `forward` and `inverse`.

Only `nflows.transforms` and `nflows.nn.nets` are used (PyPI 0.14): `nflows.flows` and `nflows.distributions` import matplotlib, its
affine coupling cannot expand, and its affine autoregressive layer starts at scale softplus(0) = 0.69, which is corrected here.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from nflows.nn.nets import ResidualNet
from nflows.transforms import (
    MaskedAffineAutoregressiveTransform,
    MaskedPiecewiseRationalQuadraticAutoregressiveTransform,
    Permutation,
    PiecewiseRationalQuadraticCouplingTransform,
)
from torch import Tensor, nn

_BINS = 8
_TAIL_BOUND = 5.0
_BLOCKS = 1
_UNIT_SLOPE = math.log(math.expm1(1 - 1e-3))
_UNIT_SCALE = math.log(math.expm1(1.0))


class Layer(nn.Module):
    """One invertible step. `cheap` names the directions that cost one pass of the network: "density", "sample" or both."""

    cheap: frozenset[str] = frozenset({"density", "sample"})

    def to_noise(self, value: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, d) -> noise (rows, d), log |det d noise / d value| (rows,)."""
        raise TypeError(f"{type(self).__name__} has no density direction")

    def to_value(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, d) -> value (rows, d), log |det d value / d noise| (rows,)."""
        raise TypeError(f"{type(self).__name__} has no sampling direction")


class _Nflows(Layer):
    """A layer that an nflows transform carries out."""

    def __init__(self, transform: Any, cheap: frozenset[str]) -> None:
        super().__init__()
        self._transform = transform
        self.cheap = cheap

    def to_noise(self, value: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        noise, log_det = self._transform(value, context=context)
        return noise, log_det

    def to_value(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        value, log_det = self._transform.inverse(noise, context=context)
        return value, log_det


class AffineCoupling(Layer):
    """noise_b = (value_b - m(value_a, c)) exp(-s(value_a, c)), |s| < 3; the components a pass through. Dinh et al. (2017), 1605.08803."""

    def __init__(self, d: int, context: int, hidden: int, flip: bool) -> None:
        super().__init__()
        order = torch.arange(d)
        first = order % 2 == int(flip)
        self._a, self._b = order[first].tolist(), order[~first].tolist()
        self._net = _residual_net(int(first.sum()), 2 * int((~first).sum()), context, hidden)
        _shrink(self._net.final_layer)

    def _shift_and_log_scale(self, part: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = self._net(part, context).chunk(2, dim=-1)
        return shift, 3 * torch.tanh(raw / 3)

    def to_noise(self, value: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._shift_and_log_scale(value[:, self._a], context)
        noise = value.clone()
        noise[:, self._b] = (value[:, self._b] - shift) * torch.exp(-log_scale)
        return noise, -log_scale.sum(dim=-1)

    def to_value(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._shift_and_log_scale(noise[:, self._a], context)
        value = noise.clone()
        value[:, self._b] = noise[:, self._b] * torch.exp(log_scale) + shift
        return value, log_scale.sum(dim=-1)


def affine_autoregressive(d: int, context: int, hidden: int) -> Layer:
    """noise_i = (value_i - m_i(value_<i, c)) / s_i(value_<i, c). Papamakarios et al. (2017), 1705.07057."""
    transform = MaskedAffineAutoregressiveTransform(
        d, hidden, context_features=context, num_blocks=_BLOCKS, use_residual_blocks=True, activation=nn.functional.silu
    )
    final = transform.autoregressive_net.final_layer
    _shrink(final)
    with torch.no_grad():
        final.bias.view(d, 2)[:, 0] = _UNIT_SCALE
    return _Nflows(transform, frozenset({"density"}))


def spline_autoregressive(d: int, context: int, hidden: int) -> Layer:
    """noise_i = monotone rational-quadratic spline of value_i, its knots from (value_<i, c). Durkan et al. (2019), 1906.04032.

    The spline acts on [-5, 5] and is the identity outside.
    """
    transform = MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
        d,
        hidden,
        context_features=context,
        num_bins=_BINS,
        tails="linear",
        tail_bound=_TAIL_BOUND,
        num_blocks=_BLOCKS,
        use_residual_blocks=True,
        activation=nn.functional.silu,
    )
    final = transform.autoregressive_net.final_layer
    _shrink(final)
    with torch.no_grad():
        final.bias.view(d, -1)[:, 2 * _BINS :] = _UNIT_SLOPE
    return _Nflows(transform, frozenset({"density"}))


def spline_coupling(d: int, context: int, hidden: int, flip: bool) -> Layer:
    """A coupling layer whose moved components go through rational-quadratic splines; cheap in both directions."""

    def net(inputs: int, outputs: int) -> Any:
        made = _residual_net(inputs, outputs, context, hidden)
        _shrink(made.final_layer)
        with torch.no_grad():
            made.final_layer.bias.view(-1, 3 * _BINS - 1)[:, 2 * _BINS :] = _UNIT_SLOPE
        return made

    mask = (torch.arange(d) % 2 != int(flip)).long()
    transform = PiecewiseRationalQuadraticCouplingTransform(mask, net, num_bins=_BINS, tails="linear", tail_bound=_TAIL_BOUND)
    return _Nflows(transform, frozenset({"density", "sample"}))


def permutation(order: Tensor) -> Layer:
    """Reorder the components: noise[:, i] = value[:, order[i]]."""
    return _Nflows(Permutation(order), frozenset({"density", "sample"}))


def _residual_net(inputs: int, outputs: int, context: int, hidden: int) -> Any:
    return ResidualNet(inputs, outputs, hidden, context_features=context, num_blocks=_BLOCKS, activation=nn.functional.silu)


def _shrink(final: nn.Linear) -> None:
    with torch.no_grad():
        final.weight.mul_(0.01)
        final.bias.zero_()
