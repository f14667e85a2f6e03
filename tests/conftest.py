"""Shared fixtures: tiny posteriors, trained once, and a guard on global randomness."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.stats import norm, uniform

import sbi_flows as sf
from simulators.gaussian import make_gaussian
from simulators.ricker import make_ricker

QUICK = sf.FitSettings(
    width=16, layers=2, summary_features=8, members=1, train=sf.TrainSettings(epochs=4, batch_size=64)
)


@pytest.fixture(autouse=True)
def global_randomness_is_left_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail any test of a package function that reads or moves NumPy's or torch's global generator, unless
    marked `seeds_torch`.
    """
    before_numpy, before_torch = str(np.random.get_state()), torch.get_rng_state().numpy().tobytes()
    yield
    assert str(np.random.get_state()) == before_numpy, "NumPy's global generator was used"
    if not request.node.get_closest_marker("seeds_torch"):
        assert torch.get_rng_state().numpy().tobytes() == before_torch, "torch's global generator was used"


@pytest.fixture(scope="session")
def bounded() -> sf.Simulator:
    """Two bounded parameters, three numbers."""

    @sf.simulator(sf.Prior(a=uniform(0, 1), b=uniform(-2, 4)), event_shape=(3,))
    def bounded(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        centre = np.stack([theta["a"], theta["b"], theta["a"] * theta["b"]], axis=1)
        return centre + 0.1 * rng.standard_normal(centre.shape)

    return bounded


@pytest.fixture(scope="session")
def bounded_posterior(bounded: sf.Simulator) -> sf.Posterior:
    """A quick fit of `bounded`."""
    return sf.fit(bounded, n_simulations=2000, seed=3, settings=QUICK, say=None)


@pytest.fixture(scope="session")
def gaussian_posterior() -> sf.Posterior:
    """A quick fit of the Gaussian toy in two dimensions."""
    return sf.fit(make_gaussian(2), n_simulations=4000, seed=3, settings=QUICK, say=None)


@pytest.fixture(scope="session")
def counts_posterior() -> sf.Posterior:
    """A quick fit of a short Ricker series, whose data are counts."""
    return sf.fit(make_ricker(steps=30), n_simulations=2000, seed=3, settings=QUICK, say=None)


@pytest.fixture(scope="session")
def unbounded() -> sf.Simulator:
    """One unbounded parameter, one number."""

    @sf.simulator(sf.Prior(x=norm(0, 1)), event_shape=())
    def unbounded(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return theta["x"] + 0.5 * rng.standard_normal(len(theta["x"]))

    return unbounded
