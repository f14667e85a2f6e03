"""A proposal that learns where the posterior is, round by round (population Monte Carlo, Cappé et al. 2008).

The pilot takes four of five draws from q and one from the prior. Each round proposes from a mixture of
Student t distributions, the prior and, where it is good enough to be worth its density, q. The mixture is
fitted to all draws so far, with the weights w^b, where b <= 1 is the largest power at which their effective
size is 50 (u + 1). One half of the draws fits the t distributions; the other chooses their number
and the shares of q and of the prior by its weighted mean log density: the Kullback-Leibler divergence from
the posterior up to a constant.

The efficiency of each mixture g_r is estimated from all draws (W_i, sum 1, of the pool's weights w_i):

    1 / efficiency_r = sum_i W_i v_i / mean(w),    v_i = p^(y | theta_i) p(theta_i) / g_r(theta_i)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.diagnostics.importance import efficiency, pareto_k
from sbi_flows.exact.likelihood import Likelihood
from sbi_flows.exact.pool import Pool, effective, normalised
from sbi_flows.exact.proposal import Mixture, Points, Sources
from sbi_flows.exact.selection import select
from sbi_flows.exact.students import StudentMixture, fit_students

_PILOT_OF_Q = 0.8
_LEAST_OF_PRIOR = 0.02
_COMPONENTS = (1, 2, 4, 8, 16, 32)
_GOOD, _GAIN, _PATIENCE, _ROUNDS = 0.6, 1.1, 3, 20
_ESS_TO_FIT = 50  # for each coordinate, and one more
_LEAST_ROUND, _LARGEST_ROUND, _FITTED = 50, 32_000, 20_000


@dataclass(frozen=True, eq=False)
class Adapted:
    """mixture: the best proposal found. efficiency: its effective size over its draws."""

    mixture: Mixture
    efficiency: float


def pilot(sources: Sources, likelihood: Likelihood, rng: np.random.Generator) -> Pool:
    """The first draws, from q and the prior; one at least, whatever the budget."""
    pool = Pool(sources, with_q=True)
    size = max(1, min(first_round(sources.prior.unconstrained_dim), likelihood.budget.left))
    pool.propose(size, Mixture(sources, 1 - _PILOT_OF_Q, _PILOT_OF_Q), likelihood, rng)
    return pool


def first_round(dimension: int) -> int:
    """How many draws the first rounds take."""
    return 1000 + 100 * dimension


def adapt(
    pool: Pool,
    mixture: Mixture,
    likelihood: Likelihood,
    rng: np.random.Generator,
    *,
    wanted: float,
    tell: Callable[[int, int, float], None],
) -> Adapted:
    """The best proposal of some rounds, of which `mixture` is the first, as far as the budget's present share
    allows. Their draws are added to `pool`.

    wanted: the effective size that is wanted of it. Rounds stop once they have cost half of what that takes.
    tell: called with the round, the evaluations so far and the efficiency of its proposal.
    """
    budget, best, idle = likelihood.budget, Adapted(mixture, 0.0), 0
    size = first_round(pool.sources.prior.unconstrained_dim)
    for i in range(_ROUNDS):
        if budget.left < _LEAST_ROUND:
            break
        size = min(size, budget.left)
        pool.propose(size, mixture, likelihood, rng)
        b, weights = to_fit(pool)
        before, best = best.efficiency, _best(pool)
        tell(i + 1, budget.evaluations, best.efficiency)
        idle = 0 if best.efficiency > _GAIN * before or b < 1 else idle + 1
        enough = 2 * len(pool) * best.efficiency >= wanted
        if best.efficiency >= _GOOD or idle >= _PATIENCE or (enough and b == 1):
            break
        mixture = fitted(pool, weights, rng)
        size = min(2 * size, _LARGEST_ROUND)
    return best


def _best(pool: Pool) -> Adapted:
    """The mixture of the pool with the highest efficiency."""
    log_weights = pool.log_weights()
    if not np.isfinite(log_weights.max()):
        return Adapted(pool.mixtures[-1], 0.0)
    with np.errstate(divide="ignore"):
        log_w = np.log(normalised(log_weights))
    log_mean = np.logaddexp.reduce(log_weights) - np.log(len(log_weights))
    found = [log_mean - np.logaddexp.reduce(log_w + own) for own in pool.log_weights_of_each()]
    k = int(np.argmax(found))
    return Adapted(pool.mixtures[k], float(min(1.0, np.exp(found[k]))))


def rating_of_q(pool: Pool) -> dict[str, float]:
    """How good a proposal q alone is, from the draws that came from it."""
    own = (pool.log_joint() - pool.at.log_q)[pool.from_q] if len(pool) else np.zeros(0)
    if not len(own) or not np.isfinite(own.max()):
        return {"efficiency": 0.0, "pareto_k": np.inf}
    return {"efficiency": efficiency(own), "pareto_k": pareto_k(own)}


def to_fit(pool: Pool) -> tuple[float, F]:
    """The largest b <= 1 at which w^b has the effective size to fit to, by bisection, and these weights."""
    log_weights, wanted = pool.log_weights(), _ESS_TO_FIT * (pool.at.z.shape[1] + 1.0)
    there = np.isfinite(log_weights)
    wanted = min(wanted, 0.5 * there.sum())
    if not there.any() or effective(log_weights) >= wanted:
        return 1.0, normalised(log_weights)
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        enough = effective(np.where(there, middle * np.where(there, log_weights, 0), -np.inf)) >= wanted
        low, high = (middle, high) if enough else (low, middle)
    return low, normalised(np.where(there, low * np.where(there, log_weights, 0), -np.inf))


def fitted(pool: Pool, weights: F, rng: np.random.Generator) -> Mixture:
    """The mixture that is nearest to the weighted draws."""
    weights = np.where(np.isfinite(pool.at.z).all(axis=1), weights, 0.0)
    rows, weights = select(weights, _rows_to_fit(weights), rng)
    half = rng.permutation(len(rows)) % 2 == 0
    train, test = pool.at.at(rows[half]), pool.at.at(rows[~half])
    if not (weights[half].sum() > 0 and weights[~half].sum() > 0):
        return Mixture(pool.sources, 1 - _PILOT_OF_Q, _PILOT_OF_Q)
    ours, theirs = (part / part.sum() for part in (weights[half], weights[~half]))
    most, u = 1 / np.square(ours).sum(), train.z.shape[1]
    best, students, shares, worse = -np.inf, None, np.zeros(3), 0
    for components in _COMPONENTS:
        if worse == 2 or (components > 1 and components * (u + 1) > most):
            break
        found = fit_students(train.z, ours, components, rng)
        score, mixed = _shares(test, found, theirs)
        worse = 0 if score > best else worse + 1
        if score > best:
            best, students, shares = score, found, mixed
    of_prior, of_q = max(shares[0], _LEAST_OF_PRIOR), shares[1]
    total = max(1.0, of_prior + of_q + _LEAST_OF_PRIOR)
    return Mixture(pool.sources, float(of_prior / total), float(of_q / total), students)


def _rows_to_fit(weights: F) -> int:
    """How many rows: more than three times the effective size would add rows of nearly no weight."""
    ess = 1 / np.square(weights / weights.sum()).sum()
    return int(min(_FITTED, np.count_nonzero(weights), max(_LEAST_ROUND, 3 * ess)))


def _shares(at: Points, students: StudentMixture, weights: F) -> tuple[float, F]:
    """The weights of prior, q and t mixture by EM on held-out draws, and the mean log density."""
    nothing = np.full(len(at.z), -np.inf)
    terms = np.stack([at.log_prior, at.log_q if len(at.log_q) else nothing, students.log_prob(at.z)])
    shares, log_density = np.full(3, 1 / 3), np.zeros(len(weights))
    for _ in range(50):
        log_terms = terms + np.log(np.maximum(shares, 1e-12))[:, None]
        log_density = np.logaddexp.reduce(log_terms)
        shares = np.exp(log_terms - log_density) @ weights
    return float(weights @ log_density), shares
