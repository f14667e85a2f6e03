"""What `sf.compare_models` returns: probabilities of the models by each method, a verdict, and the page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.comparison.models.choice import ModelChoice
from sbi_flows.comparison.models.classifier import Classifier
from sbi_flows.comparison.models.likeness import Likeness
from sbi_flows.comparison.models.predictions import Predictions
from sbi_flows.comparison.models.request import Models
from sbi_flows.comparison.models.verdict import CLASSIFIER, verdict_on
from sbi_flows.diagnostics.classification import ClassCalibration
from sbi_flows.errors import ObservationError
from sbi_flows.files import write_bytes
from sbi_flows.machine import torch_defaults
from sbi_flows.notes import Note
from sbi_flows.problem.observation import as_observation
from sbi_flows.verdict import Verdict

if TYPE_CHECKING:
    import pandas

    from sbi_flows.report.observed import DataArray


@dataclass(frozen=True, eq=False, repr=False)
class ModelComparison:
    """Which of several models made one observation.

    methods: what each method says, by its name: "classifier", "ABC", "ABC, logistic", "evidence".
    nearest: the simulations of each model that are nearest to the data, (n, *event). predictions: of models
    whose posterior is known.
    counts: simulations of each model, and how many of them can be used.
    notes: what was chosen and left out, each a sentence with a `kind` and `values`. seconds: by step.
    """

    models: Models
    methods: Mapping[str, ModelChoice]
    classifier: Classifier = field(repr=False)
    likeness: Likeness = field(repr=False)
    nearest: Mapping[str, F]
    predictions: Predictions = field(repr=False)
    counts: Mapping[str, tuple[int, int]]
    notes: tuple[Note, ...]
    seconds: Mapping[str, float]
    seed: int

    def __repr__(self) -> str:
        each = ", ".join(f"{name} {p:.3g}" for name, p in self.probabilities.items())
        return f"ModelComparison({each}; verdict: {self.verdict.level})"

    def _repr_html_(self) -> str:
        table = self.table.to_html(index=False, float_format=lambda value: f"{value:.3f}", na_rep="")
        return f"<p><b>{escape(self.verdict.level)}</b>: {escape(self.verdict.text)}</p>{table}"

    @property
    def names(self) -> tuple[str, ...]:
        """The models."""
        return self.models.names

    @property
    def probabilities(self) -> dict[str, float]:
        """P(model | y) by the classifier. `table` has those of the other methods."""
        found = self.methods[CLASSIFIER].probabilities
        return {name: float(p) for name, p in zip(self.names, found, strict=True)}

    @property
    def calibration_test(self) -> ClassCalibration:
        """The test of the classifier on held-out simulations."""
        return self.classifier.calibration

    @cached_property
    def model_verdicts(self) -> dict[str, Verdict]:
        """For each model: does it make such data, and does its posterior, where it is known, predict them?"""
        with torch_defaults():
            found = self.likeness.verdicts(self.models.observed[None])
        return {name: self.predictions.worsen(name, verdicts[0]) for name, verdicts in found.items()}

    @cached_property
    def verdict(self) -> Verdict:
        """Whether to believe the classifier's probabilities; its text says where the methods differ."""
        failed = {name: 1 - ok / n for name, (n, ok) in self.counts.items()}
        return verdict_on(self.names, self.methods, self.model_verdicts, self.classifier.calibration, failed)

    @property
    def table(self) -> pandas.DataFrame:
        """A row per method and model: probability with its standard error, log Bayes factor against the first
        model with its standard error (nats; prior probabilities of the models do not enter).
        """
        import pandas

        rows = []
        for method, choice in self.methods.items():
            factors, errors = choice.log_bayes_factors(0)
            for k, name in enumerate(self.names):
                rows.append(
                    {
                        "by": method,
                        "model": name,
                        "probability": float(choice.probabilities[k]),
                        "error": float(choice.errors[k]),
                        "against": self.names[0],
                        "log_bayes_factor": float(factors[k]),
                        "log_bayes_factor_error": float(errors[k]),
                    }
                )
        return pandas.DataFrame(rows)

    @property
    def calibration(self) -> pandas.DataFrame:
        """The reliability curve of each model on held-out simulations: in bins of its probability, the mean
        probability and the share that the model made, with the band in which all shares lie at once with
        probability 0.99 for a calibrated classifier.
        """
        import pandas

        rows = []
        for name, curve in zip(self.names, self.classifier.calibration.curves, strict=True):
            columns = (curve.predicted, curve.observed, curve.low, curve.high, curve.counts)
            keys = ("predicted", "observed", "low", "high", "n")
            for row in zip(*(column.tolist() for column in columns), strict=True):
                rows.append({"model": name, **dict(zip(keys, row, strict=True))})
        return pandas.DataFrame(rows)

    def predict(self, y: Any) -> pandas.DataFrame:
        """The classifier's answer for another observation, or a stack of them, without simulating: a row per
        observation and model, as `table`, with `looks_like`: whether the model looks like the data.

        Raises `ShapeError`, and `ObservationError` for gaps that the classifier was not trained for.
        """
        import pandas

        rows = as_observation(y, self.models.events, stack=True)
        rows = rows[None] if rows.ndim == self.models.observed.ndim else rows
        self._check_gaps(rows)
        with torch_defaults():
            evidence, covariance = self.classifier.log_evidence(rows)
            verdicts = self.likeness.verdicts(rows)
        found = []
        for i in range(len(rows)):
            choice = ModelChoice(evidence[i], covariance[i], self.models.prior)
            columns = (choice.probabilities, choice.errors, *choice.log_bayes_factors(0))
            keys = ("probability", "error", "log_bayes_factor", "log_bayes_factor_error")
            for k, name in enumerate(self.names):
                numbers = {key: float(column[k]) for key, column in zip(keys, columns, strict=True)}
                looks = verdicts[name][i].level
                found.append({"observation": i, "model": name, **numbers, "looks_like": looks})
        return pandas.DataFrame(found)

    def _check_gaps(self, rows: F) -> None:
        """What is missing must be what was missing in the observation, unless simulations have gaps."""
        if any(simulator.missing for simulator in self.models.simulators.values()):
            return
        other = (np.isnan(rows) != np.isnan(self.models.observed)).reshape(len(rows), -1).any(axis=1)
        if other.any():
            raise ObservationError(
                f"{int(other.sum())} of {len(rows)} observations have other gaps than the one for which the "
                "models were compared. Compare them anew: sf.compare_models(models, y)."
            )

    @property
    def shown(self) -> list[DataArray]:
        """The arrays of the data, observed and predicted by each model, for figures; of a model whose
        posterior is not known, its nearest simulations.
        """
        from sbi_flows.posterior.data_shown import arrays_shown

        none = np.empty((0, *self.models.observed.shape))
        rows = {**self.nearest, **self.predictions.rows}
        predicted = {name: rows.get(name, none) for name in self.names}
        return arrays_shown(
            self.models.events, self.classifier.ensemble.inputs, self.models.observed, predicted
        )

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the page as one self-contained HTML file. Raises `StorageError`."""
        from sbi_flows.comparison.models.page import ModelsPage

        page = ModelsPage(
            names=self.names,
            methods=self.methods,
            verdict=self.verdict,
            model_verdicts=self.model_verdicts,
            calibration=self.classifier.calibration,
            shown=self.shown if self.nearest or self.predictions.rows else [],
            predicted=tuple(name for name in self.names if name in self.predictions.rows),
            notes=self.notes,
            facts=self._facts(),
        )
        write_bytes(path, page.html().encode())

    def _facts(self) -> dict[str, str]:
        """Provenance."""
        found = {}
        for k, (name, simulator) in enumerate(self.models.simulators.items()):
            total, usable = self.counts[name]
            failed = f", {total - usable:,} of them failed" if usable < total else ""
            found[name] = (
                f"{simulator.name}, {simulator.prior}; prior probability {self.models.prior[k]:.3g}; "
                f"{total:,} simulations{failed}"
            )
        times = {f"time: {step}": f"{seconds:.1f} s" for step, seconds in self.seconds.items()}
        return {**found, "data": self.models.events.describe(), "seed": str(self.seed), **times}
