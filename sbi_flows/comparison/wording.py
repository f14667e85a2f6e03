"""What a report says of a comparison in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sbi_flows.comparison.agreement import Agreement
from sbi_flows.comparison.methods import NEURAL
from sbi_flows.comparison.verdict import FAR, NEAR
from sbi_flows.diagnostics.predictive import PredictiveCheck
from sbi_flows.draws import Draws
from sbi_flows.notes import Note
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.problem.simulator import Simulator
from sbi_flows.verdict import Verdict

if TYPE_CHECKING:
    from sbi_flows.report.page import Row

_MOST_IN_LEAD = 6


def provenance(posterior: Posterior, simulator: Simulator) -> dict[str, str]:
    """Where the neural posterior comes from."""
    facts, declared = posterior.facts, posterior.declared_summaries
    failed = f" ({facts['failed']:,} more failed)" if facts["failed"] else ""
    seconds = posterior.seconds.items()
    return {
        "simulator": f"{simulator.name}: {', '.join(simulator.prior.names)}",
        "prior": str(simulator.prior),
        "data": posterior.events.describe(),
        **({"declared summaries": f"{declared} in the network's input"} if declared else {}),
        "simulations": f"{facts['simulations']:,}{failed}",
        "seed": str(facts["seed"]),
        "versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
        **{f"time to {step}": f"{duration:.1f} s" for step, duration in seconds},
    }


def predictions(found: PredictiveCheck) -> list[Row]:
    """A row for each statistic of the data."""
    columns = (found.observed, found.low, found.high, found.p_values)
    keys = ("name", "observed", "low", "high", "p")
    rows = zip(found.names, *(column.tolist() for column in columns), strict=True)
    return [dict(zip(keys, row, strict=True)) for row in rows]


def lead(draws: Draws) -> str:
    """The answer of the method to believe."""
    means = draws.summary()[["mean", "sd"]].to_numpy()
    shown = zip(draws.names[:_MOST_IN_LEAD], means, strict=False)
    return f"It gives {', '.join(_value(name, mean, sd) for name, (mean, sd) in shown)} (mean ± sd)."


def _value(name: str, mean: float, sd: float) -> str:
    """Two digits of the sd, and as many decimals of the mean."""
    if not (np.isfinite(sd) and 1e-9 < sd < 1e9):
        return f"{name} = {mean:.6g} ± {sd:.2g}"
    decimals = max(1 - int(np.floor(np.log10(sd))), 0)
    return f"{name} = {mean:,.{decimals}f} ± {sd:,.{decimals}f}"


def notes_on(members: Agreement | None, exact: Draws | None) -> list[Note]:
    """Notes on the networks' agreement, and on the neural posterior as a proposal."""
    notes = []
    if members is not None and (n := len(members.null)):
        usual = float(np.median(members.null))
        notes.append(Note("networks apart", apart=members.apart, usual=usual, n=n, p=members.p))
    facts: Any = {} if exact is None else exact.facts
    if "efficiency" in facts:
        found = {name: facts[name] for name in ("efficiency", "pareto_k")}
        notes.append(Note("importance proposal", **found))
    return notes


def describe(draws: Draws, verdict: Verdict) -> str:
    """How the draws of a method were made, and its verdict."""
    facts = draws.facts
    if "accepted" in facts:
        left_out = f"; left out: {facts['left_out']}" if facts["left_out"] else ""
        made = (
            f"{facts['accepted']:,} of {facts['simulations']:,} simulations within a distance of "
            f"{facts['tolerance']:.3g} on {facts['summaries']} summaries{left_out}. "
        )
    elif draws.origin == NEURAL:
        declared = facts.get("declared_summaries", 0)
        joined = f", which sees the data and {declared} declared summaries" if declared else ""
        return (
            f"{len(draws):,} draws from a flow fitted to {facts['simulations']:,} simulations, some held "
            f"out{joined}."
        )
    else:
        made = ""
    return f"{made}{verdict.text[:1].upper()}{verdict.text[1:]}"


def in_words(c2st: float) -> str:
    """How far two methods are apart."""
    return "hard to tell apart" if c2st < NEAR else "close" if c2st < FAR else "easy to tell apart"
