"""Calibration over the prior: bias and dispersion of the posterior, and the coverage of its regions.

The ranks u of `diagnostics/pairs.py` are uniform if q is the posterior. Two statistics with known null
distributions detect bias and wrong dispersion (the Kolmogorov-Smirnov test is nearly blind to the latter):

    mean-z    sqrt(12 m) (mean u - 1/2)                ~ N(0, 1)
    spread-z  sqrt(180 m) (mean (u - 1/2)^2 - 1/12)    ~ N(0, 1)

If all were Gaussian, q would be shifted by 2 sqrt(pi) (mean u - 1/2) posterior standard deviations, and be
1 / a times as wide as the posterior, where Var u = arcsin(a^2 / (1 + a^2)) / (2 pi).

The prior in place of the posterior passes rank tests on theta. Ranks of other quantities test more. Of log
q(theta | y): the coverage of highest-density regions (Hermans et al. 2022, 2110.06581). Of the distance to a
random point, uniform over the box that holds the truths: TARP (Lemos et al. 2023, 2302.03026). Of the
log-likelihood: whether q ignores data (Modrak et al. 2023, 2211.02383).
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
    """The ranks of one quantity, and what follows from them."""

    quantity: str
    ranks: Float[np.ndarray, " m"]

    @property
    def mean_z(self) -> float:
        """Standard normal if q is the posterior; positive where q lies below the truth."""
        return float(np.sqrt(12 * len(self.ranks)) * (self.ranks.mean() - 0.5))

    @property
    def spread_z(self) -> float:
        """Standard normal if q is the posterior; positive where q is too narrow."""
        return float(np.sqrt(180 * len(self.ranks)) * (np.square(self.ranks - 0.5).mean() - 1 / 12))

    @cached_property
    def ecdf_p(self) -> float:
        """The exact p-value of the ranks' ECDF against simultaneous bands."""
        return ecdf_p_value(self.ranks)

    @cached_property
    def gap(self) -> float:
        """The largest difference between the ranks' ECDF and the uniform one."""
        return largest_gap(self.ranks)

    @property
    def p(self) -> float:
        """One p-value for mean, spread and ECDF together (Bonferroni)."""
        by_mean, by_spread = 2 * norm.sf(abs(self.mean_z)), 2 * norm.sf(abs(self.spread_z))
        return float(min(1.0, 3 * min(by_mean, by_spread, self.ecdf_p)))

    @property
    def shift(self) -> float:
        """How far q lies below the truth, in its standard deviations (negative: above it)."""
        return float(2 * np.sqrt(np.pi) * (self.ranks.mean() - 0.5))

    @property
    def dispersion(self) -> float:
        """The standard deviation of q over that of the posterior."""
        sine = np.sin(min(2 * np.pi * np.square(self.ranks - 0.5).mean(), np.pi / 2 - 1e-9))
        return float(np.sqrt((1 - sine) / sine))

    def coverage(self, level: float) -> float:
        """The share of truths inside the central interval of that level; for log q and the likelihood, inside
        the region where it is highest; for the distance to a random point, inside the ball around it.
        """
        if self.quantity in (LOG_Q, LOG_LIKELIHOOD):
            return float((self.ranks > 1 - level).mean())
        if self.quantity == RANDOM_POINT:
            return float((self.ranks < level).mean())
        return float((np.abs(self.ranks - 0.5) < level / 2).mean())


def rank_tests(pairs: Pairs, rng: np.random.Generator) -> list[RankTest]:
    """The ranks of every parameter, of log q and the log-likelihood where `pairs` have them, and last of the
    distance to random points.
    """
    columns = zip(pairs.names, pairs.draws.transpose(2, 0, 1), pairs.theta.T, strict=True)
    found = [RankTest(name, ranks(draws, truth, rng)) for name, draws, truth in columns]
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
