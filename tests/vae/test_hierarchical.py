"""Several stochastic layers: their weights, draws and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from sbi_flows import vae
from sbi_flows.errors import SettingsError
from sbi_flows.rng import stream
from sbi_flows.vae.hierarchical import StochasticLayer

from .test_model import SMALL, events


def made(sizes: tuple[int, ...] = (3, 2), encoder: str = "diagonal") -> vae.HierarchicalVAE:
    return vae.HierarchicalVAE(
        event_shape=(2, 3), latent=sizes, likelihood="bernoulli", encoder=encoder, seed=1, settings=SMALL
    )


def test_the_weights_of_a_layer_average_to_the_density_of_its_draws() -> None:
    """One latent number in each of two layers, quadrature over the upper: |z| < 4.5 at each of 10 points, one
    false alarm in 10,000.
    """
    model = vae.HierarchicalVAE(
        event_shape=(2, 3), latent=(1, 1), likelihood="bernoulli", seed=1, settings=SMALL
    )
    layer = model.module.prior
    assert isinstance(layer, StochasticLayer)
    z, grid = np.linspace(-1, 1, 10), np.linspace(-9, 9, 2001)
    noise = stream(0, "noise").standard_normal((10, 40_000, 1))
    with torch.no_grad():
        points = torch.from_numpy(z)[:, None, None]
        given = layer.decoder.log_prob(
            points, torch.from_numpy(grid)[None, :, None].expand(10, -1, 1)
        ).numpy()
        log_weights = layer.log_prob(points.expand(10, 40_000, 1), torch.from_numpy(noise)).numpy()
    exact = logsumexp(given - 0.5 * grid**2 - 0.5 * np.log(2 * np.pi), axis=1) + np.log(grid[1] - grid[0])
    weights = np.exp(log_weights - exact[:, None])
    assert (np.abs(weights.mean(axis=1) - 1) < 4.5 * weights.std(axis=1) / 200).all()


@pytest.mark.parametrize(("sizes", "encoder"), [((3, 2), "diagonal"), ((3, 2, 1), "iaf")])
def test_it_trains_draws_and_survives_a_file(sizes: tuple[int, ...], encoder: str, tmp_path: Path) -> None:
    model, x = made(sizes, encoder), events(6, 2)
    before = model.elbo(events(100, 3)).bound.mean()
    model.fit(events(400), epochs=8, warmup=2)
    assert model.elbo(events(100, 3)).bound.mean() > before
    assert model.sample(7).shape == (7, 2, 3)
    assert [mean.shape for mean in model.means_above(x)] == [(6, size) for size in sizes[1:]]
    assert [unit.shape for unit in model.active_units_above(x)] == [(size,) for size in sizes[1:]]
    found = model.log_evidence(x, 300)
    assert (model.log_weights(x, 300).mean(axis=1) <= found.log_evidence).all()
    model.save(tmp_path / "a")
    loaded = vae.load(tmp_path / "a")
    assert isinstance(loaded, vae.HierarchicalVAE)
    assert np.array_equal(loaded.log_evidence(x, 300).log_evidence, found.log_evidence)
    assert np.array_equal(loaded.sample(5), model.sample(5))


def test_one_layer_is_refused() -> None:
    for latent in (4, (4,)):
        with pytest.raises(SettingsError, match="two or more layers"):
            vae.HierarchicalVAE(event_shape=3, latent=latent)  # type: ignore[arg-type]
