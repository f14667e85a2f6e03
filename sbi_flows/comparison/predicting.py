"""The posterior predictive check of one data set by a simulator: which statistics are looked at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sbi_flows.diagnostics.predictive import PredictiveCheck, plain_statistics, predictive_check
from sbi_flows.problem.simulator import Simulator


def check_predictive(simulator: Simulator, y: NDArray[np.float64], predicted: NDArray[np.float64]) -> PredictiveCheck:
    """Plain statistics and declared summaries of y beside those of predicted data (n, *event). Raises `ShapeError`."""
    together = np.concatenate([y[None], predicted[np.isfinite(predicted.reshape(len(predicted), -1)).all(axis=1)]])
    names, values = plain_statistics(together)
    if simulator.summaries is not None:
        summaries = simulator.compute_summaries(together)
        names += tuple(f"summary {i + 1}" for i in range(summaries.shape[1]))
        values = np.column_stack([values, summaries])
    return predictive_check(values[0], values[1:], names)
