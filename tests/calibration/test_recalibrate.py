"""A planted scale and shift of the noise is found and removed, and the result is checked on fresh pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.errors import SettingsError, TooFewSimulationsError
from simulators.gaussian import make_gaussian

SIMULATOR = make_gaussian(2)


def test_a_planted_fault_is_found_noted_and_mended(gaussian_posterior: sf.Posterior, tmp_path: Path) -> None:
    planted = replace(gaussian_posterior, noise_shift=np.array([0.2, 0.0]), noise_scale=np.array([0.6, 1.5]))
    found = sf.recalibrate(planted, SIMULATOR, n=1000, n_check=400, seed=1)
    assert found.before.level == "do not trust"
    assert found.after.ok
    assert found.better
    assert found.after.gain > found.before.gain + 0.1
    assert found.posterior.noise_scale == pytest.approx(np.ones(2), abs=0.15)
    again = sf.recalibrate(found.posterior, SIMULATOR, n=500, n_check=100, seed=1)
    assert found.posterior.notes == (*planted.notes, found.posterior.notes[-1])
    assert [note.kind for note in again.posterior.notes].count("recalibrated") == 1
    assert again.posterior.notes[-1].values["pairs"] == 500
    assert planted.noise_scale is not None
    assert planted.noise_scale[0] == 0.6
    found.posterior.save(tmp_path / "p.safetensors")
    loaded = sf.load(tmp_path / "p.safetensors")
    y = np.array([0.3, -0.2])
    assert np.array_equal(loaded.sample(y, 50, seed=1).values, found.posterior.sample(y, 50, seed=1).values)


def test_a_recalibrated_density_is_normalised_and_that_of_its_draws(gaussian_posterior: sf.Posterior) -> None:
    """The integral of q over a grid that holds all of it, and the mean of the draws by density, within 5
    standard errors.
    """
    wide = replace(gaussian_posterior, noise_shift=np.array([0.3, -0.1]), noise_scale=np.array([1.3, 0.8]))
    y = np.array([0.3, -0.2])
    line = np.linspace(-6, 6, 401)
    theta = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(wide.log_prob(theta, y))
    cell = (line[1] - line[0]) ** 2
    assert density.sum() * cell == pytest.approx(1, abs=1e-3)
    draws = wide.sample(y, 4000, seed=1).values
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - (density[:, None] * theta).sum(axis=0) * cell) < 5 * error).all()


def test_an_ensemble_is_mended_as_the_mixture_that_it_is() -> None:
    settings = sf.FitSettings(
        width=16, layers=2, summary_features=8, members=2, train=sf.TrainSettings(epochs=4, batch_size=64)
    )
    ensemble = sf.fit(SIMULATOR, n_simulations=2000, seed=3, settings=settings, say=None)
    planted = replace(ensemble, noise_shift=np.zeros(2), noise_scale=np.full(2, 0.6))
    found = sf.recalibrate(planted, SIMULATOR, n=1000, n_check=400, seed=1)
    assert found.better
    assert found.before.level == "do not trust"


def test_too_few_pairs_or_another_simulator_are_refused(gaussian_posterior: sf.Posterior) -> None:
    with pytest.raises(TooFewSimulationsError, match="500.* 100"):
        sf.recalibrate(gaussian_posterior, SIMULATOR, n=100)
    with pytest.raises(SettingsError, match="gaussian"):
        sf.recalibrate(gaussian_posterior, make_gaussian(3))
