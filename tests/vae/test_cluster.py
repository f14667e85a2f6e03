"""The mixture's density and draws agree with scipy, and clear clusters are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

import sbi_flows as sf
from sbi_flows import vae
from sbi_flows.errors import SettingsError
from sbi_flows.rng import stream
from sbi_flows.vae.cluster import Mixture

from .test_model import SMALL


def three_clouds(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three well separated clouds in R^5, and the cloud of each row."""
    rng = stream(seed, "clouds")
    label = rng.integers(0, 3, n)
    return 4 * stream(5, "centres").standard_normal((3, 5))[label] + rng.standard_normal((n, 5)), label


def placed() -> Mixture:
    mixture = Mixture(3, 2).double()
    rng = stream(0, "places")
    z = np.concatenate(
        [
            rng.standard_normal((100, 2)) @ rng.standard_normal((2, 2)) + 4 * rng.standard_normal(2)
            for _ in range(3)
        ]
    )
    mixture.place(z[:, None] + 0.1 * rng.standard_normal((300, 8, 2)), 0)
    return mixture


def test_a_mixture_before_placing_is_standard_normal() -> None:
    z = torch.from_numpy(stream(0, "z").standard_normal((20, 4)))
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(dim=1)
    torch.testing.assert_close(Mixture(3, 4).double().log_prob(z), expected)


def test_its_density_is_that_of_scipy_and_its_draws_have_its_mean() -> None:
    """Means of 20,000 draws within 4.5 standard errors in each of 2 columns, one false alarm in 70,000."""
    mixture = placed()
    with torch.no_grad():
        weights, means, factors = (
            torch.softmax(mixture.logits, 0).numpy(),
            mixture.means.numpy(),
            mixture.factors().numpy(),
        )
        z = stream(1, "z").standard_normal((50, 2)) * 3
        found = mixture.log_prob(torch.from_numpy(z)).numpy()
    covariances = [np.linalg.inv(factor.T @ factor) for factor in factors]
    parts = [
        s * multivariate_normal(m, c).pdf(z) for s, m, c in zip(weights, means, covariances, strict=True)
    ]
    assert np.allclose(found, np.log(sum(parts)), rtol=0, atol=1e-9)
    draws = mixture.draw(20_000, stream(2, "draws"))
    assert (np.abs(draws.mean(axis=0) - weights @ means) < 4.5 * draws.std(axis=0) / np.sqrt(20_000)).all()


def test_clusters_are_found_saved_and_reproduced_by_the_seed(tmp_path: Path) -> None:
    x, label = three_clouds(400)
    models = [
        vae.ClusterVAE(clusters=3, event_shape=5, latent=2, likelihood="gaussian", settings=SMALL, seed=1)
        for _ in range(2)
    ]
    for model in models:
        model.fit(
            x, epochs=40, tuning_epochs=5, train_settings=sf.TrainSettings(batch_size=32, learning_rate=1e-2)
        )
    found = models[0].assign(x)
    # Each cluster holds rows of one cloud. 98% allows for the few rows in between.
    purity = sum(np.bincount(label[found == c], minlength=3).max() for c in range(3)) / len(x)
    assert purity > 0.98
    assert np.allclose(models[0].responsibilities(x).sum(axis=1), 1)
    assert models[0].log_evidence(x[:5], 100).log_evidence.shape == (5,)
    assert models[0].elbo(x[:5]).bound.tobytes() == models[1].elbo(x[:5]).bound.tobytes()
    models[0].save(tmp_path / "a")
    loaded = vae.load(tmp_path / "a")
    assert isinstance(loaded, vae.ClusterVAE)
    assert np.array_equal(loaded.assign(x), found)
    assert np.array_equal(loaded.sample(5), models[0].sample(5))


def test_a_bad_number_of_clusters_is_refused() -> None:
    with pytest.raises(SettingsError, match="clusters .* 0"):
        vae.ClusterVAE(clusters=0, event_shape=5, latent=2)
