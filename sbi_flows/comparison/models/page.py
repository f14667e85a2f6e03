"""The page of a choice of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sbi_flows.comparison.models.choice import ModelChoice
from sbi_flows.comparison.models.verdict import CLASSIFIER
from sbi_flows.diagnostics.classification import BAND_LEVEL, ClassCalibration
from sbi_flows.notes import Note
from sbi_flows.report.check_figures import BandedCurve
from sbi_flows.report.data_figures import data_figures
from sbi_flows.report.model_figures import probabilities_figure, reliability_figure
from sbi_flows.report.observed import DataArray, caption_of
from sbi_flows.report.page import format_statistic, render, stamp
from sbi_flows.report.svg import colours_of
from sbi_flows.verdict import Verdict


@dataclass(frozen=True, eq=False)
class ModelsPage:
    """What the page says. shown: arrays of the data for figures, perhaps none. predicted: models of which
    they show posterior predictions, and not the nearest simulations.
    """

    names: tuple[str, ...]
    methods: Mapping[str, ModelChoice]
    verdict: Verdict
    model_verdicts: Mapping[str, Verdict]
    calibration: ClassCalibration
    shown: Sequence[DataArray]
    predicted: tuple[str, ...]
    notes: Sequence[Note]
    facts: Mapping[str, str]

    def html(self) -> str:
        """One self-contained HTML document."""
        colours = colours_of(self.names)
        prior = self.methods[CLASSIFIER].prior
        found = {name: (one.probabilities, one.errors) for name, one in self.methods.items()}
        caption = caption_of(self.shown)
        return render(
            "models",
            heading=f"Comparison of models: {', '.join(self.names)}",
            lead=self._lead(),
            verdict=stamp(self.verdict),
            probabilities=probabilities_figure(found, colours, prior),
            against=self.names[0],
            rows=self._rows(),
            models=[
                {"name": name, "colour": colours[name], "verdict": stamp(self.model_verdicts[name])}
                for name in self.names
            ],
            observed=data_figures(self.shown, colours) if self.shown else None,
            more=" ".join(filter(None, [self._of_figure(), caption])),
            reliability=reliability_figure(self._curves()),
            calibration=self._of_calibration(),
            notes=self.notes,
            facts=self.facts,
        )

    def _of_figure(self) -> str:
        others = [name for name in self.names if name not in self.predicted]
        said = []
        if self.predicted:
            said.append(f"Of {', '.join(self.predicted)}: data simulated at draws of its posterior.")
        if others:
            said.append(
                f"Of {', '.join(others)}: the 200 simulations of the prior that are nearest by the distance "
                f"of ABC."
            )
        return " ".join(said)

    def _lead(self) -> str:
        each = [
            f"{method}: "
            + ", ".join(
                f"{name} {p:.3f} ± {error:.3f}"
                for name, p, error in zip(self.names, one.probabilities, one.errors, strict=True)
            )
            for method, one in self.methods.items()
        ]
        return f"Probabilities of the models (± standard error) by {'; by '.join(each)}."

    def _rows(self) -> list[list[str]]:
        rows = []
        for k, name in enumerate(self.names):
            for method, one in self.methods.items():
                factors, errors = one.log_bayes_factors(0)
                numbers = (one.probabilities[k], one.errors[k], factors[k], errors[k])
                rows.append([name, method, *(format_statistic(float(number)) for number in numbers)])
        return rows

    def _curves(self) -> list[BandedCurve]:
        pairs = zip(self.names, self.calibration.curves, strict=True)
        return [BandedCurve(name, one.predicted, one.observed, one.low, one.high) for name, one in pairs]

    def _of_calibration(self) -> str:
        found = self.calibration
        return (
            f"{found.n:,} simulations that no network was trained on, in bins of the probability. Of a "
            f"calibrated classifier all shares lie in their bands with probability {BAND_LEVEL:.0%} (exact, "
            f"for all bins and models at once). All tests together: p = {format_statistic(found.p)}; best "
            f"temperature on these simulations {found.temperature:.2f} (1: calibrated; above: overconfident)."
        )
