"""q(theta | y) in float64: draws and densities of an ensemble on the original scale.

    theta = T^-1(m + c u),   u = flow^-1(zeta; s(y)),   zeta ~ N(0, I)
    log q(theta | y) = log q_flow(u | s(y)) - sum log c + log |det dT/dtheta|

After `sf.recalibrate`, zeta ~ N(b, diag(a^2)) instead of N(0, I), in the density as in the draws.

Spline inverses are exact to rounding in float64, draws of a flow-matching member to the tolerance that
`flows.matching` states. A row gives the same number alone or in a batch (to the rounding of the simulator's
own function, where its declared summaries join). There is no rejection step: T^-1 ends inside the prior's
support whatever u is, and q integrates to one over that support.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sbi_flows.arrays import F
from sbi_flows.errors import ObservationError
from sbi_flows.flows.conditional import ConditionalFlow
from sbi_flows.nets.inputs import Inputs, Seen
from sbi_flows.npe.network import Ensemble, log_mixture
from sbi_flows.problem.prior import Prior
from sbi_flows.rng import stream

_DRAWS_AT_ONCE, _DENSITIES_AT_ONCE, _EVENTS_AT_ONCE = 8192, 2048, 1024
_TOO_LARGE = 1e100  # beyond it squares and exponentials of the network leave floating point


class Summarised(NamedTuple):
    """Some events, what the network takes of them, and their summaries."""

    events: Float[np.ndarray, "m *event"]
    seen: Seen
    summaries: Float[Tensor, "m k"]


@dataclass(frozen=True, eq=False)
class Density:
    """network: in float64. centre, scale: m and c above. shift, spread: b and a, None where it was not
    recalibrated.
    """

    prior: Prior
    network: Ensemble
    inputs: Inputs
    centre: F
    scale: F
    shift: F | None
    spread: F | None

    @torch.no_grad()
    def summarised(self, stack: Float[np.ndarray, "m *event"]) -> Iterator[Summarised]:
        """The stack in parts. Raises `ObservationError` where scaling overflows."""
        for start in range(0, len(stack), _EVENTS_AT_ONCE):
            part = stack[start : start + _EVENTS_AT_ONCE]
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                seen = self.inputs(part)
            if not all(_usable(data, self.inputs.masked) for data in seen.parts):
                raise ObservationError(
                    "the observed data are too large to be scaled in floating point. Check their units."
                )
            yield Summarised(part, seen, self.network.summary(*map(torch.from_numpy, seen.parts)))

    def contexts(self, stack: Float[np.ndarray, "m *event"]) -> Tensor:
        """The summaries of a stack."""
        return torch.cat([part.summaries for part in self.summarised(stack)])

    def draw(self, contexts: Tensor, n: int, seed: int) -> Float[np.ndarray, "m n d"]:
        """n draws per context: n w_k from member k, rounded up or down at random, in random order."""
        members = self._members(contexts)
        weights = self.network.mixture_weights.numpy().astype(np.float64)
        expected = n * weights / weights.sum()
        drawn = np.ceil(expected).astype(int)
        ends = drawn.cumsum()
        theta = np.empty((len(contexts), ends[-1], self.prior.d))
        for k, (flow, part) in enumerate(members):
            name = f"sample {k}" if k else "sample"
            self.draw_from(flow, part, theta[:, ends[k] - drawn[k] : ends[k]], seed, name)
        if len(members) == 1:
            return theta
        kept, surplus = np.empty((len(theta), n, self.prior.d)), (drawn - expected).cumsum()
        surplus[-1] = ends[-1] - n
        for i, rows in enumerate(theta):
            rng = stream(seed, "order", i)
            left_out = np.diff(np.floor(surplus + rng.random()), prepend=0) > 0
            kept[i] = rng.permutation(np.delete(rows, ends[left_out] - 1, axis=0))
        return kept

    def draw_members(self, context: Tensor, n: int, seed: int) -> Float[np.ndarray, "members n d"]:
        """n draws from each member alone, for one context."""
        members = self._members(context)
        theta = np.empty((len(members), n, self.prior.d))
        for k, (flow, part) in enumerate(members):
            self.draw_from(flow, part, theta[None, k], seed, f"member {k}")
        return theta

    @torch.no_grad()
    def draw_from(
        self, flow: ConditionalFlow, contexts: Tensor, theta: Float[np.ndarray, "m n d"], seed: int, name: str
    ) -> None:
        """Fill theta with draws from one member; event i has the stream (seed, name, i)."""
        for events, rows in _blocks(len(theta), theta.shape[1], _DRAWS_AT_ONCE):
            if rows.start == 0:
                streams = [stream(seed, name, i) for i in range(events.start, events.stop)]
            noise = np.empty((len(streams), rows.stop - rows.start, self.prior.unconstrained_dim))
            for part, rng in zip(noise, streams, strict=True):
                rng.standard_normal(out=part)
            if self.shift is not None and self.spread is not None:
                noise = self.shift + self.spread * noise
            u = flow.value(torch.from_numpy(noise), contexts[events, None])
            theta[events, rows] = self.prior.from_unconstrained(self.centre + self.scale * u.numpy())

    @torch.no_grad()
    def log_prob(self, theta: Float[np.ndarray, "m n d"], contexts: Tensor) -> Float[np.ndarray, "m n"]:
        """log q of n rows per context, in nats; -inf outside the prior's support."""
        members = self._members(contexts)
        m, n, _ = theta.shape
        log_prob = np.empty((m, n))
        inner_point = self.prior.from_unconstrained(self.centre)
        for events, rows in _blocks(m, n, _DENSITIES_AT_ONCE):
            part = theta[events, rows]
            inside = self.prior.inside(part)
            z, log_det = self.prior.to_unconstrained(np.where(inside[..., None], part, inner_point))
            inside &= np.isfinite(z).all(axis=-1)
            u = torch.from_numpy(np.where(inside[..., None], (z - self.centre) / self.scale, 0.0))
            each = [self._of_flow(flow, u, context[events, None]) for flow, context in members]
            of_flow = log_mixture(each, self.network.mixture_weights).numpy()
            log_prob[events, rows] = np.where(inside, of_flow + log_det, -np.inf)
        log_prob -= np.log(self.scale).sum()
        return log_prob

    def _of_flow(self, flow: ConditionalFlow, u: Tensor, context: Tensor) -> Tensor:
        if self.shift is None or self.spread is None:
            return flow.log_prob(u, context)
        zeta, log_det = flow.to_noise(u, context)
        standard = (zeta - torch.from_numpy(self.shift)) / torch.from_numpy(self.spread)
        constant = float(np.log(self.spread).sum()) + 0.5 * len(self.spread) * math.log(2 * math.pi)
        return log_det - 0.5 * standard.square().sum(dim=-1) - constant

    @torch.no_grad()
    def noise(
        self, theta: Float[np.ndarray, "m d"], contexts: Tensor
    ) -> tuple[Float[np.ndarray, "members m u"], Float[np.ndarray, "members m"]]:
        """zeta by each member, and log(w |det dzeta/dtheta|) with its mixture weight w, for theta inside the
        support.
        """
        z, log_det = self.prior.to_unconstrained(theta)
        u = torch.from_numpy((z - self.centre) / self.scale)
        found = [flow.to_noise(u, part) for flow, part in self._members(contexts)]
        zeta, steps = (np.stack([part.numpy() for part in parts]) for parts in zip(*found, strict=True))
        log_weights = self.network.mixture_weights.log().log_softmax(0).numpy()
        return zeta, steps + log_weights[:, None] + log_det - np.log(self.scale).sum()

    def _members(self, contexts: Tensor) -> list[tuple[ConditionalFlow, Tensor]]:
        """Each flow with its part of the contexts."""
        flows = self.network.flows()
        return list(zip(flows, contexts.split([flow.context for flow in flows], dim=-1), strict=True))


def _usable(data: F, masked: bool) -> bool:
    """Whether a network can take the numbers. NaN may stand for what is missing."""
    return bool(((np.abs(data) < _TOO_LARGE) | (masked & np.isnan(data))).all())


def _blocks(m: int, n: int, at_once: int) -> Iterator[tuple[slice, slice]]:
    """(events, rows) that cover m events of n rows each, in order: short events together, a long one in equal
    parts.
    """
    if n == 0:
        return
    events, size = max(1, at_once // n), math.ceil(n / math.ceil(n / at_once))
    for first in range(0, m, events):
        for start in range(0, n, size):
            yield slice(first, min(first + events, m)), slice(start, min(start + size, n))
