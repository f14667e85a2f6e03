"""The prior cut to the region in which the posterior of one observation has its mass.

    A = { theta : log q(theta | y) - log p(theta) > tau } and E,     q(A | y) = 1 - eps

    tau   the eps-quantile of log q - log p at draws of q
    E     the ellipsoid, in the prior's unconstrained coordinates, of these draws and a tenth more in radius

Of all sets with that mass under q, { q / p > tau } has the least prior mass (Neyman & Pearson 1933), and it
is the same set in all coordinates. E is cheap to test, and keeps out what lies far from every draw. Regions
of several rounds are intersected, so that each lies inside the one before, and draws of an earlier one that
lie in a later one are draws of the later one. Deistler, Goncalves & Macke (2022, 2210.04815) cut where log q
falls below its quantile.

Draws of p restricted to A are exact and independent. Candidates are draws of the prior or, where E holds less
than a thousandth of it, uniform in E and kept with probability p_Z / max p_Z: the largest of 20,000 points,
times 1.6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import gammaln, logsumexp
from torch import Tensor

from sbi_flows.arrays import F
from sbi_flows.posterior.density import Density
from sbi_flows.problem.prior import Prior
from sbi_flows.rng import stream

_REGION_DRAWS, _MARGIN = 20_000, 1.1
_AT_ONCE, _PILOT, _LEAST_SHARE = 20_000, 10, 1e-3
_HEADROOM, _JITTER = 0.5, 1e-9

Way = Literal["prior", "ellipsoid"]


@dataclass(frozen=True, eq=False)
class Local:
    """q(. | y) = sum_k w_k q_k(. | y) of one observation.

    contexts: the summaries of y by each q_k.
    """

    densities: tuple[Density, ...]
    weights: Float[np.ndarray, " k"]
    contexts: tuple[Tensor, ...]

    @classmethod
    def of(
        cls, densities: Sequence[Density], weights: Sequence[float], y: Float[np.ndarray, " *event"]
    ) -> Local:
        """Raises `ObservationError` where scaling y overflows."""
        stack = np.asarray(y, dtype=np.float64)[None]
        contexts = tuple(density.contexts(stack) for density in densities)
        return cls(tuple(densities), np.asarray(weights) / np.sum(weights), contexts)

    @property
    def prior(self) -> Prior:
        """The prior of theta."""
        return self.densities[0].prior

    def draw(self, n: int, seed: int) -> Float[np.ndarray, "n d"]:
        """n draws: n w_k of each part, rounded up or down at random, in random order."""
        rng = stream(seed, "parts")
        ends = np.floor(n * self.weights.cumsum() + rng.random()).astype(int)
        ends[-1] = n
        parts = [
            density.draw(context, count, int(stream(seed, "part", k).integers(2**31)))[0]
            for k, (density, context, count) in enumerate(
                zip(self.densities, self.contexts, np.diff(ends, prepend=0), strict=True)
            )
        ]
        return np.asarray(rng.permutation(np.concatenate(parts)))

    def log_prob(self, theta: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """log q(theta | y) in nats."""
        each = [
            density.log_prob(theta[None], context)[0]
            for density, context in zip(self.densities, self.contexts, strict=True)
        ]
        return mixed(np.stack(each), self.weights)


def mixed(each: Float[np.ndarray, "k n"], weights: Float[np.ndarray, " k"]) -> Float[np.ndarray, " n"]:
    """log sum_k w_k exp(each_k)."""
    return np.asarray(logsumexp(each, axis=0, b=weights[:, None]))


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """{ z : |root^-1 (z - centre)| <= radius }."""

    centre: F
    root: F
    radius: float

    @classmethod
    def around(cls, z: Float[np.ndarray, "n u"]) -> Ellipsoid:
        """That of the shape of the covariance of z, a tenth wider than the farthest row."""
        centre, u = z.mean(axis=0), z.shape[1]
        covariance = np.cov(z, rowvar=False).reshape(u, u)
        covariance += _JITTER * np.diag(covariance.diagonal() + np.finfo(float).tiny)
        found = cls(centre, np.linalg.cholesky(covariance), 1.0)
        return replace(found, radius=_MARGIN * float(found.distance(z).max()))

    def distance(self, z: Float[np.ndarray, "n u"]) -> Float[np.ndarray, " n"]:
        """How far each row is from the centre, in standard deviations."""
        scaled = np.linalg.solve(self.root, (z - self.centre).T)
        return np.asarray(np.sqrt(np.square(scaled).sum(axis=0)))

    def sample(self, n: int, rng: np.random.Generator) -> Float[np.ndarray, "n u"]:
        """n points, uniform inside."""
        direction = rng.standard_normal((n, len(self.centre)))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        radius = self.radius * rng.random((n, 1)) ** (1 / len(self.centre))
        return np.asarray(self.centre + radius * direction @ self.root.T)


@dataclass(frozen=True, eq=False)
class Region:
    """One A. floor: tau. around: E."""

    local: Local
    floor: float
    around: Ellipsoid

    def near(self, theta: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Whether each row lies in E."""
        z, _ = self.local.prior.to_unconstrained(theta)
        return np.asarray(np.isfinite(z).all(axis=1) & (self.around.distance(z) <= self.around.radius))

    def above(self, theta: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Whether log q - log p is above the floor."""
        return np.asarray(log_ratio(self.local, theta) > self.floor)


def log_ratio(local: Local, theta: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """log q(theta | y) - log p(theta) in nats."""
    return np.asarray(local.log_prob(theta) - local.prior.log_prob(theta))


@dataclass(frozen=True, eq=False)
class Truncated:
    """The prior restricted to all of some regions, the last one being the smallest.

    lost: the share of the draws of the last region's q that lies outside.
    """

    prior: Prior
    regions: tuple[Region, ...] = ()
    lost: float = 0.0

    def cut(self, local: Local, share: float, seed: int) -> Truncated | None:
        """The same, cut to where `local` has all but `share` of what it has here; None where fewer than one
        in a hundred of its draws lies here, or they do not spread.
        """
        theta = local.draw(_REGION_DRAWS, seed)
        here = theta[self.inside(theta)]
        if len(here) < _REGION_DRAWS / 100:
            return None
        ratio = log_ratio(local, here)
        floor = float(np.quantile(ratio, share))
        kept = here[ratio > floor]
        z, _ = self.prior.to_unconstrained(kept)
        if not (np.isfinite(z).all() and (z.std(axis=0) > 0).all()):
            return None
        region = Region(local, floor, Ellipsoid.around(z))
        return Truncated(self.prior, (*self.regions, region), 1 - len(kept) / len(theta))

    @torch.no_grad()
    def inside(self, theta: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Whether each row lies in all regions: the ellipsoids are tested first."""
        found = np.ones(len(theta), dtype=np.bool_)
        for test in (*(r.near for r in reversed(self.regions)), *(r.above for r in reversed(self.regions))):
            if found.any():
                found[found] = test(theta[found])
        return found


class Proposal:
    """Draws of a truncated prior, one after the other; a function of the seed alone.

    way: how they are found. most: how many candidates are tried before it is given up.
    """

    def __init__(self, truncated: Truncated, seed: int, most: int = 40_000_000) -> None:
        self.truncated, self.seed, self._most = truncated, seed, most
        self.way: Way = "ellipsoid" if self._share_near() < _LEAST_SHARE else "prior"
        self._candidates = self._in_ellipsoid() if self.way == "ellipsoid" else self._of_prior()
        self._waiting = np.empty((0, truncated.prior.d))
        self._kept = self._tried = 0.0

    @property
    def share(self) -> float:
        """The share of the prior that lies in the region, as far as it is known."""
        return self._kept / max(self._tried, 1.0)

    def take(self, n: int) -> Float[np.ndarray, "m d"]:
        """The next n draws; fewer where they are too rare."""
        self.ready(n)
        rows, self._waiting = self._waiting[:n], self._waiting[n:]
        return rows

    def ready(self, n: int) -> bool:
        """Find n draws, to be taken; whether there are n."""
        parts, left = [self._waiting], n - len(self._waiting)
        while left > 0 and self._tried < self._most:
            candidates, one = next(self._candidates)
            parts.append(candidates[self.truncated.inside(candidates)])
            left -= len(parts[-1])
            self._kept, self._tried = self._kept + one * len(parts[-1]), self._tried + _AT_ONCE
        self._waiting = np.concatenate(parts)
        return left <= 0

    def _share_near(self) -> float:
        """The share of the prior that lies in the last ellipsoid, of a pilot sample."""
        prior, regions = self.truncated.prior, self.truncated.regions
        pilot = (prior.sample(_AT_ONCE, stream(self.seed, "pilot", k)) for k in range(_PILOT))
        return float(np.mean([regions[-1].near(theta).mean() for theta in pilot])) if regions else 1.0

    def _of_prior(self) -> Iterator[tuple[F, float]]:
        """Candidates from each 20,000 tried, and how many draws of the prior each of them stands for."""
        for k in count():
            yield self.truncated.prior.sample(_AT_ONCE, stream(self.seed, "truncated", k)), 1.0

    def _in_ellipsoid(self) -> Iterator[tuple[F, float]]:
        prior, around = self.truncated.prior, self.truncated.regions[-1].around
        pilot = prior.from_unconstrained(around.sample(_AT_ONCE, stream(self.seed, "largest density")))
        bound = float(_log_density(prior, pilot).max()) + _HEADROOM
        u = len(around.centre)
        log_volume = float(np.log(around.root.diagonal()).sum()) + u * np.log(around.radius) + _log_ball(u)
        for k in count():
            rng = stream(self.seed, "truncated", k)
            theta = prior.from_unconstrained(around.sample(_AT_ONCE, rng))
            kept = np.log(rng.random(_AT_ONCE)) < _log_density(prior, theta) - bound
            yield theta[kept], float(np.exp(log_volume + bound))


def _log_density(prior: Prior, theta: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """log p_Z at the coordinates of theta."""
    return np.asarray(prior.log_prob(theta) - prior.to_unconstrained(theta)[1])


def _log_ball(u: int) -> float:
    """The log volume of the unit ball in R^u."""
    return float(0.5 * u * np.log(np.pi) - gammaln(0.5 * u + 1))


def draws_inside(local: Local, truncated: Truncated, n: int, seed: int, most: int = 50) -> tuple[F, float]:
    """n draws of q restricted to the region, and the share of q's draws that lay outside.

    Fewer where `most` times n draws do not hold n inside.
    """
    parts, kept, k = list[F](), 0, 0
    while kept < n and k < most:
        theta: Any = local.draw(n, int(stream(seed, "inside", k).integers(2**31)))
        parts.append(theta[truncated.inside(theta)])
        kept, k = kept + len(parts[-1]), k + 1
    return np.concatenate(parts)[:n], 1 - kept / (k * n)
