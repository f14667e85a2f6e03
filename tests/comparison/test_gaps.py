"""A simulator that leaves gaps of its own, through every method of a comparison."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import uniform

import sbi_flows as sf

F = NDArray[np.float64]


@sf.simulator(sf.Prior(mean=uniform(-3, 6)), data=sf.Series(), missing=True)
def gappy(theta: dict[str, F], rng: np.random.Generator) -> F:
    """20 normal values, of which each is missing with probability 0.2."""
    y = theta["mean"][:, None] + rng.standard_normal((len(theta["mean"]), 20))
    y[rng.random(y.shape) < 0.2] = np.nan
    return y


def test_predictions_and_abc_of_data_with_gaps_are_there() -> None:
    settings = sf.FitSettings(members=1, train=sf.TrainSettings(epochs=8))
    posterior = sf.fit(gappy, n_simulations=2_000, seed=1, settings=settings, say=None)
    y = gappy.run(np.array([[1.0]]), np.random.default_rng(3))[0]
    found = sf.compare(posterior, y, gappy, n=300)
    assert list(found.draws) == ["neural posterior", "rejection ABC", "ABC, linear adjustment"]
    assert found.predictive_check is not None
    assert "share of missing values" in found.predictive_check.names
    for draws in found.draws.values():
        assert abs(float(draws["mean"].mean()) - float(np.nanmean(y))) < 1.0
