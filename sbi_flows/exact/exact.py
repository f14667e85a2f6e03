"""Draws from the exact posterior p(theta | y) of one y, with their Monte Carlo error.

    adapt        rounds of proposals learn a mixture g (`adaptation`)
    sample       g stays fixed; independent draws of it are weighted until their effective size is reached,
                 so that errors, evidence and k-hat are those of plain importance sampling (`pool`)
    test         k-hat of the weights (Vehtari et al. 2024, 1507.02646): above 0.7 no estimate from them can
                 be relied on. Then all draws so far teach a better g, up to three times
    or chains    where k-hat stays bad, particle Markov chains with g as one of their moves (`chains`)

The largest weights are Pareto-smoothed; n draws are then taken by rejection control (`selection`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.diagnostics.importance import smoothed
from sbi_flows.draws import ChainDiagnostics
from sbi_flows.errors import SimulatorContractError
from sbi_flows.exact.adaptation import Adapted, adapt, fitted, pilot, rating_of_q, to_fit
from sbi_flows.exact.chains import Chains, run_chains
from sbi_flows.exact.likelihood import Budget, Likelihood
from sbi_flows.exact.pool import Pool, effective, log_evidence, normalised
from sbi_flows.exact.proposal import Proposal, Sources
from sbi_flows.exact.selection import select
from sbi_flows.exact.settings import Wanted
from sbi_flows.exact.verdict import K_HAT, MonteCarlo
from sbi_flows.notes import Notes
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import stream

_ADAPTED_BY, _OF_DRAWS = (0.4, 0.5, 0.6), 0.1
_LEAST_CHUNK, _LARGEST_CHUNK, _AHEAD = 500, 20_000, 1.05
_REPEATS = 10
_LEAST_OF_Q, _GOOD_Q = 0.5, 0.2


@dataclass(frozen=True, eq=False)
class Exact:
    """theta (n, d) and weights (n,), None where they are equal; how they were made, and how far they can be
    believed.
    """

    theta: F
    weights: F | None
    monte_carlo: MonteCarlo
    facts: dict[str, Any]


def sample_exact(simulator: Simulator, y: F, q: Proposal, wanted: Wanted) -> Exact:
    """Draws from p(theta | y), y (*event,), beginning with proposals from q.

    Raises `SimulatorContractError` for a likelihood that breaks its contract, or is zero at all proposals,
    and `SettingsError`, `WorkerError`.
    """
    budget = Budget(wanted.evaluations, wanted.seconds)
    with Likelihood(simulator, y, wanted.seed, budget, wanted.place) as likelihood:
        return _Run(Sources(simulator.prior, q), likelihood, wanted).finish()


class _Run:
    """One run: proposals, weighted draws, perhaps chains."""

    def __init__(self, sources: Sources, likelihood: Likelihood, wanted: Wanted) -> None:
        self.sources, self.likelihood, self.wanted = sources, likelihood, wanted
        self.rng = stream(wanted.seed, "exact")
        self.notes = Notes(wanted.say)
        self.of_q: dict[str, float] = {}

    def finish(self) -> Exact:
        adapted, pool, k = self._weighted()
        log_weights = pool.log_weights()
        if not np.isfinite(log_weights.max()):
            raise SimulatorContractError(
                f"{self.likelihood.simulator.name}.log_likelihood is -inf at all {len(pool):,} proposals, "
                "which come from the posterior and the prior: as if the data were impossible. Look at the "
                "likelihood and at the data."
            )
        chains = self._chains(pool, adapted) if k > K_HAT else None
        diagnostics = None if chains is None else chains.diagnostics
        found = MonteCarlo(effective(log_weights), k, len(pool), self.wanted.n, diagnostics)
        if chains is None:
            rows, weights = select(normalised(smoothed(log_weights)), self.wanted.n, self.rng)
            theta = pool.at.theta[rows]
        else:
            theta, weights = chains.thinned(self.wanted.n), None
        evidence, error = log_evidence(log_weights)
        facts = {
            "log_evidence": evidence,
            "log_evidence_error": error,
            **found.facts(),
            "noise": self._noise(theta),
            "evaluations": self.likelihood.budget.evaluations,
            "seconds": self.likelihood.budget.seconds,
            **self.of_q,
        }
        return Exact(theta, weights, found, facts)

    def _weighted(self) -> tuple[Adapted, Pool, float]:
        """The proposal, its draws and their k-hat. Draws whose k-hat is bad teach another proposal, as often
        as `_ADAPTED_BY` says; if it stays bad, whatever pool has the largest effective size is returned.
        """
        budget, rng = self.likelihood.budget, self.rng
        budget.share = _ADAPTED_BY[0]
        learned = pilot(self.sources, self.likelihood, rng)
        self.of_q = rating_of_q(learned)
        mixture = fitted(learned, to_fit(learned)[1], rng)
        first = learned
        if mixture.of_q < _LEAST_OF_Q or self.of_q["efficiency"] < _GOOD_Q:
            mixture, learned = mixture.without_q(), Pool(self.sources, with_q=False)
        for share in _ADAPTED_BY:
            budget.share = share
            adapted = adapt(
                learned, mixture, self.likelihood, rng, wanted=self.wanted.ess, tell=self._tell_round
            )
            pool, budget.share = Pool(self.sources, with_q=learned.with_q), share + _OF_DRAWS
            self._fill(pool, adapted)
            if not len(pool):
                break
            if pool.k_hat() <= K_HAT:
                budget.share = 1.0
                self._fill(pool, adapted)
                break
            learned.take(pool)
            mixture = fitted(learned, to_fit(learned)[1], rng)
        budget.share = 1.0
        k = pool.k_hat() if len(pool) else np.inf
        if k > K_HAT:
            pool = max((found for found in (pool, learned, first) if len(found)), key=Pool.ess)
        return adapted, pool, k

    def _fill(self, pool: Pool, adapted: Adapted) -> None:
        """Draw from the fixed proposal until the effective size is reached, or the stage's share is spent."""
        budget = self.likelihood.budget
        while budget.left and not self._enough(pool):
            ess = pool.ess() if len(pool) else 0.0
            rate = ess / len(pool) if ess else max(adapted.efficiency, 1e-3)
            size = int(np.clip(_AHEAD * (self.wanted.ess - ess) / rate, _LEAST_CHUNK, _LARGEST_CHUNK))
            pool.propose(min(size, budget.left), adapted.mixture, self.likelihood, self.rng)
            self.notes.say("exact draws", evaluations=budget.evaluations, ess=pool.ess())

    def _enough(self, pool: Pool) -> bool:
        return bool(len(pool)) and pool.ess() >= self.wanted.ess

    def _chains(self, pool: Pool, adapted: Adapted) -> Chains | None:
        def tell(evaluations: int, found: ChainDiagnostics) -> None:
            self.notes.say("exact chains", evaluations=evaluations, rhat=found.rhat, ess=found.ess)

        return run_chains(
            pool,
            adapted.mixture,
            self.likelihood,
            self.rng,
            chains=self.wanted.chains,
            wanted=self.wanted.ess,
            tell=tell,
        )

    def _tell_round(self, i: int, evaluations: int, efficiency: float) -> None:
        self.notes.say("exact round", round=i, evaluations=evaluations, efficiency=efficiency)

    def _noise(self, theta: F) -> float:
        """The variance of the log-likelihood's estimate at the draw nearest to the posterior mean, from ten
        of them; not counted as evaluations of the budget.
        """
        spread = theta.std(axis=0)
        centre = np.square((theta - theta.mean(axis=0)) / np.where(spread > 0, spread, 1.0)).sum(axis=1)
        values = self.likelihood.aside(np.repeat(theta[centre.argmin()][None], _REPEATS, axis=0))
        return float(values.var(ddof=1)) if np.isfinite(values).all() else np.inf
