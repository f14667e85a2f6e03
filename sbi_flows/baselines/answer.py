"""What a run of a sequential method is to its user: draws, how they were made, and a verdict."""

from __future__ import annotations

from typing import Any

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.baselines.adjusted_particles import moved
from sbi_flows.baselines.convergence import p_of_data, verdict_of, verdict_on_chains
from sbi_flows.baselines.runs import Runs
from sbi_flows.baselines.sequential import Ended
from sbi_flows.baselines.settings import ABCSettings
from sbi_flows.baselines.synthetic import Sampled
from sbi_flows.baselines.verdict import with_failures, with_filled
from sbi_flows.draws import Draws, diagnose_chains
from sbi_flows.errors import TooFewSimulationsError
from sbi_flows.notes import Note
from sbi_flows.verdict import Verdict

_ORIGINS = {"smc": "SMC-ABC", "pmc": "population Monte Carlo ABC"}
_TOLD = (
    *("generation", "tolerance", "relative_tolerance", "acceptance", "ess", "distinct", "simulations"),
    "steps",
)


def of_particles(runs: Runs, method: str, settings: ABCSettings, ended: Ended) -> Draws:
    """Distinct particles of the last generation, by their weights; or all of them, adjusted."""
    last, prior, origin = ended.generation, runs.simulator.prior, _ORIGINS[method]
    z, weights = last.merged()
    values = prior.from_unconstrained(z)
    if settings.adjust is not None:
        values, weights = moved(last, prior, settings.adjust, runs.seed)
        origin = f"{origin}, {settings.adjust} adjustment"
    verdict = verdict_of(last, runs.target.summaries)
    facts = {
        "tolerance": last.region.tolerances[-1],
        "acceptance": last.records[-1]["acceptance"],
        "ess": last.ess,
        "generations": [{name: record[name] for name in _TOLD if name in record} for record in last.records],
    }
    return _draws(runs, values, weights, verdict, origin, {**facts, "stopped": ended.why})


def of_chains(runs: Runs, sampled: Sampled) -> Draws:
    """All states after warm-up."""
    chains = sampled.chains
    kept = np.array(chains.history[chains.warmup :])
    if len(kept) < 4:
        raise TooFewSimulationsError(
            f"the budget was spent after {chains.step} steps, and the chains warm up for {chains.warmup}. "
            "Give more simulations or minutes, or a shorter ABCSettings(warmup=...)."
        )
    found = diagnose_chains(np.moveaxis(kept, 0, 1))
    p = p_of_data(sampled.at_mean, runs.target.summaries) if len(sampled.at_mean) else float("nan")
    verdict = verdict_on_chains(found, sampled.on_data, sampled.normality, p)
    facts = {
        "chains": kept.shape[1],
        "steps": len(kept),
        "warmup": chains.warmup,
        "simulations_each": chains.each,
        "covariance": chains.estimator.kind,
        "acceptance": float(np.mean(chains.accepted[chains.warmup :])),
        "rhat": found.rhat,
        "ess": found.ess,
        "normality": sampled.normality,
        "stopped": sampled.why,
    }
    values = runs.simulator.prior.from_unconstrained(kept.reshape(-1, kept.shape[2]))
    return _draws(runs, values, None, verdict, "synthetic likelihood", facts)


def _draws(
    runs: Runs, values: F, weights: F | None, verdict: Verdict, origin: str, facts: dict[str, Any]
) -> Draws:
    verdict = with_failures(verdict, sum(runs.failed.values()), runs.budget.made)
    verdict = with_filled(verdict, runs.target.filled)
    stopped: Note = facts.pop("stopped")
    whole = {
        "simulations": runs.budget.made,
        "simulator": runs.simulator.name,
        "summaries": len(runs.target.summaries),
        **facts,
        "stopped": stopped,
        "failures": dict(sorted(runs.failed.items())),
        "seconds": runs.budget.used,
    }
    return Draws.of(runs.simulator.prior, values, verdict, origin, weights, whole)
