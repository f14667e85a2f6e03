"""From a `Comparison` or a `Check` to the page that is written: words, figures, tables, the lines to type."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from sbi_flows.comparison.verdict import FAR, NEAR
from sbi_flows.draws import Draws
from sbi_flows.files import write_bytes
from sbi_flows.report.check_figures import statistics_figure
from sbi_flows.report.figures import colour_of, history_figure, intervals_figure, observed_figure, pair_figure
from sbi_flows.report.page import ReportPage, Row, render_page

if TYPE_CHECKING:
    from sbi_flows.comparison.compare import Comparison


def write_report(comparisons: Sequence[Comparison], path: str | os.PathLike[str]) -> None:
    """One page with a section for each comparison. Raises `StorageError`."""
    heading = "Posterior report: " + ", ".join(dict.fromkeys(c.simulator.name for c in comparisons))
    write_bytes(path, render_page([_section(comparison) for comparison in comparisons], heading).encode())


def _section(comparison: Comparison) -> ReportPage:
    posterior, simulator = comparison.posterior, comparison.simulator
    values = {method: draws.to_numpy() for method, draws in comparison.draws.items()}
    none = np.empty((0, *simulator.event_shape))
    predictive = {method: comparison.predictive.get(method, none) for method in comparison.draws}
    history = posterior.history
    checked = comparison.predictive_check
    statistics = {} if checked is None else {"statistics": statistics_figure(checked)}
    facts = posterior.facts
    distances = [
        cast("Row", {**row, "sentence": _sentence(float(row["c2st"]))})
        for row in comparison.distances.to_dict(orient="records")
    ]
    provenance = {
        "simulator": f"{simulator.name}: {', '.join(simulator.prior.names)}",
        "prior": str(simulator.prior),
        "data": f"shape {simulator.event_shape}",
        "simulations": f"{facts['simulations']:,}"
        + (f" ({facts['failed']:,} more failed)" if facts["failed"] else ""),
        "seed": str(facts["seed"]),
        "versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
        **{f"time to {step}": f"{seconds:.1f} s" for step, seconds in posterior.seconds.items()},
    }
    return ReportPage(
        title=simulator.name,
        subtitle=f"{len(values)} methods on one observation of shape {simulator.event_shape}",
        lead=_lead(comparison),
        verdict_level=comparison.verdict.level,
        verdict_text=comparison.verdict.text,
        table=[cast("Row", row) for row in comparison.table.to_dict(orient="records")],
        methods=[
            (method, colour_of(i, method), _describe(draws))
            for i, (method, draws) in enumerate(comparison.draws.items())
        ],
        figures={
            "observed": observed_figure(comparison.y_obs, predictive),
            **statistics,
            "marginals": intervals_figure(values, simulator.prior.names, comparison.truth),
            "pairs": pair_figure(
                values, simulator.prior.names, simulator.prior.lower, simulator.prior.upper, comparison.truth
            ),
            "history": history_figure(history.train_loss, history.valid_loss, history.best_epoch),
        },
        notes=[*posterior.notes, *comparison.left_out, *_notes(comparison)],
        facts=provenance,
        reproduce=_lines(comparison),
        distances=distances,
        predictions=_predictions(comparison),
        predictive_p=None if comparison.predictive_check is None else comparison.predictive_check.p,
    )


def _predictions(comparison: Comparison) -> list[Row]:
    found = comparison.predictive_check
    if found is None:
        return []
    columns = zip(
        found.names,
        found.observed.tolist(),
        found.low.tolist(),
        found.high.tolist(),
        found.p_values.tolist(),
        strict=True,
    )
    return [
        {"name": name, "observed": seen, "low": low, "high": high, "p": p}
        for name, seen, low, high, p in columns
    ]


def _lead(comparison: Comparison) -> str:
    neural = comparison.draws["neural posterior"]
    summary = neural.summary()
    parts = [
        f"{name} = {summary['mean'].iloc[j]:.3g} ± {summary['sd'].iloc[j]:.2g}"
        for j, name in enumerate(neural.names[:6])
    ]
    others = "; ".join(
        f"{row['b']} against {row['a']}: C2ST {row['c2st']:.2f}"
        for row in comparison.distances.to_dict(orient="records")
        if "exact" in (row["a"], row["b"])
    )
    judged = (
        f" Held against the exact posterior, where 0.5 is indistinguishable and 1 disjoint: {others}."
        if others
        else ""
    )
    return f"The neural posterior puts {', '.join(parts)} (mean ± sd).{judged}"


def _notes(comparison: Comparison) -> list[str]:
    notes = []
    if comparison.agreement is not None and len(null := comparison.agreement.null):
        apart, usual = comparison.agreement.apart, float(np.median(null))
        notes.append(
            f"the means of the ensemble's networks lie {apart:.2f} posterior sd apart here, {usual:.2f} "
            f"(median) on {len(null)} simulated "
            f"data sets: p = {comparison.agreement.p:.2g}"
        )
    facts = comparison.draws["exact"].facts if "exact" in comparison.draws else {}
    if "efficiency" in facts:
        notes.append(
            f"the neural posterior as importance proposal here: efficiency {facts['efficiency']:.1%}, "
            f"Pareto k {facts['pareto_k']:.2f} "
            "(below 0.7 is reliable; noise of the likelihood estimate counts too)"
        )
    return notes


def _describe(draws: Draws) -> str:
    facts = draws.facts
    if "tolerance" in facts:
        left_out = f"; left out: {facts['left_out']}" if facts["left_out"] else ""
        return (
            f"{facts['accepted']:,} of {facts['simulations']:,} simulations within a distance of "
            f"{facts['tolerance']:.3g} "
            f"on {facts['summaries']} summaries{left_out}. {draws.verdict}"
        )
    if facts["simulations"]:
        return (
            f"{len(draws):,} draws from the flow, from {facts['simulations']:,} simulations, some of "
            f"them kept apart."
        )
    return f"{draws.origin}: {draws.verdict.text}"


def _sentence(value: float) -> str:
    if value < NEAR:
        return "hard to tell apart"
    return "close" if value < FAR else "easy to tell apart"


def _lines(comparison: Comparison) -> list[str]:
    facts, n = comparison.posterior.facts, len(comparison.draws["neural posterior"])
    name, seed = facts["simulator"], facts["seed"]
    budget = (
        f"--minutes {facts['minutes']:g}"
        if facts["minutes"]
        else f"-n {facts['simulations'] + facts['failed']}"
    )
    clock = (
        [
            "# with --minutes the clock decides how many steps are taken: figures repeat closely, not to "
            "the bit"
        ]
        if facts["minutes"]
        else []
    )
    return [
        *clock,
        "# with the settings of the fit, where sf.fit was given others than the defaults; a simulator that "
        "is no plug-in is named by",
        f"# its file, model.py:{name}, and to compare also by --simulator model.py:{name}",
        f"sbi-flows fit {name} {budget} --seed {seed} -o {name}.safetensors",
        f"sbi-flows compare {name}.safetensors observed.csv -n {n} --seed {comparison.seed} -o report.html",
        f"# observed.csv, one value a line: {_first(comparison.y_obs)}",
    ]


def _first(y: np.ndarray) -> str:
    flat = y.reshape(-1)
    return " ".join(
        f"{value:.17g}" if value != round(value, 6) else f"{value:.12g}" for value in flat[:30]
    ) + (f" ... ({flat.size} in all)" if flat.size > 30 else "")
