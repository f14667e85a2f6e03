"""A block whose components nearly determine one another: the answer does not depend on how nearly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

import sbi_flows as sf


def difference_sd(e: float, seed: int = 1) -> float:
    """The posterior sd of k (w0 - w1) given y = (0.5, 1), of which the prior sd is 1 and the exact one
    0.196.
    """
    covariance = torch.tensor([[1.0, 1 - e], [1 - e, 1.0]], dtype=torch.float64)
    k = 1 / np.sqrt(2 * e)

    @sf.simulator(sf.Prior(w=MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance)))
    def pair(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        w = theta["w"]
        clean = np.stack([w[:, 0], k * (w[:, 0] - w[:, 1])], axis=1)
        return clean + np.array([0.1, 0.2]) * rng.standard_normal((len(w), 2))

    settings = sf.FitSettings(members=1)
    posterior = sf.fit(pair, n_simulations=2_000, seed=seed, settings=settings, say=None)
    w = posterior.sample([0.5, 1.0], 10_000, seed=2)["w"]
    return float((k * (w[:, 0] - w[:, 1])).std())


@pytest.mark.slow
@pytest.mark.parametrize("e", [1e-2, 1e-4, 1e-8])
def test_a_nearly_singular_block_is_answered_as_if_whitened(e: float) -> None:
    """Of 12 fits, with e from 0.1 to 1e-8 alike, the sd had a mean of 0.193 and a spread of 0.003 at 2,000
    simulations; column by column it was 7.6 and more at e = 1e-6.
    """
    assert 0.19 <= np.mean([difference_sd(e, seed) for seed in (1, 2)]) <= 0.21
