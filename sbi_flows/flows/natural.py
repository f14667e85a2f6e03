"""From the logit scale of a bounded parameter to nearly its natural scale.

    value = (logit(t) - m) / c,   t in (0, 1) the position in the interval
    t = F(x),   F the distribution function of a uniform variable on [-1, 1] plus a logistic one of scale e
    noise = sqrt(3) x

With e small, x is 2 t - 1 but for a share of about e at either end, where it runs to infinity like a logit. A
narrow posterior that shifts with the data then has the same shape everywhere, which it has not on the logit
scale, and no mass can leave the interval. F and its inverse are in closed form:

    F(x) = e/2 [softplus((x + 1) / e) - softplus((x - 1) / e)]
    x = e log[(exp(2t/e) - 1) / (exp(1/e) - exp((2t - 1)/e))]

The edges are soft over e, so e has to be about as large as the posterior is wide: an edge much sharper than
the density beside it would be missed by the flow, and what lies beyond would gather at the bound.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from sbi_flows.arrays import F
from sbi_flows.flows.layers import Context, Layer, Value

_NEAR, _FAR = 1e-3, 15.0


class NaturalScale(Layer):
    """The map above for each component with an edge e > 0; the identity for the others, and for all at
    first.

    centre, scale (d,): m and c. edge (d,): e. Both directions cost nothing to speak of.
    """

    centre: Tensor
    scale: Tensor
    edge: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        for name, start in (("centre", 0.0), ("scale", 1.0), ("edge", 0.0)):
            self.register_buffer(name, torch.full((d,), start))

    def place(self, centre: F, scale: F, edge: F) -> None:
        """Set m, c and e."""
        for buffer, values in ((self.centre, centre), (self.scale, scale), (self.edge, edge)):
            buffer.copy_(torch.from_numpy(values))

    def to_noise(self, value: Value, context: Context) -> tuple[Tensor, Tensor]:
        parts, log_slopes = [], value.new_zeros(())
        for i, part in enumerate(value):
            if self.edge[i] > 0:
                part, log_slope = _to_natural(self.centre[i] + self.scale[i] * part, self.edge[i])
                log_slopes = log_slopes + log_slope + self.scale[i].log()
            parts.append(part)
        return torch.stack(parts), log_slopes

    def to_value(self, noise: Value, context: Context) -> tuple[Tensor, Tensor]:
        value = self.value(noise, context)
        return value, -self.to_noise(value, context)[1]

    def value(self, noise: Value, context: Context) -> Tensor:
        parts = [
            (_to_logit(part, self.edge[i]) - self.centre[i]) / self.scale[i] if self.edge[i] > 0 else part
            for i, part in enumerate(noise)
        ]
        return torch.stack(parts)


def _to_natural(logit: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(3) x, and the log of its slope in the logit."""
    log_t, log_rest = logsigmoid(logit), logsigmoid(-logit)
    a, b = 2 / edge * log_t.exp(), 2 / edge * log_rest.exp()
    log_two = torch.log(2 / edge)
    below, above = _log_one_minus_exp(a, log_two + log_t), _log_one_minus_exp(b, log_two + log_rest)
    x = edge * (a + below - 1 / edge - above)
    return math.sqrt(3) * x, math.log(2 * math.sqrt(3)) + torch.logaddexp(
        -below, -b - above
    ) + log_t + log_rest


def _to_logit(noise: Tensor, edge: Tensor) -> Tensor:
    """The logit at sqrt(3) x."""
    x = noise / math.sqrt(3)
    return _log_share(x, edge) - _log_share(-x, edge)


def _log_share(x: Tensor, edge: Tensor) -> Tensor:
    """log F(x)."""
    outer, inner = _log_softplus((x + 1) / edge), _log_softplus((x - 1) / edge)
    # from the middle on, 1 - F is the smaller part and has the digits
    return torch.where(
        x < 0,
        torch.log(edge / 2) + outer + torch.log1p(-torch.exp(inner - outer)),
        torch.log1p(-(edge / 2) * (softplus((1 - x) / edge) - softplus((-1 - x) / edge))),
    )


def _log_softplus(x: Tensor) -> Tensor:
    return torch.where(x < -_FAR, x - x.exp() / 2, softplus(x).log())


def _log_one_minus_exp(a: Tensor, log_a: Tensor) -> Tensor:
    """log(1 - exp(-a)) for a >= 0, whose logarithm is given because a may underflow."""
    near = log_a - a / 2 + a * a / 24
    return torch.where(a < _NEAR, near, torch.log(-torch.expm1(-a.clamp(min=_NEAR))))


def natural_scale_of(flow: nn.Module) -> NaturalScale | None:
    """The layer of this kind in a flow, if it has one."""
    return next((part for part in flow.modules() if isinstance(part, NaturalScale)), None)
