"""Does any of the models look like the data? For each model, the test of `misspecification`.

Each model has a detector of its own, learned from its own simulations: how far the data lie from them, and
whether they look like corrupted ones, against the distribution of both over held-out simulations of that
model. Probabilities of the models only compare them: they sum to 1 also where none could have made the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from sbi_flows.comparison.models.classifier import Classifier
from sbi_flows.comparison.models.pool import Pool
from sbi_flows.machine import torch_threads
from sbi_flows.misspecification.detector import Detector
from sbi_flows.misspecification.learn import View, features, learn
from sbi_flows.rng import stream
from sbi_flows.verdict import LEVELS, Verdict

_MOST_TRAINING, _MOST_HELD_OUT = 4000, 3000


@dataclass(frozen=True, eq=False)
class Likeness:
    """view: what the networks see. detectors: of each model, by name."""

    view: View
    detectors: Mapping[str, Detector]

    @classmethod
    def of(
        cls, pool: Pool, names: tuple[str, ...], classifier: Classifier, seed: int, seconds: float | None
    ) -> Likeness:
        """Learn them. seconds: of the whole comparison, by the clock."""
        view, trained = classifier.view(), np.setdiff1d(pool.training, classifier.unseen)
        detectors = {}
        for k, name in enumerate(names):
            train = pool.of_model(k, trained, _MOST_TRAINING)
            held_out = pool.of_model(k, classifier.unseen, _MOST_HELD_OUT)
            own = int(stream(seed, f"detector of model {name}").integers(2**31))
            detectors[name] = learn(view, train, held_out, own, seconds)
        return cls(view, detectors)

    def verdicts(self, y: Shaped[np.ndarray, "n *event"]) -> dict[str, list[Verdict]]:
        """Of each model, on each of the events."""
        inputs = self.view.inputs.forgiving()
        with torch_threads(1):
            found, _ = features(self.view.summary, inputs, y)
        unlike = [inputs.scaler.unlike(y), inputs(y).missing]
        verdicts = {}
        for name, detector in self.detectors.items():
            patterns = [] if detector.patterns is None else [detector.patterns.unlike(y)]
            verdicts[name] = detector.verdicts(found, np.column_stack([*unlike, *patterns]))
        return verdicts


def best_verdict(verdicts: Mapping[str, Verdict]) -> str:
    """The name of the model of which the data look most like a simulation."""
    return min(verdicts, key=lambda name: (LEVELS.index(verdicts[name].level), verdicts[name].quantile))
