"""What `sf.study` returns: scores of each method on many data sets, tidy tables, figures and a page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.comparison.export import Figures, export
from sbi_flows.comparison.methods import EXACT, LABELS, NEURAL
from sbi_flows.files import write_bytes
from sbi_flows.notes import Note
from sbi_flows.posterior.posterior import Posterior

if TYPE_CHECKING:
    import pandas

    from sbi_flows.report.study_figures import Scores

_LEVELS = {0.5: ("q25", "q75"), 0.9: ("q05", "q95")}


@dataclass(frozen=True, eq=False)
class Study:
    """What `sf.study` found. Made by it.

    records: one for each observation, as JSON. failed: simulations that failed and were left out.
    """

    simulator_name: str
    posterior: Posterior
    records: tuple[Mapping[str, Any], ...]
    budget: Mapping[str, Any]
    seed: int
    failed: int = 0

    def __repr__(self) -> str:
        return f"Study({', '.join(self.methods)} on {len(self.records)} data sets of {self.simulator_name!r})"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>{self.summary.to_html(index=False, float_format='{:.3g}'.format)}"

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that answered at least once."""
        answered = {row["method"] for record in self.records for row in record["answers"]}
        return tuple(label for label in LABELS.values() if label in answered)

    @property
    def table(self) -> pandas.DataFrame:
        """A row for each observation, method and parameter: truth, mean, sd, quantiles, rank of the truth,
        and, in standard deviations of the prior, error of the mean and CRPS.
        """
        import pandas

        return pandas.DataFrame([row for record in self.records for row in record["parameters"]])

    @property
    def answers(self) -> pandas.DataFrame:
        """A row for each observation and method: energy score, C2ST from the exact posterior, ESS, verdict,
        seconds, simulations.
        """
        import pandas

        return pandas.DataFrame([row for record in self.records for row in record["answers"]])

    @property
    def left_out(self) -> tuple[Note, ...]:
        """What could not be run, and why."""
        return tuple(Note.from_json(note) for record in self.records for note in record["left_out"])

    @property
    def summary(self) -> pandas.DataFrame:
        """A row for each method, means over the observations that it answered.

        energy, crps, rmse: of the parameters in standard deviations of the prior; smaller is better.
        energy_difference: minus that of the neural posterior on the same data sets, with its standard error.
        coverage_50, coverage_90: of central intervals, over parameters and observations, with the standard
        error of the second over observations. c2st: from the exact posterior. trusted: the share of answers
        with the verdict "trust". seconds: median for one observation; seconds_before: spent once.
        """
        import pandas

        table, answers = self.table, self.answers
        neural = answers[answers["method"] == NEURAL].set_index("observation")["energy"]
        rows = []
        for method in self.methods:
            own, each = answers[answers["method"] == method], table[table["method"] == method]
            apart = (own.set_index("observation")["energy"] - neural).dropna().to_numpy(dtype=np.float64)
            covered = {level: _covered(each, level) for level in _LEVELS}
            rows.append(
                {
                    "method": method,
                    "observations": len(own),
                    "energy": own["energy"].mean(),
                    "energy_difference": apart.mean(),
                    "difference_error": _error(apart),
                    "crps": each["crps"].mean(),
                    "rmse": float(np.sqrt(np.square(each["error"]).mean())),
                    "coverage_50": covered[0.5].mean(),
                    "coverage_90": covered[0.9].mean(),
                    "coverage_90_error": _error(covered[0.9]),
                    "c2st": pandas.to_numeric(own["c2st"]).mean(),
                    "trusted": (own["verdict"] == "trust").mean(),
                    "seconds": own["seconds"].median(),
                    "seconds_before": own["seconds_before"].max(),
                    "simulations": own["simulations"].mean(),
                }
            )
        return pandas.DataFrame(rows)

    def export(self, folder: str | os.PathLike[str], *, figures: Figures = ("svg", "pdf")) -> list[Path]:
        """Write every table as tidy CSV, all of them as one JSON file, and every figure in each format.

        Returns the paths. Raises `StorageError`, `SettingsError`.
        """
        tables = {"summary": self.summary, "answers": self.answers, "parameters": self.table}
        facts = {
            "simulator": self.simulator_name,
            "seed": self.seed,
            "budget": dict(self.budget),
            "failed": self.failed,
            "left_out": [note.to_json() for note in self.left_out],
        }
        return export(folder, "study", tables, facts, self._figures(), figures)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the study as one self-contained HTML file. Raises `StorageError`."""
        from sbi_flows.report.page import format_number, format_seconds, format_statistic, render

        rows = []
        for row in self.summary.to_dict("records"):
            scores = [format_statistic(float(row[name])) for name in ("energy", "energy_difference")]
            shares = [format_statistic(float(row[k])) for k in ("rmse", "coverage_50", "coverage_90", "c2st")]
            cost = [format_seconds(row["seconds"]), format_seconds(row["seconds_before"])]
            rows.append(
                [
                    row["method"],
                    format_number(int(row["observations"])),
                    scores[0],
                    f"{scores[1]} ± {format_statistic(float(row['difference_error']))}",
                    *shares,
                    f"{row['trusted']:.0%}",
                    *cost,
                    format_number(round(row["simulations"])),
                ]
            )
        page = render(
            "study",
            heading=f"Study: {self.simulator_name}",
            lead=self._lead(),
            rows=rows,
            notes=sorted({str(note) for note in self.left_out}),
            **self._figures(),
        )
        write_bytes(path, page.encode())

    def _lead(self) -> str:
        budget = ", ".join(f"{name} = {value:,}" for name, value in self.budget.items() if value is not None)
        failed = f" Another {self.failed:,} simulations failed and are left out." if self.failed else ""
        spent = f" Each method that simulates for one data set had {budget}." if budget else ""
        return (
            f"{len(self.methods)} methods answered for {len(self.records):,} data sets of "
            f"{self.simulator_name}, simulated at draws from the prior.{spent}{failed}"
        )

    def _figures(self) -> dict[str, str]:
        from sbi_flows.report.study_figures import Scores, scores_figure, study_coverage_figure
        from sbi_flows.report.svg import colours_of

        table, answers, methods = self.table, self.answers, self.methods
        colours = colours_of(methods, reference=EXACT)

        def of(frame: pandas.DataFrame, method: str, column: str) -> F:
            return np.asarray(frame[frame["method"] == method][column], dtype=np.float64)

        scores: dict[str, Scores] = {
            method: Scores(of(answers, method, "energy"), of(answers, method, "seconds"))
            for method in methods
        }
        ranks = {method: of(table, method, "rank") for method in methods}
        return {
            "scores": scores_figure(scores, colours),
            "coverage": study_coverage_figure(ranks, colours, len(self.records)),
        }


def _covered(rows: pandas.DataFrame, level: float) -> F:
    """The share of parameters whose interval holds the truth, for each observation."""
    low, high = _LEVELS[level]
    inside = (rows[low] <= rows["truth"]) & (rows["truth"] <= rows[high])
    return np.asarray(inside.groupby(rows["observation"]).mean(), dtype=np.float64)


def _error(values: F) -> float:
    """The standard error of the mean."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
