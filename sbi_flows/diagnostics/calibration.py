"""Calibration over the prior: are the posteriors as wide as they should be, and in the right place?

The ranks u of `diagnostics/pairs.py` are uniform if q is the posterior. Two statistics with known law under
that null see a shift and a wrong width, where the Kolmogorov-Smirnov test is nearly blind to width:

    mean-z    sqrt(12 m) (mean u - 1/2)  ~ N(0, 1)
    spread-z  sqrt(180 m) (mean (u - 1/2)^2 - 1/12)  ~ N(0, 1)

and tell, as if all were Gaussian, by how many posterior standard deviations q is shifted, 2 sqrt(pi) (mean u
- 1/2), and how many times too wide it is (from Var u = arcsin(a^2 / (1 + a^2)) / (2 pi), a = 1 / width). The
prior itself passes rank checks on theta. Ranks of log q(theta | y) are the coverage of highest-density
regions (Hermans et al. 2022, 2110.06581); those of the distance to a random point are TARP (Lemos et al.
2023, 2302.03026), whose points are uniform over the box that holds the truths; those of the log-likelihood
see data that q ignores (Modrak et al. 2023, 2211.02383).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

from sbi_flows.diagnostics.bands import ecdf_p_value, largest_gap
from sbi_flows.diagnostics.pairs import Pairs, ranks

LOG_Q, RANDOM_POINT, LOG_LIKELIHOOD = "log q", "distance to a random point", "log-likelihood"


@dataclass(frozen=True)
class RankTest:
    """One quantity's ranks and what they say."""

    quantity: str
    ranks: Float[np.ndarray, " m"]

    @property
    def mean_z(self) -> float:
        """Standard normal where the posterior is right; positive where it lies below the truth."""
        return float(np.sqrt(12 * len(self.ranks)) * (self.ranks.mean() - 0.5))

    @property
    def spread_z(self) -> float:
        """Standard normal where the posterior is right; positive where it is too narrow."""
        return float(np.sqrt(180 * len(self.ranks)) * (np.square(self.ranks - 0.5).mean() - 1 / 12))

    @cached_property
    def ecdf_p(self) -> float:
        """The exact p-value of the ranks' distribution function against simultaneous bands."""
        return ecdf_p_value(self.ranks)

    @cached_property
    def gap(self) -> float:
        """The largest difference between the ranks' distribution function and the uniform one."""
        return largest_gap(self.ranks)

    @property
    def p(self) -> float:
        """One p-value for mean, spread and distribution function together (Bonferroni)."""
        return float(
            min(1.0, 3 * min(2 * norm.sf(abs(self.mean_z)), 2 * norm.sf(abs(self.spread_z)), self.ecdf_p))
        )

    @property
    def shift(self) -> float:
        """By how many of its standard deviations the posterior lies below the truth (negative: above it)."""
        return float(2 * np.sqrt(np.pi) * (self.ranks.mean() - 0.5))

    @property
    def width(self) -> float:
        """The posterior's width over the right one."""
        sine = np.sin(min(2 * np.pi * np.square(self.ranks - 0.5).mean(), np.pi / 2 - 1e-9))
        return float(np.sqrt((1 - sine) / sine))

    def coverage(self, level: float) -> float:
        """The share of truths inside the central interval of that level (for log q and the likelihood: where
        it is highest).
        """
        if self.quantity in (LOG_Q, LOG_LIKELIHOOD):
            return float((self.ranks > 1 - level).mean())
        if self.quantity == RANDOM_POINT:
            return float((self.ranks < level).mean())
        return float((np.abs(self.ranks - 0.5) < level / 2).mean())


def rank_tests(pairs: Pairs, rng: np.random.Generator) -> list[RankTest]:
    """The ranks of every parameter, and of log q and the log-likelihood where `pairs` have them, last of the
    distance to random points.
    """
    found = [
        RankTest(name, ranks(pairs.draws[:, :, j], pairs.theta[:, j], rng))
        for j, name in enumerate(pairs.names)
    ]
    for quantity, values in ((LOG_Q, pairs.log_q), (LOG_LIKELIHOOD, pairs.log_likelihood)):
        if values is not None:
            found.append(RankTest(quantity, ranks(values[:, 1:], values[:, 0], rng)))
    return [*found, RankTest(RANDOM_POINT, _random_point_ranks(pairs, rng))]


def _random_point_ranks(pairs: Pairs, rng: np.random.Generator) -> Float[np.ndarray, " m"]:
    low, high = pairs.theta.min(axis=0), pairs.theta.max(axis=0)
    size = np.where(high > low, high - low, 1.0)
    points = rng.uniform(size=pairs.theta.shape)
    to_draws = np.square((pairs.draws - low) / size - points[:, None]).sum(axis=-1)
    return ranks(to_draws, np.square((pairs.theta - low) / size - points).sum(axis=-1), rng)
