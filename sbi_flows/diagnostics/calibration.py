"""Calibration over the prior: are the posteriors as wide as they should be, and in the right place?

For (theta, y) from the joint and L draws from q(theta | y), the randomised rank statistic of the truth among the draws,
u = (#{draws < theta} + U) / (L + 1), is uniform on [0, 1] if q is the posterior (Talts et al. 2018, 1804.06788). Two statistics with known
law under that null see a shift and a wrong width, where the Kolmogorov-Smirnov test is nearly blind to width:

    mean-z    sqrt(12 m) (mean u - 1/2)  ~ N(0, 1)
    spread-z  sqrt(180 m) (mean (u - 1/2)^2 - 1/12)  ~ N(0, 1)

and tell, as if all were Gaussian, by how many posterior standard deviations q is shifted, 2 sqrt(pi) (mean u - 1/2), and how many times too
wide it is (from Var u = arcsin(a^2 / (1 + a^2)) / (2 pi), a = 1 / width). The prior itself passes rank checks on theta, so the log density
log q(theta | y) is ranked as well: that is the coverage of highest-density regions (Hermans et al. 2022, 2110.06581).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from scipy.stats import norm

from sbi_flows.errors import ShapeError

F = NDArray[np.float64]
Sampler = Callable[[NDArray[np.float64], int, np.random.Generator], NDArray[np.float64]]
LogProb = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

FALSE_ALARM = 1e-4
_COVERAGE = (0.5, 0.9)


@dataclass(frozen=True)
class RankTest:
    """One quantity's ranks and what they say. z_limit is the two-sided critical value of both z statistics."""

    quantity: str
    ranks: Float[np.ndarray, " m"]
    mean_z: float
    spread_z: float
    z_limit: float

    @property
    def shift(self) -> float:
        """By how many of its standard deviations the posterior is shifted (negative: it lies above the truth)."""
        return float(2 * np.sqrt(np.pi) * (self.ranks.mean() - 0.5))

    @property
    def width(self) -> float:
        """The posterior's width over the right one."""
        sine = np.sin(min(2 * np.pi * np.square(self.ranks - 0.5).mean(), np.pi / 2 - 1e-9))
        return float(np.sqrt((1 - sine) / sine))

    def coverage(self, level: float) -> float:
        """The share of truths inside the central interval of that level (for log q: the highest-density region)."""
        if self.quantity == LOG_Q:
            return float((self.ranks > 1 - level).mean())
        return float((np.abs(self.ranks - 0.5) < level / 2).mean())

    @property
    def significant(self) -> bool:
        """Whether either statistic is beyond its limit."""
        return max(abs(self.mean_z), abs(self.spread_z)) > self.z_limit


LOG_Q = "log q"


def rank_tests(
    sampler: Sampler,
    theta: Float[np.ndarray, "m d"],
    y: Shaped[np.ndarray, "m *event"],
    *,
    names: tuple[str, ...],
    rng: np.random.Generator,
    draws: int = 200,
    log_prob: LogProb | None = None,
) -> list[RankTest]:
    """Rank tests of every parameter and, with `log_prob`, of the log density.

    sampler(y (m, *event), n, rng) -> (m, n, d); log_prob(theta (m, n, d), y) -> (m, n). The limit makes the chance of any false alarm among
    all statistics 1e-4 (Bonferroni). Raises `ShapeError`.
    """
    values = sampler(y, draws, rng)
    m, d = theta.shape
    if values.shape != (m, draws, d):
        raise ShapeError(f"the sampler returned shape {values.shape}; wanted ({m}, {draws}, {d}).")
    columns = [(name, values[:, :, j], theta[:, j]) for j, name in enumerate(names)]
    if log_prob is not None:
        columns.append((LOG_Q, log_prob(values, y), log_prob(theta[:, None], y)[:, 0]))
    limit = float(norm.isf(FALSE_ALARM / (4 * len(columns))))
    return [_rank_test(name, sampled, truth, limit, rng) for name, sampled, truth in columns]


def _rank_test(name: str, sampled: F, truth: F, limit: float, rng: np.random.Generator) -> RankTest:
    below = (sampled < truth[:, None]).sum(axis=1)
    ties = (sampled == truth[:, None]).sum(axis=1)
    m = len(truth)
    ranks = (below + rng.random(m) * (1 + ties)) / (sampled.shape[1] + 1)
    mean_z = float(np.sqrt(12 * m) * (ranks.mean() - 0.5))
    spread_z = float(np.sqrt(180 * m) * (np.square(ranks - 0.5).mean() - 1 / 12))
    return RankTest(name, ranks, mean_z, spread_z, limit)
