"""Latent stochastic differential equations: paths of the prior and the posterior, and the KL between them.

    prior           dz = h(z, t) dt + g(z, t) dW,     z_0 ~ p_0
    posterior       dz = (h + g u) dt + g dW,         z_0 ~ q_0,        u = (f - h) / g, f its drift
    log dP/dQ       = log p_0(z_0) / q_0(z_0) - int u dW - 1/2 int |u|^2 dt
    log p(x)       >= E_q[sum_k log p(x_k | z(t_k))] - KL(q_0 || p_0) - 1/2 E_q[int |u|^2 dt]

(Li et al. 2020, 2001.01328; Girsanov). The networks give u, so that the KL needs no division by g. The
martingale int u dW has mean zero, so the bound leaves it out. The importance weights p / q of paths need it:
without it their mean exceeds p(x). On the steps of the Euler scheme, with u constant over each, all of this
is exact: the weight of z_0, ..., z_S is the ratio of the densities of two Markov chains.

The solver runs on a clock of its own. A step from s to s + 1 is one of size delta_s in the time of each
series:  dz = delta f ds + sqrt(delta) g dW_s. So series with different times take their steps in parallel.
The increments dW_s are drawn beforehand, row by row: they do not depend on the rest of the batch, and the
martingale is computed from them. torchsde takes the steps; it is imported here only, when first needed.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from sbi_flows.arrays import F
from sbi_flows.flows.conditional import ConditionalFlow, log_standard_normal
from sbi_flows.vae.network import Decoder, Terms, gaussian_kl
from sbi_flows.vae.sde.networks import BackwardEncoder, Control, Own

Equation = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def solve(
    equation: Equation,
    y: Float[Tensor, "rows c"],
    increments: Float[Tensor, "rows S c"],
    *,
    method: str,
    ends: list[int],
) -> Float[Tensor, "ends rows c"]:
    """Solve dy = f ds + g dW, (f, g) = equation(s, y), by steps of length 1: y at each of `ends`,
    differentiable.

    y: its value at s = ends[0].
    increments: W_{s+1} - W_s.
    method: "euler", of strong order 1/2, or "milstein", of order 1 if g_i depends on y_i alone.
    """
    import torchsde

    clock = torch.tensor(ends, dtype=y.dtype)
    found: Tensor = torchsde.sdeint(_Ito(equation), y, clock, bm=_brownian(increments), method=method, dt=1.0)
    return found


def solve_by_adjoint(
    equation: Equation,
    y: Float[Tensor, "rows c"],
    increments: Float[Tensor, "rows S c"],
    *,
    method: str,
    ends: list[int],
    parameters: tuple[Tensor, ...],
) -> Float[Tensor, "ends rows c"]:
    """As `solve`, with the gradients by y and `parameters` from an equation solved backwards: no steps are
    kept in memory.
    """
    import torchsde

    clock = torch.tensor(ends, dtype=y.dtype)
    methods = {"method": method, "adjoint_method": "milstein"}
    options = {"bm": _brownian(increments), "dt": 1.0, "adjoint_params": parameters, **methods}
    found: Tensor = torchsde.sdeint_adjoint(_Ito(equation), y, clock, **options)
    return found


class _Ito:
    """An equation in the form that torchsde expects."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, equation: Equation) -> None:
        self.f_and_g = equation

    def f(self, s: Tensor, y: Tensor) -> Tensor:
        return self.f_and_g(s, y)[0]

    def g(self, s: Tensor, y: Tensor) -> Tensor:
        return self.f_and_g(s, y)[1]


def _brownian(increments: Tensor) -> Any:
    """torchsde's Brownian motion from given increments: W(b) - W(a) for whole numbers a and b."""
    import torchsde

    class Increments(torchsde.BaseBrownian):  # type: ignore[misc]
        dtype, device, levy_area_approximation = increments.dtype, increments.device, "none"
        shape = (increments.shape[0], increments.shape[2])

        def __call__(self, ta: Any, tb: Any = None, return_U: bool = False, return_A: bool = False) -> Tensor:  # noqa: N803
            return increments[:, round(float(ta)) : round(float(tb))].sum(dim=1)

        def __repr__(self) -> str:
            return "increments drawn beforehand"

    return Increments()


@dataclass(frozen=True, eq=False)
class GenerativeNetworks:
    """The networks of p. start: mean and standard deviation of z_0."""

    drift: nn.Module
    diffusion: nn.Module
    start: tuple[F, F]
    decoder: Decoder


@dataclass(frozen=True, eq=False)
class PosteriorNetworks:
    """The networks of q.

    flow: the distribution of the noise that gives z_0, conditional on the reader's state.
    gaussian: "diagonal" or "full_rank" where the flow is a Gaussian of that kind, else "".
    """

    control: Control
    reader: BackwardEncoder
    flow: ConditionalFlow
    gaussian: str


class LatentPaths(nn.Module):
    """All networks of a latent SDE, with times in the model's own units."""

    def __init__(self, model: GenerativeNetworks, posterior: PosteriorNetworks) -> None:
        super().__init__()
        # The order of the parameters is that of checkpoints, and of the sum in the norm of the gradient.
        self.drift, self.diffusion, self.control = model.drift, model.diffusion, posterior.control
        self.reader, self.flow, self.decoder = posterior.reader, posterior.flow, model.decoder
        self.gaussian = posterior.gaussian
        mean, sd = model.start
        self.mean, self.log_sd = (nn.Parameter(torch.tensor(part)) for part in (mean, np.log(sd)))

    @property
    def d(self) -> int:
        """Number of latent variables."""
        return self.flow.d

    def set_clock(self, origin: float, unit: float) -> None:
        """Tell the user's own modules the model's time origin and unit of time."""
        for part in (self.drift, self.diffusion):
            if isinstance(part, Own):
                part.origin, part.unit = origin, unit

    def parameters_of(self, part: str | None) -> list[nn.Parameter]:
        """The parameters of p, for "model", or of q, for "encoder"; none for None."""
        modules = (self.drift, self.diffusion, self.decoder)
        model = [*(parameter for one in modules for parameter in one.parameters()), self.mean, self.log_sd]
        of_model = {id(parameter) for parameter in model}
        others = [parameter for parameter in self.parameters() if id(parameter) not in of_model]
        return {"model": model, "encoder": others}.get(str(part), [])

    def shift(self, by: Float[Tensor, " m"]) -> None:
        """Turn the model of x into that of x + by, where the likelihood's first head is a mean."""
        self.reader.centre.add_(by)
        self.decoder.centre[0].add_(by)

    def first(self, noise: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """z_0 of the prior, from noise from N(0, I)."""
        return self.mean + self.log_sd.exp() * noise


class OnSteps(nn.Module):
    """A `LatentPaths` on a grid of time steps: the module that `objective` and `bounds` evaluate.

    counts: steps between each time and the next.
    method, adjoint: the solver, and whether gradients are solved backwards.
    weighted: whether the terms include the martingale, for importance weights of paths rather than training.
    """

    def __init__(
        self,
        paths: LatentPaths,
        counts: NDArray[np.int64],
        *,
        method: str = "euler",
        adjoint: bool = False,
        weighted: bool = False,
    ) -> None:
        super().__init__()
        self.paths, self.method, self.adjoint = paths, method, adjoint
        self.weighted, self.counts = weighted, counts
        self.interval = np.repeat(np.arange(len(counts)), counts)
        self.ends = [0, *(int(end) for end in np.cumsum(counts))]

    @property
    def noise_width(self) -> int:
        """Random numbers per path."""
        return (1 + len(self.interval)) * self.paths.d

    def forward(self, packed: Float[Tensor, "rows T w"], noise: Float[Tensor, "rows n k"]) -> Terms:
        """The terms of the bound, one path per row of noise. The KL has two parts, for z_0 and for the path
        from there.
        """
        z, log_ratio, kl_start, kl_path = self.run(packed, noise)
        decoder, m = self.paths.decoder, self.paths.decoder.m
        x, seen = packed[:, None, :, :m], packed[:, None, :, m : 2 * m] > 0.5
        each = decoder.likelihood.each(x, decoder(z), decoder.free)
        log_likelihood = torch.where(seen, each, torch.zeros_like(each)).sum(dim=(2, 3))
        kl = torch.stack([kl_start, kl_path], dim=1)
        return Terms(log_likelihood, torch.zeros_like(log_ratio), log_ratio, kl)

    def run(self, packed: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """z at the times, (rows, n, T, d); log q / p of z_0 and, if weighted, of the path, (rows, n); the KLs
        of z_0 and of the path, (rows,).
        """
        paths, (rows, n, _) = self.paths, noise.shape
        m, d = paths.decoder.m, paths.d
        x, seen, times = packed[..., :m], packed[..., m : 2 * m] > 0.5, packed[..., -1]
        states, following, left = paths.reader(x, seen, times)
        start, log_q = paths.flow.draw(noise[..., :d], states[:, :1])
        log_ratio = log_q - log_standard_normal(start)
        if paths.gaussian:
            kl = gaussian_kl(paths.flow, paths.gaussian, states[:, 0]).sum(dim=1)
        else:
            kl = log_ratio.mean(dim=1)
        steered = _Steered(self, times, states, following, left, n)
        increments = noise[..., d:].reshape(rows * n, -1, d)
        y = torch.cat([paths.first(start).reshape(rows * n, d), noise.new_zeros(rows * n, 1)], dim=1)
        along = self._solved(steered, y, nn.functional.pad(increments, (0, 1)))
        energy = along[-1, :, d].reshape(rows, n)
        z = along[self.ends if self.weighted else slice(None), :, :d]
        if self.weighted:
            martingale = steered.martingale(along[:-1, :, :d], increments).reshape(rows, n)
            log_ratio = log_ratio + energy + martingale
        return z.reshape(-1, rows, n, d).permute(1, 2, 0, 3), log_ratio, kl, energy.mean(dim=1)

    def prior(
        self, times: Float[Tensor, "rows T"], noise: Float[Tensor, "rows n k"]
    ) -> Float[Tensor, "rows n T d"]:
        """Paths of the prior at the times."""
        d, (rows, n, _) = self.paths.d, noise.shape
        nothing = times.new_zeros(rows, times.shape[1], self.paths.reader.cell.hidden_size)
        unsteered = _Steered(self, times, nothing, times, torch.zeros_like(times, dtype=torch.bool), n)
        y = nn.functional.pad(self.paths.first(noise[..., :d]).reshape(-1, d), (0, 1))
        along = self._solved(unsteered, y, nn.functional.pad(noise[..., d:].reshape(rows * n, -1, d), (0, 1)))
        return along[..., :d].reshape(-1, rows, n, d).permute(1, 2, 0, 3)

    def _solved(self, steered: _Steered, y: Tensor, increments: Tensor) -> Tensor:
        ends = list(range(len(self.interval) + 1)) if self.weighted else self.ends
        if len(ends) == 1:
            return y[None]
        if not (self.adjoint and torch.is_grad_enabled()):
            return solve(steered.equation, y, increments, method=self.method, ends=ends)
        networks = (self.paths.drift, self.paths.diffusion, self.paths.control)
        shared = [parameter for network in networks for parameter in network.parameters()]
        found = [y]
        for k, piece in enumerate(pairwise(ends)):
            equation, context = steered.within(k, piece[1] - 1)
            given, parts = (*shared, context), list(piece)
            ys = solve_by_adjoint(equation, y, increments, method=self.method, ends=parts, parameters=given)
            y = ys[-1]
            found.append(y)
        return torch.stack(found)


class _Steered:
    """The posterior's equation for n paths per series, on the solver's clock, with 1/2 int |u|^2 dt as a last
    component.

    states, following, left: from the `BackwardEncoder`, at each time.
    """

    def __init__(
        self, steps: OnSteps, times: Tensor, states: Tensor, following: Tensor, left: Tensor, n: int
    ) -> None:
        self.paths, self.interval = steps.paths, steps.interval
        self.last = len(self.interval) - 1

        def of_paths(part: Tensor) -> Tensor:
            return part.repeat_interleave(n, dim=0).movedim(1, 0)

        gaps = times[:, 1:] - times[:, :-1]
        size = (gaps / torch.from_numpy(steps.counts).to(times))[:, self.interval]
        starts = np.array(steps.ends[:-1], dtype=np.int64)
        within = np.arange(len(self.interval)) - np.repeat(starts, steps.counts)
        time = times[:, self.interval] + size * torch.from_numpy(within).to(times)
        self.size, self.time = of_paths(size), of_paths(time)
        self.ahead = of_paths((following[:, 1:][:, self.interval] - time).clamp(min=0))
        self.steered = of_paths(left[:, 1:][:, self.interval]).to(times)
        self.states = of_paths(states[:, 1:])
        self.root = self.size.sqrt()[..., None]
        self.context: Tensor | None = None

    def within(self, k: int, last: int) -> tuple[Equation, Tensor]:
        """The equation within interval k, up to the step `last`, and the context that it depends on there."""
        other, context = copy(self), self.states[k]
        other.context, other.last = context, last
        return other.equation, context

    def equation(self, s: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Drift delta (h + g u, |u|^2 / 2) and diffusion sqrt(delta) (g, 0)."""
        k, z = min(int(s), self.last), y[:, :-1]
        since = (float(s) - k) * self.size[k]
        time = self.time[k] + since
        context = self.states[self.interval[k]] if self.context is None else self.context
        u = self.paths.control(z, context, (self.ahead[k] - since).clamp(min=0)) * self.steered[k][:, None]
        g = self.paths.diffusion(z, time)
        f = torch.cat([self.paths.drift(z, time) + g * u, 0.5 * u.square().sum(dim=1, keepdim=True)], dim=1)
        return f * self.size[k][:, None], torch.cat([g * self.root[k], torch.zeros_like(z[:, :1])], dim=1)

    def martingale(
        self, z: Float[Tensor, "S paths d"], increments: Float[Tensor, "paths S d"]
    ) -> Float[Tensor, " paths"]:
        """int u dW per path. z: at the beginning of each step."""
        total = z.new_zeros(z.shape[1])
        for k, interval in enumerate(self.interval):
            u = self.paths.control(z[k], self.states[interval], self.ahead[k])
            scaled = u * (self.steered[k] * self.size[k].sqrt())[:, None]
            total = total + (scaled * increments[:, k]).sum(dim=1)
        return total
