"""What each model predicts around the data, where a posterior of it is known, and whether that is like the
data.

    y_s ~ p(y | theta_s, k),   theta_s ~ p(theta | y, k)

The detectors of `likeness` ask whether model k makes such data at any theta of its prior; this asks it of the
theta that suit these data, which finds what is hidden where a prior is wide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.comparison.models.request import Models
from sbi_flows.comparison.verdict import believe, reasons_against
from sbi_flows.diagnostics.predictive import PredictiveCheck, check_predictive
from sbi_flows.draws import Draws
from sbi_flows.notes import Notes
from sbi_flows.problem.observation import as_observed
from sbi_flows.rng import stream
from sbi_flows.verdict import Verdict

_ROWS = 1000


@dataclass(frozen=True, eq=False)
class Predictions:
    """rows: predicted data of models, (n, *event). checks: against the data. Models without a posterior are
    in neither.
    """

    rows: Mapping[str, F] = field(default_factory=dict)
    checks: Mapping[str, PredictiveCheck] = field(default_factory=dict)

    @classmethod
    def of(cls, models: Models, draws: Mapping[str, Draws], seed: int, notes: Notes) -> Predictions:
        """Simulate at draws of each posterior. What a simulator raises is noted."""
        rows, checks = {}, {}
        for name, found in draws.items():
            simulator, rng = models.simulators[name], stream(seed, f"predictions of model {name}")
            theta = found.to_numpy()[rng.choice(len(found), _ROWS)]
            try:
                made = np.asarray(simulator.run(theta, rng), dtype=np.float64)
                made = as_observed(made, models.observed)
                checks[name] = check_predictive(
                    models.observed, made, simulator.declared_summaries, missing=simulator.missing
                )
            except Exception as error:  # of the user's simulator, at theta that the prior may never draw
                notes.note("predictions left out", method=name, reason=f"{type(error).__name__}: {error}")
            else:
                rows[name] = made
        return cls(rows, checks)

    def worsen(self, name: str, verdict: Verdict) -> Verdict:
        """The verdict on a model, with what its predictions say."""
        if name not in self.checks:
            return verdict
        return believe(verdict, reasons_against(self.checks[name], None, None, None))
