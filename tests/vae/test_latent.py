"""Arithmetic in latent space agrees with its formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sbi_flows import vae
from sbi_flows.errors import SettingsError, ShapeError
from sbi_flows.rng import stream

from .test_model import events, made


def test_paths_end_where_they_should_and_the_spherical_one_keeps_its_length() -> None:
    a, b = np.array([3.0, 0.0, 0.0]), np.array([0.0, 3.0, 0.0])
    for path in ("linear", "spherical"):
        points = vae.path_between(a, b, 7, path)
        assert np.allclose(points[[0, -1]], [a, b], rtol=0, atol=1e-12)
    assert np.allclose(np.linalg.norm(vae.path_between(a, b, 7, "spherical"), axis=1), 3, rtol=0, atol=1e-12)
    assert np.allclose(vae.path_between(a, b, 3, "linear")[1], [1.5, 1.5, 0], rtol=0, atol=1e-12)
    steps = np.linalg.norm(np.diff(vae.path_between(a, b, 7, "spherical"), axis=0), axis=1)
    assert np.allclose(steps, steps[0])


@pytest.mark.parametrize("b", [[2.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
def test_a_spherical_path_between_parallel_points_is_straight(b: list[float]) -> None:
    points = vae.path_between([1.0, 0.0], b, 5, "spherical")
    assert np.allclose(points, vae.path_between([1.0, 0.0], b, 5), rtol=0, atol=1e-12)


def test_an_attribute_vector_is_the_difference_of_means() -> None:
    model, x = made(), events(40, 2)
    model.fit(events(), epochs=2)
    has = stream(0, "labels").permutation(40) < 20
    z = model.latent_mean(x)
    expected = z[has].mean(axis=0) - z[~has].mean(axis=0)
    assert np.allclose(vae.attribute_vector(model, x, has), expected)
    assert np.allclose(vae.attribute_vector(model, x, has.astype(int)), expected)
    with pytest.raises(SettingsError, match="labels"):
        vae.attribute_vector(model, x, np.ones(40))
    with pytest.raises(ShapeError, match=r"\(40,\), got \(3,\)"):
        vae.attribute_vector(model, x, [1, 0, 1])


def test_the_attribute_vector_of_a_number_follows_the_number_alone() -> None:
    """It is parallel to Cov(z)^-1 Cov(z, number), z from q(z | x); its length is the distance of the halves
    along it.
    """
    model, x = made(), events(400, 2)
    model.fit(events(), epochs=30)
    z, draws = model.latent_mean(x), model.encode(x, 500, seed=1)
    number = z @ np.array([2.0, -1.0]) + 5
    upper = number > np.median(number)
    slope = np.linalg.solve(np.cov(draws.reshape(-1, 2).T), (z - z.mean(axis=0)).T @ (number - number.mean()))
    found, direction = vae.attribute_vector(model, x, number), slope / np.linalg.norm(slope)
    assert np.allclose(found / np.linalg.norm(found), direction, rtol=0, atol=0.05)
    assert np.isclose(found @ found, found @ (z[upper].mean(axis=0) - z[~upper].mean(axis=0)))
    assert np.array_equal(found, vae.attribute_vector(model, x, number))


def test_labels_of_any_scale_and_coding_have_a_direction() -> None:
    """Its sign is that of the slope, however skewed the label; scales cancel; two values are two kinds, even
    if most events have the larger.
    """
    model, x = made(), events(400, 2)
    model.fit(events(), epochs=30)
    z = model.latent_mean(x)
    number = z @ np.array([2.0, -1.0])
    expected = vae.attribute_vector(model, x, number)
    for scale in (1e200, 1e-200):
        assert np.allclose(vae.attribute_vector(model, x, scale * number), expected)
    skewed = np.where(number > np.quantile(number, 0.9), 30 * number, -number)
    slope = np.linalg.lstsq(z - z.mean(axis=0), skewed - skewed.mean(), rcond=None)[0]
    assert vae.attribute_vector(model, x, skewed) @ slope > 0
    most = number > np.quantile(number, 0.3)
    assert np.allclose(vae.attribute_vector(model, x, 1 + most), vae.attribute_vector(model, x, most))
    capped = vae.attribute_vector(model, x, np.minimum(number, np.quantile(number, 0.4)))
    assert capped @ expected > 0


def test_bad_models_and_failing_functions_are_refused() -> None:
    with pytest.raises(SettingsError, match="got int"):
        vae.optimise(3, torch.sum, np.ones((2, 2)))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="got int"):
        vae.attribute_vector(3, [1], [1])  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"step 0 .* .double\(\)"):
        vae.optimise(made(), lambda z: z @ torch.ones(2), np.ones((2, 2)))
    with pytest.raises(SettingsError, match="fit"):
        vae.optimise(vae.SentenceVAE(latent=2), lambda z: z.sum(dim=1), np.ones((2, 2)))


def test_optimising_a_quadratic_ends_where_its_gradient_and_the_prior_balance() -> None:
    """f = -|z - c|^2 / 2 and prior weight w: the optimum is c / (1 + w)."""
    model, centre = made(), torch.tensor([2.0, -1.0]).double()

    def f(z: torch.Tensor) -> torch.Tensor:
        return -0.5 * (z - centre).square().sum(dim=1)

    start = np.zeros((3, 2))
    for weight in (0.0, 0.5):
        found = vae.optimise(model, f, start, prior_weight=weight, steps=800, learning_rate=0.05)
        assert np.allclose(found.z, centre.numpy() / (1 + weight), atol=1e-3)
        assert found.path.shape == (801, 3, 2)
        assert np.array_equal(found.path[0], start)
        assert (found.values[-1] > found.values[0]).all()
    assert np.array_equal(
        vae.optimise(model, f, start, steps=5).best, vae.optimise(model, f, start, steps=5).z
    )
    with pytest.raises(ShapeError, match="one number per row"):
        vae.optimise(model, lambda z: z, start)
    with pytest.raises(SettingsError, match="prior_weight"):
        vae.optimise(model, f, start, prior_weight=-1)
