"""Latent stochastic differential equations: the paths of prior and posterior, and how far one is from the
other.

    prior        dz = h(z, t) dt + g(z, t) dW,  z_0 ~ p_0          posterior    dz = (h + g u) dt + g dW,  z_0
    ~ q_0 log dP/dQ    = log p_0(z_0) / q_0(z_0) - int u dW - 1/2 int |u|^2 dt,       u = (f - h) / g
    log p(x)    >= E_q[sum_k log p(x_k | z(t_k))] - KL(q_0 || p_0) - 1/2 E_q[int |u|^2 dt]

(Li et al. 2020, 2001.01328; Girsanov). The posterior is given by u, so its KL needs no division by g. The
martingale int u dW has mean zero and no place in the bound, but the importance weights p / q of paths need
it: without it they estimate something above log p(x).
On the steps of the Euler scheme, u frozen over each, all of this is exact: the weight of z_0, ..., z_S is the
ratio of two Markov chains.

A step from s to s + 1 of the solver's own clock is one of size delta_s of this series:  dz = delta f ds +
sqrt(delta) g dW_s. So series with times of their own take their steps side by side. torchsde (imported here
and nowhere else, when first needed) takes them; the
increments dW_s are drawn beforehand, row by row: they do not depend on what else is in a batch, and the
martingale is made of them.
"""

from __future__ import annotations

import math
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
from sbi_flows.flows.conditional import ConditionalFlow
from sbi_flows.vae.network import Decoder, Terms, gaussian_kl
from sbi_flows.vae.sde.networks import BackwardEncoder, Control, Own

_LOG_2PI = math.log(2 * math.pi)

Equation = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def solve(
    equation: Equation,
    y: Float[Tensor, "rows c"],
    increments: Float[Tensor, "rows S c"],
    *,
    method: str,
    ends: list[int],
) -> Float[Tensor, "ends rows c"]:
    """dy = f ds + g dW, with steps of length 1 from s = ends[0], where (f, g) = equation(s, y); y at each of
    `ends`, differentiable.

    method: "euler", of strong order 1/2, or "milstein", 1 where g_i depends on y_i alone. increments: W_{s+1}
    - W_s.
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
    """As `solve`, with gradients by y and `parameters` from an equation solved backwards: the steps in
    between are not kept in memory.
    """
    import torchsde

    clock = torch.tensor(ends, dtype=y.dtype)
    options = {
        "bm": _brownian(increments),
        "method": method,
        "adjoint_method": "milstein",
        "dt": 1.0,
        "adjoint_params": parameters,
    }
    found: Tensor = torchsde.sdeint_adjoint(_Ito(equation), y, clock, **options)
    return found


class _Ito:
    """What torchsde calls an equation."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, equation: Equation) -> None:
        self.f_and_g = equation

    def f(self, s: Tensor, y: Tensor) -> Tensor:
        return self.f_and_g(s, y)[0]

    def g(self, s: Tensor, y: Tensor) -> Tensor:
        return self.f_and_g(s, y)[1]


def _brownian(increments: Tensor) -> Any:
    """Increments over whole steps as torchsde's Brownian motion: W(b) - W(a) for whole numbers a and b."""
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
    """Those of p. start: mean and standard deviation of z_0."""

    drift: nn.Module
    diffusion: nn.Module
    start: tuple[F, F]
    decoder: Decoder


@dataclass(frozen=True, eq=False)
class PosteriorNetworks:
    """Those of q. flow: of the noise that makes z_0, given the reader's state.

    gaussian: "diagonal" or "full_rank" where the flow is a Gaussian of that kind, else "".
    """

    control: Control
    reader: BackwardEncoder
    flow: ConditionalFlow
    gaussian: str


class LatentPaths(nn.Module):
    """The generative model and its posterior: all networks of a latent SDE. Times are in units of its own."""

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
        """Latent numbers."""
        return self.flow.d

    def set_clock(self, origin: float, unit: float) -> None:
        """Tell the user's own modules when the model's time 0 is, and how long its unit of time."""
        for part in (self.drift, self.diffusion):
            if isinstance(part, Own):
                part.origin, part.unit = origin, unit

    def parameters_of(self, part: str | None) -> list[nn.Parameter]:
        """Those of p, the "model", or those of q, the "encoder"; none for None."""
        model = [
            *self.drift.parameters(),
            *self.diffusion.parameters(),
            *self.decoder.parameters(),
            self.mean,
            self.log_sd,
        ]
        names = {id(parameter) for parameter in model}
        others = [parameter for parameter in self.parameters() if id(parameter) not in names]
        return {"model": model, "encoder": others}.get(str(part), [])

    def shift(self, by: Float[Tensor, " m"]) -> None:
        """Become the model of x + by, for likelihoods whose first head is a mean."""
        self.reader.centre.add_(by)
        self.decoder.centre[0].add_(by)

    def first(self, noise: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """z_0 of the prior from N(0, I)."""
        return self.mean + self.log_sd.exp() * noise


class OnSteps(nn.Module):
    """A `LatentPaths` on the steps between some times, in the form in which `objective` and `bounds` take it.

    counts: steps between each time and the next. weighted: the terms make importance weights of paths, by the
    martingale; they are then not for training.
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
        """Numbers of noise that one path takes."""
        return (1 + len(self.interval)) * self.paths.d

    def forward(self, packed: Float[Tensor, "rows T w"], noise: Float[Tensor, "rows n k"]) -> Terms:
        """The terms of the bound at the paths that the noise makes; the KL in two columns: z_0, and the
        path.
        """
        z, log_ratio, kl_start, kl_path = self.run(packed, noise)
        m = self.paths.decoder.m
        x, seen = packed[:, None, :, :m], packed[:, None, :, m : 2 * m] > 0.5
        each = self.paths.decoder.likelihood.each(x, self.paths.decoder(z), self.paths.decoder.free)
        log_likelihood = torch.where(seen, each, torch.zeros_like(each)).sum(dim=(2, 3))
        return Terms(
            log_likelihood, torch.zeros_like(log_ratio), log_ratio, torch.stack([kl_start, kl_path], dim=1)
        )

    def run(self, packed: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """z at the times, (rows, n, T, d); log q / p of z_0 and, where it is weighted, of the path, (rows,
        n); KLs of both, (rows,).
        """
        paths, (rows, n, _) = self.paths, noise.shape
        m, d = paths.decoder.m, paths.d
        x, seen, times = packed[..., :m], packed[..., m : 2 * m] > 0.5, packed[..., -1]
        states, following, left = paths.reader(x, seen, times)
        first = noise[..., :d]
        start, log_q = paths.flow.draw(first, states[:, :1])
        log_ratio = log_q + 0.5 * (start.square().sum(dim=2) + d * _LOG_2PI)
        kl = (
            gaussian_kl(paths.flow, paths.gaussian, states[:, 0]).sum(dim=1)
            if paths.gaussian
            else log_ratio.mean(dim=1)
        )
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
        shared = (
            *self.paths.drift.parameters(),
            *self.paths.diffusion.parameters(),
            *self.paths.control.parameters(),
        )
        found = [y]
        for k, piece in enumerate(pairwise(ends)):
            equation, context = steered.within(k, piece[1] - 1)
            y = solve_by_adjoint(
                equation, y, increments, method=self.method, ends=list(piece), parameters=(*shared, context)
            )[-1]
            found.append(y)
        return torch.stack(found)


class _Steered:
    """The posterior's equation of n paths a series, with 1/2 int |u|^2 dt as one more component, on the
    solver's clock.
    """

    def __init__(
        self, steps: OnSteps, times: Tensor, states: Tensor, following: Tensor, left: Tensor, n: int
    ) -> None:
        self.paths, self.interval = steps.paths, steps.interval
        self.last = len(self.interval) - 1

        def of_paths(part: Tensor) -> Tensor:
            return part.repeat_interleave(n, dim=0).movedim(1, 0)

        sizes = (times[:, 1:] - times[:, :-1]) / torch.from_numpy(steps.counts).to(times)
        within = np.arange(len(self.interval)) - np.repeat(
            np.array(steps.ends[:-1], dtype=np.int64), steps.counts
        )
        size = sizes[:, self.interval]
        time = times[:, self.interval] + size * torch.from_numpy(within).to(times)
        self.size, self.time = of_paths(size), of_paths(time)
        self.ahead = of_paths((following[:, 1:][:, self.interval] - time).clamp(min=0))
        self.steered = of_paths(left[:, 1:][:, self.interval]).to(times)
        self.states = of_paths(states[:, 1:])
        self.root = self.size.sqrt()[..., None]
        self.context: Tensor | None = None

    def within(self, k: int, last: int) -> tuple[Equation, Tensor]:
        """The equation within interval k, whose last step is given, and the tensor that holds what it knows
        of the data.
        """
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
        """int u dW of paths whose z at the beginning of each step is given."""
        total = z.new_zeros(z.shape[1])
        for k, interval in enumerate(self.interval):
            u = (
                self.paths.control(z[k], self.states[interval], self.ahead[k])
                * (self.steered[k] * self.size[k].sqrt())[:, None]
            )
            total = total + (u * increments[:, k]).sum(dim=1)
        return total
