"""What `sf.compare` returns: the methods side by side, a verdict on the neural posterior, and the report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.comparison.agreement import Agreement
from sbi_flows.comparison.export import Figures, export
from sbi_flows.comparison.methods import EXACT, NEURAL
from sbi_flows.comparison.preference import Preference, preferred
from sbi_flows.comparison.reproduce import lines
from sbi_flows.comparison.verdict import believe, beyond_chance, reasons_against, unlike_exact
from sbi_flows.comparison.wording import describe, in_words, lead, notes_on, predictions, provenance
from sbi_flows.diagnostics.distances import c2st, sliced_wasserstein
from sbi_flows.diagnostics.predictive import PredictiveCheck
from sbi_flows.draws import Draws, weighted_quantile
from sbi_flows.files import write_bytes
from sbi_flows.notes import Note
from sbi_flows.posterior.data_shown import data_shown
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import stream
from sbi_flows.verdict import Verdict

if TYPE_CHECKING:
    import pandas

    from sbi_flows.report.observed import DataArray
    from sbi_flows.report.page import ReportPage, Row

_DISTANCE_DRAWS = 2000


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `sf.compare` found.

    draws: method -> Draws.
    predictive: method -> data sets simulated at its draws, (n, *event).
    seconds: method -> computing time for this observation. before: that spent once, before any observation.
    truth: theta (d,), where it is known.
    left_out: what could not be run, and why.
    predictive_check: of the neural posterior.
    agreement: of the networks of an ensemble, here and on simulated data; None for a single network.
    """

    simulator: Simulator
    posterior: Posterior
    y_obs: F
    draws: Mapping[str, Draws]
    predictive: Mapping[str, F]
    seconds: Mapping[str, float]
    before: Mapping[str, float]
    truth: F | None
    left_out: tuple[Note, ...]
    seed: int
    predictive_check: PredictiveCheck | None = None
    agreement: Agreement | None = None

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict on the neural posterior here, never better than the worst of its parts.

        They are the observation's place among the simulations, the predictions, the agreement of the networks
        and the distance from the exact posterior. The last takes as long as `distances`, once.
        """
        reference = self.draws[EXACT].verdict if EXACT in self.draws else None
        against = reasons_against(
            self.predictive_check, self.agreement, self._beyond_chance(NEURAL), reference
        )
        tested = self.predictive_check is not None
        return believe(self.draws[NEURAL].verdict, against, predictions_tested=tested)

    @property
    def preferred(self) -> Preference:
        """Which method to believe here, and why. Takes as long as `distances`, once."""
        near = {row["b"]: row["c2st"] for row in _records(self.distances) if row["a"] == EXACT}
        return preferred(self.verdicts, near)

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """The verdict on each method: its own, never better than its distance from the exact posterior
        allows. Takes as long as `distances`, once.
        """
        found = {NEURAL: self.verdict}
        for method, draws in self.draws.items():
            if method == NEURAL:
                continue
            found[method] = draws.verdict
            if method != EXACT and EXACT in self.draws:
                reference = self.draws[EXACT].verdict
                against = unlike_exact(self._beyond_chance(method), reference, neural=False)
                found[method] = believe(draws.verdict, against)
        return found

    def _beyond_chance(self, method: str) -> float | None:
        """C2ST of a method from the exact posterior, where it is known and beyond chance."""
        if EXACT not in self.draws:
            return None
        row = self.distances.set_index("b").loc[method]
        return beyond_chance(float(row["c2st"]), int(row["n"]))

    @property
    def methods(self) -> pandas.DataFrame:
        """A row per method: its verdict, C2ST from the reference of `distances`, effective number of draws,
        and what it cost: seconds for this observation, seconds spent once before, simulations.
        """
        import pandas

        apart = {row["b"]: row["c2st"] for row in _records(self.distances)}
        return pandas.DataFrame(
            [
                {
                    "method": method,
                    "verdict": self.verdicts[method].level,
                    "c2st": apart.get(method, np.nan),
                    "ess": draws.ess,
                    "seconds": self.seconds[method],
                    "seconds_before": self.before[method],
                    "simulations": draws.facts["simulations"],
                }
                for method, draws in self.draws.items()
            ]
        )

    @property
    def shown(self) -> list[DataArray]:
        """The arrays of the data, observed and predicted by each method, as figures take them."""
        none = np.empty((0, *self.y_obs.shape))
        return data_shown(
            self.posterior, self.y_obs, {method: self.predictive.get(method, none) for method in self.draws}
        )

    @property
    def table(self) -> pandas.DataFrame:
        """A row per method and parameter: mean, sd, 90% interval, ESS, seconds, simulations."""
        import pandas

        rows = []
        for method, draws in self.draws.items():
            weights = np.full(len(draws), 1 / len(draws)) if draws.weights is None else draws.weights
            summary = draws.summary()
            for j, name in enumerate(draws.names):
                rows.append(
                    {
                        "method": method,
                        "parameter": name,
                        "mean": float(summary["mean"].iloc[j]),
                        "sd": float(summary["sd"].iloc[j]),
                        "q05": weighted_quantile(draws.values[:, j], weights, 0.05),
                        "q95": weighted_quantile(draws.values[:, j], weights, 0.95),
                        "truth": None if self.truth is None else float(self.truth[j]),
                        "ess": draws.ess,
                        "seconds": self.seconds[method],
                        "seconds_before": self.before[method],
                        "simulations": draws.facts["simulations"],
                    }
                )
        return pandas.DataFrame(rows)

    @cached_property
    def distances(self) -> pandas.DataFrame:
        """C2ST (0.5: equal, 1: disjoint) and sliced Wasserstein distance (in sd) from a reference.

        The reference, column `a`, is the exact posterior where there is one, else the neural posterior. Each
        C2ST trains a classifier on at most 2,000 draws of both: a few seconds per method, once per
        comparison.
        """
        import pandas

        rows = []
        a = EXACT if EXACT in self.draws else NEURAL
        for b in (method for method in self.draws if method != a):
            n = min(len(self.draws[a]), len(self.draws[b]), _DISTANCE_DRAWS)
            rng = stream(self.seed, "distances")
            first, second = (rng.permutation(self.draws[method].to_numpy())[:n] for method in (a, b))
            score, distance = c2st(first, second), sliced_wasserstein(first, second, rng=rng)
            rows.append({"a": a, "b": b, "c2st": score, "sliced_wasserstein": distance, "n": n})
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        return f"Comparison({', '.join(self.draws)} on one observation of {self.simulator.name!r})"

    def _repr_html_(self) -> str:
        shown = self.table[["method", "parameter", "mean", "sd", "q05", "q95"]]
        return f"<p>{escape(repr(self))}</p>{shown.to_html(index=False, float_format='{:.4g}'.format)}"

    def export(self, folder: str | os.PathLike[str], *, figures: Figures = ("svg", "pdf")) -> list[Path]:
        """Write every table as tidy CSV, all of them as one JSON file, and every figure in each format.

        Returns the paths. Raises `StorageError`, `SettingsError`.
        """
        from sbi_flows.report.svg import colours_of

        tables = {"methods": self.methods, "parameters": self.table, "distances": self.distances}
        checked = self.predictive_check
        facts = {
            "simulator": self.simulator.name,
            "seed": self.seed,
            "verdict": str(self.verdict),
            "preferred": self.preferred.why.to_json(),
            "observed": self.y_obs,
            "left_out": [note.to_json() for note in self.left_out],
            "predictions": None if checked is None else predictions(checked),
        }
        drawn = _figures(self, colours_of(self.draws, reference=EXACT))
        return export(folder, "comparison", tables, facts, drawn, figures)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the report as one self-contained HTML file. Raises `StorageError`."""
        write_report([self], path)


def write_report(comparisons: Sequence[Comparison], path: str | os.PathLike[str]) -> None:
    """Write one page with a section for each comparison. Raises `StorageError`."""
    from sbi_flows.report.page import render_page

    heading = "Posterior report: " + ", ".join(dict.fromkeys(c.simulator.name for c in comparisons))
    write_bytes(path, render_page([_section(comparison) for comparison in comparisons], heading).encode())


def _section(comparison: Comparison) -> ReportPage:
    from sbi_flows.report.observed import caption_of
    from sbi_flows.report.page import ReportPage
    from sbi_flows.report.svg import colours_of

    simulator, posterior, checked = comparison.simulator, comparison.posterior, comparison.predictive_check
    found, verdicts = comparison.draws, comparison.verdicts
    colours = colours_of(found, reference=EXACT)
    methods = "1 method" if len(comparison.draws) == 1 else f"{len(comparison.draws)} methods"
    distances = [{**row, "sentence": in_words(row["c2st"])} for row in _records(comparison.distances)]
    return ReportPage(
        title=simulator.name,
        subtitle=f"{methods} on one observation of {posterior.events.describe()}",
        lead=lead(comparison.draws[comparison.preferred.method]),
        verdict=comparison.verdict,
        preference=comparison.preferred.why,
        glance=[_at_a_glance(row) for row in _records(comparison.methods)],
        subject=NEURAL,
        table=_records(comparison.table),
        methods=[(name, colours[name], describe(draws, verdicts[name])) for name, draws in found.items()],
        figures=_figures(comparison, colours),
        notes=[*posterior.notes, *comparison.left_out, *notes_on(comparison.agreement, found.get(EXACT))],
        facts=provenance(posterior, simulator),
        reproduce=lines(
            posterior, simulator, comparison.y_obs, len(comparison.draws[NEURAL]), comparison.seed
        ),
        distances=distances,
        predictions=[] if checked is None else predictions(checked),
        predictive_p=None if checked is None else checked.p,
        more={"observed": caption_of(comparison.shown)},
    )


def _records(table: pandas.DataFrame) -> list[dict[str, Any]]:
    return [dict(row) for row in table.to_dict(orient="records")]


def _at_a_glance(row: dict[str, Any]) -> Row:
    score = float(row["c2st"])
    return {**row, "sentence": in_words(score) if np.isfinite(score) else ""}


def _figures(comparison: Comparison, colours: Mapping[str, str]) -> dict[str, str]:
    from sbi_flows.report.check_figures import statistics_figure
    from sbi_flows.report.data_figures import data_figures
    from sbi_flows.report.figures import history_figure, intervals_figure
    from sbi_flows.report.joint import pair_figure

    prior, truth, checked = comparison.simulator.prior, comparison.truth, comparison.predictive_check
    history = comparison.posterior.history
    values = {method: draws.to_numpy() for method, draws in comparison.draws.items()}
    figures = {
        "observed": data_figures(comparison.shown, colours),
        "marginals": intervals_figure(values, colours, prior.names, truth),
        "pairs": pair_figure(values, colours, prior.names, (prior.lower, prior.upper), truth),
        "history": history_figure(history.train_loss, history.valid_loss, history.best_epoch),
    }
    if checked is not None:
        columns = (checked.observed, checked.low, checked.high, checked.p_values)
        figures["statistics"] = statistics_figure(checked.names, *columns)
    return figures
