"""Flow matching: a flow given by a velocity field, trained by regression without solving an equation.

With noise e ~ N(0, I), the path from noise to value

    x = sin(phi) value + cos(phi) e,      dx/dphi = cos(phi) value - sin(phi) e

has for each phi in [0, pi/2] the expected velocity F(x, phi; c), and its flow takes N(0, I) to q(value | c):
F minimises the expected square of F - dx/dphi (Lipman et al. 2023, 2210.02747; for posteriors, Wildberger et
al. 2023, 2305.17161). On this quarter of a circle a Gaussian N(0, I) stays what it is: F = 0 is then right,
and the flow starts at the identity. Time is measured by eta,

    cos(phi) = 1 / cosh(eta) =: sigma,     sin(phi) = tanh(eta) =: alpha,     dx/deta = sigma F,

from 0 to where sigma is 0.002. It is uniform in eta when training and solving, so each halving of the noise
has an equal part; with the weight alpha the loss bounds -log q from above, in nats (Kingma et al. 2021,
2107.00630).

The noise of a value is what Runge-Kutta steps of order 4 and fixed size from sigma = 0.002 to 1 make of it.
That is a smooth map whose Jacobian matrix is carried along exactly, so `log_prob` is the density of this
discrete map, normalised to rounding whatever the number of steps, and the same for a row alone or in a batch.
`settle` chooses the number of steps after training, such that twice as many change the mean log density of
held-out rows by less than 0.002 nats. Without gradients, `value` takes the steps back in float32: for 99% of
rows, `to_noise` of the result is within 1e-3 of the noise. `to_value`
and `draw` remove this error by Newton's method.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.errors import SettingsError
from sbi_flows.flows.conditional import LOG_2PI, ConditionalFlow, log_standard_normal
from sbi_flows.flows.layers import Context, Layer, Value
from sbi_flows.flows.velocity import Given, VelocityNet

_SIGMA = 0.002
_TIMES = 8
_STEPS, _FEWEST, _MOST = 16, 8, 64
_TOLERANCE, _NATS = 1e-3, 2e-3
_REFINEMENTS = 4
_QUANTILE = 0.99


class Transport(Layer):
    """noise = the end of the path that leads back from the value along a velocity field, given the context.

    width, blocks: units of the network of the velocity, and residual blocks in it.
    steps: of a path; a buffer, so that it is kept with the weights.
    """

    cheap = frozenset[str]()
    steps: Tensor

    def __init__(self, d: int, context: int, width: int, blocks: int) -> None:
        super().__init__()
        self.end = math.acosh(1 / _SIGMA)
        self.net = VelocityNet(d, context, width, blocks, self.end)
        self.register_buffer("steps", torch.tensor(_STEPS))

    def to_noise(self, value: Value, context: Context) -> tuple[Tensor, Tensor]:
        noise, jacobian = self._with_jacobian(value, self.net.given(context))
        return noise, torch.linalg.slogdet(jacobian).logabsdet

    def to_value(self, noise: Value, context: Context) -> tuple[Tensor, Tensor]:
        given = self.net.given(context)
        with torch.no_grad():
            value = self._refined(noise, given)
        if torch.is_grad_enabled():  # one step of Newton's method from the root has the root's derivative
            reached, jacobian = self._with_jacobian(value, given)
            value = value + _solved(jacobian.detach(), noise - reached)
        return value, -torch.linalg.slogdet(self._with_jacobian(value, given)[1]).logabsdet

    def value(self, noise: Value, context: Context) -> Tensor:
        if torch.is_grad_enabled():
            return _path(self, noise[:, None], self.net.given(context), back=False)[:, 0]
        single = copy.deepcopy(self).float()  # half the time; its rounding is far below that of the steps
        given = single.net.given(context.float())
        return _path(single, noise[:, None].float(), given, back=False)[:, 0].to(noise)

    def regression(self, value: Value, context: Context) -> Float[Tensor, " *rows"]:
        """The integral over eta of tanh(eta) |F - dx/dphi|^2 less its value for a Gaussian, plus the entropy
        of that: a bound on -log q per row in nats, with an error of mean zero.

        eta is stratified, and each e comes with -e. In evaluation mode both are the same for each call.
        """
        eta, noise = self._times_and_noise(value)
        sigma, alpha = 1 / torch.cosh(eta), torch.tanh(eta)
        x = alpha * value[..., None] + sigma * noise
        wanted = sigma * value[..., None] - alpha * noise
        found = self.net(x[:, None], eta, self.net.given(context[..., None]))[:, 0]
        error = (found - wanted).square().sum(dim=0)
        of_gaussian = len(value) * math.log(1 / _SIGMA)
        weighted: Tensor = self.end * (alpha * error).mean(dim=-1)
        return weighted - of_gaussian + 0.5 * len(value) * (1 + LOG_2PI)

    def _times_and_noise(self, value: Value) -> tuple[Tensor, Tensor]:
        """(*rows, times) and (d, *rows, times)."""
        generator = None if self.training else torch.Generator(value.device).manual_seed(0)
        rows, half = value.shape[1:], _TIMES // 2
        drawn = torch.rand(*rows, 1, generator=generator, dtype=value.dtype, device=value.device)
        eta = self.end / half * (drawn + torch.arange(half).to(value))
        noise = torch.randn(*value.shape, half, generator=generator, dtype=value.dtype, device=value.device)
        return torch.cat([eta, eta], dim=-1), torch.cat([noise, -noise], dim=-1)

    def _with_jacobian(self, value: Value, given: Given) -> tuple[Tensor, Tensor]:
        """noise (d, *rows) and d noise / d value (*rows, d, d)."""
        d, *rows = value.shape
        unit = torch.eye(d, dtype=value.dtype, device=value.device).view(d, d, *(1,) * len(rows))
        x = _path(self, torch.cat([value[:, None], unit.expand(d, d, *rows)], dim=1), given, back=True)
        return x[:, 0], x[:, 1:].movedim((0, 1), (-2, -1))

    def _refined(self, noise: Value, given: Given) -> Tensor:
        """The root of `to_noise` by Newton's method; each row keeps the best that it came by."""
        best = value = _path(self, noise[:, None], given, back=False)[:, 0]
        least = torch.full_like(noise[0], math.inf)
        for _ in range(_REFINEMENTS):
            reached, jacobian = self._with_jacobian(value, given)
            off = (noise - reached).abs().amax(dim=0)
            better = off < least
            best, least = torch.where(better, value, best), torch.where(better, off, least)
            value = value + _solved(jacobian, noise - reached)
        return best

    @torch.no_grad()
    def settle(self, value: Value, context: Context) -> None:
        """Set `steps` to the fewest, of 8, 16, 32 and 64, with which the paths of these rows are solved.

        Twice as many then change the mean of log q by less than 0.002 nats, and `value` takes 99% of the rows
        back to within 0.001 of the noise; unless even 64 do not.
        """
        self.steps.fill_(_FEWEST)
        found, returned = self._solution(value, context)
        while int(self.steps) < _MOST:
            coarse = found, returned
            self.steps.mul_(2)
            found, returned = self._solution(value, context)
            if abs(float(found - coarse[0])) < _NATS and float(coarse[1]) < _TOLERANCE:
                self.steps.div_(2, rounding_mode="floor")
                return

    def _solution(self, value: Value, context: Context) -> tuple[Tensor, Tensor]:
        """The mean log q of these rows, and how far 99% of them are from where `value` brings their noise."""
        noise, log_det = self.to_noise(value, context)
        again, _ = self.to_noise(self.value(noise, context), context)
        off = (again - noise).abs().amax(dim=0).flatten()
        return (log_det + log_standard_normal(noise, dim=0)).mean(), torch.quantile(off, _QUANTILE)


class FlowMatching(ConditionalFlow):
    """q(value | context) by flow matching, with one layer, a `Transport`.

    A conditional affine layer before it would move the target of the regression while it is learned.

    Raises `SettingsError` for other layers.
    """

    def __init__(self, d: int, context: int, layers: Sequence[Layer]) -> None:
        super().__init__(d, context, layers)
        if len(layers) != 1 or not isinstance(layers[0], Transport):
            given = ", ".join(type(layer).__name__ for layer in layers)
            raise SettingsError(f"FlowMatching takes one Transport as its only layer, got [{given}].")
        self.layers = nn.ModuleList(layers)

    def loss(
        self, value: Float[Tensor, "*rows d"], context: Float[Tensor, "*#rows k"]
    ) -> Float[Tensor, "*rows"]:
        """A bound on -log q per row, in nats, with an error of mean zero (`Transport.regression`)."""
        return self._transport.regression(*self._leading(value, context))

    @torch.no_grad()
    def settle(self, value: Float[Tensor, "rows d"], context: Float[Tensor, "rows k"]) -> None:
        """Choose the number of steps by rows that were not trained on (`Transport.settle`)."""
        self._transport.settle(*self._leading(value, context))

    @property
    def _transport(self) -> Transport:
        return cast(Transport, self.layers[0])


def _path(layer: Transport, x: Float[Tensor, "d j *rows"], given: Given, *, back: bool) -> Tensor:
    """Runge-Kutta steps of order 4 from the noise to the value, or back; x[:, 1:] are directions."""
    steps = int(layer.steps)
    step = -layer.end / steps if back else layer.end / steps
    for i in range(steps):
        eta = (layer.end if back else 0.0) + i * step
        k_1 = _slope(layer.net, eta, x, given)
        k_2 = _slope(layer.net, eta + step / 2, x + step / 2 * k_1, given)
        k_3 = _slope(layer.net, eta + step / 2, x + step / 2 * k_2, given)
        k_4 = _slope(layer.net, eta + step, x + step * k_3, given)
        x = x + step / 6 * (k_1 + 2 * (k_2 + k_3) + k_4)
    return x


def _slope(net: VelocityNet, eta: float, x: Float[Tensor, "d j *rows"], given: Given) -> Tensor:
    """dx/deta at one time."""
    time = torch.full((1,) * (x.ndim - 2), eta, dtype=x.dtype, device=x.device)
    velocity: Tensor = net(x, time, given)
    return velocity / math.cosh(eta)


def _solved(jacobian: Float[Tensor, "*rows d d"], right: Value) -> Value:
    """jacobian^-1 right."""
    found: Tensor = torch.linalg.solve(jacobian, right.movedim(0, -1))
    return found.movedim(-1, 0)
