"""One comparison of the two Gaussian models with small networks, made once."""

from __future__ import annotations

import numpy as np
import pytest

import sbi_flows as sf

from .gaussians import MODELS, X

SMALL = sf.FitSettings(
    width=32, summary_features=8, members=2, train=sf.TrainSettings(epochs=10, batch_size=64)
)
QUICK = sf.ModelChoiceSettings(networks=SMALL, evidence_ess=200)
WITHOUT_EVIDENCE = sf.ModelChoiceSettings(networks=SMALL, evidence=False)
Y = 0.3 + 1.2 * X + np.array([0.2, -0.5, 0.4, 0.1, -0.7, 0.5, 0.0, -0.1])


@pytest.fixture(scope="package")
def said() -> list[str]:
    """What was said while `choice` was made."""
    return []


@pytest.fixture(scope="package")
def choice(said: list[str]) -> sf.ModelComparison:
    """Constant or line, at data of a line, with quick posteriors to propose from."""
    fitted = sf.FitSettings(
        width=16, layers=2, summary_features=8, members=1, train=sf.TrainSettings(epochs=4, batch_size=64)
    )
    posteriors = {
        name: sf.fit(model, n_simulations=500, seed=2, settings=fitted, say=None)
        for name, model in MODELS.items()
    }
    return sf.compare_models(
        MODELS, Y, n_simulations=1500, seed=1, settings=QUICK, posteriors=posteriors, say=said.append
    )
