"""Particle Markov chains, for posteriors that no proposal fits (Andrieu & Roberts 2009; Andrieu, Doucet &
Holenstein 2010).

Each step of a chain is one of

    independence    z' ~ g, the fitted mixture               accept with min(1, w(z') / w(z)), w = p^ p / g
    local           z' = z + s (z_a - z_b) + small noise     accept with min(1, p^' p' / (p^ p))

with a, b two rows of an archive (ter Braak 2006; the archive is fixed once warm-up is over, so that the
proposal is symmetric) and s = 2.4 / sqrt(2 u) times 1, 0.5 or 0.1. The estimate p^ is kept with the state, so
the chains have the exact posterior as their limit however noisy it is. The last half of all steps after
warm-up is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.draws import ChainDiagnostics, diagnose_chains
from sbi_flows.exact.likelihood import Likelihood
from sbi_flows.exact.pool import Pool, normalised
from sbi_flows.exact.proposal import Mixture
from sbi_flows.exact.verdict import RHAT

_INDEPENDENT, _SCALES, _NOISE = 0.4, np.array([1.0, 0.5, 0.1]), 1e-4
_WARM_UP, _STAGE, _ARCHIVE = 200, 200, 2000
_ROWS_A_BLOCK = 8


@dataclass(frozen=True, eq=False)
class Chains:
    """theta (chains, steps, d) of the kept steps, how often moves were accepted, and how well they mix."""

    theta: F
    accepted: float
    diagnostics: ChainDiagnostics

    def thinned(self, n: int) -> F:
        """n draws (n, d), evenly from all chains."""
        flat = self.theta.transpose(1, 0, 2).reshape(-1, self.theta.shape[2])
        return np.asarray(flat[np.linspace(0, len(flat) - 1, n).round().astype(int)])


@dataclass(eq=False)
class _State:
    """One row for each chain: z, and log p^ p_Z and log g there."""

    z: F
    log_joint: F
    log_g: F


def run_chains(
    pool: Pool,
    mixture: Mixture,
    likelihood: Likelihood,
    rng: np.random.Generator,
    *,
    chains: int,
    wanted: float,
    tell: Callable[[int, ChainDiagnostics], None],
) -> Chains | None:
    """Chains that begin at draws of the pool, until R-hat and the effective size `wanted` are reached or the
    budget is spent. None where it does not suffice for a first stage.
    """
    weights = normalised(0.5 * np.maximum(pool.log_weights(), -1e300))
    at, log_joint = pool.at, pool.log_joint()
    rows = rng.choice(len(weights), chains, p=weights)
    state = _State(at.z[rows], log_joint[rows], mixture.log_prob(at)[rows])
    walk = _Walk(mixture, likelihood, at.z[rng.choice(len(weights), _ARCHIVE, p=weights)], rng)
    past = [state.z]
    for _ in range(_WARM_UP):
        if walk.step(state) is None:
            return None
        past.append(state.z.copy())
        walk.archive[rng.integers(_ARCHIVE, size=chains)] = state.z
    walk.archive = np.concatenate(past[_WARM_UP // 2 :])
    kept: list[F] = []
    moved: list[float] = []
    found: Chains | None = None
    stage = _STAGE
    while True:
        for _ in range(stage):
            accepted = walk.step(state)
            if accepted is None:
                break
            kept.append(state.z.copy())
            moved.append(accepted)
        if len(kept) < _STAGE // 2:
            return found
        half = len(kept) // 2
        z = np.stack(kept[half:], axis=1)
        theta = mixture.sources.prior.from_unconstrained(z)
        found = Chains(theta, float(np.mean(moved[half:])), diagnose_chains(z))
        tell(likelihood.budget.evaluations, found.diagnostics)
        if accepted is None or (found.diagnostics.rhat <= RHAT and found.diagnostics.ess >= wanted):
            return found
        stage = len(kept)


@dataclass(eq=False)
class _Walk:
    """How the chains move. archive (m, u): the rows whose differences are the local moves."""

    mixture: Mixture
    likelihood: Likelihood
    archive: F
    rng: np.random.Generator

    def step(self, state: _State) -> float | None:
        """Move all chains once. The share that moved; None where the budget is spent, and nothing moved."""
        chains, u = state.z.shape
        if self.likelihood.budget.left < chains:
            return None
        rng, independent = self.rng, self.rng.random(chains) < _INDEPENDENT
        a, b = self.archive[rng.integers(len(self.archive), size=(2, chains))]
        scale = 2.4 / np.sqrt(2 * u) * rng.choice(_SCALES, (chains, 1))
        spread = self.archive.std(axis=0)
        z = state.z + scale * (a - b) + _NOISE * spread * rng.standard_normal((chains, u))
        z[independent] = self.mixture.sample(chains, rng)[0][independent]
        at = self.mixture.sources.at(z, with_q=self.mixture.of_q > 0)
        values = self.likelihood(at.theta, _ROWS_A_BLOCK)
        if len(values) < chains:
            return None
        log_joint = np.where(np.isfinite(at.log_prior), values + at.log_prior, -np.inf)
        log_g = self.mixture.log_prob(at)
        gain = log_joint - state.log_joint - np.where(independent, log_g - state.log_g, 0.0)
        taken = np.log(rng.random(chains)) < np.where(np.isneginf(log_joint), -np.inf, gain)
        state.z = np.where(taken[:, None], z, state.z)
        state.log_joint = np.where(taken, log_joint, state.log_joint)
        state.log_g = np.where(taken, log_g, state.log_g)
        return float(taken.mean())
