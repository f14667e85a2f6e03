"""A fitted density is normalised, invertible, the same for the same seed, and close to the true one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sbi_flows as sf
from sbi_flows import flows
from sbi_flows.errors import ObservationError, SettingsError, ShapeError
from sbi_flows.rng import stream

QUICK = sf.TrainSettings(epochs=5, batch_size=128)


def sine(n: int, index: int = 0) -> np.ndarray:
    """x_1 ~ N(0, 1.5^2), x_2 = sin(2 x_1) + 0.3 e: the density is known."""
    rng = stream(0, "sine", index)
    first = 1.5 * rng.standard_normal(n)
    return np.stack([first, np.sin(2 * first) + 0.3 * rng.standard_normal(n)], axis=1)


def log_density_of_sine(x: np.ndarray) -> np.ndarray:
    standard = np.stack([x[:, 0] / 1.5, (x[:, 1] - np.sin(2 * x[:, 0])) / 0.3])
    return -0.5 * np.square(standard).sum(axis=0) - np.log(2 * np.pi * 1.5 * 0.3)


@pytest.fixture(scope="module")
def fitted() -> flows.Density:
    return flows.fit_density(sine(2000), "nsf", seed=1, width=16, settings=QUICK)


def test_it_is_normalised_and_one_to_one(fitted: flows.Density) -> None:
    axes = [np.linspace(-10, 10, 401), np.linspace(-5, 5, 401)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    mass = np.exp(fitted.log_prob(grid)).sum() * (axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0])
    assert mass == pytest.approx(1, abs=1e-3)
    x = sine(200, 1)
    noise = fitted.to_noise(x)
    assert np.allclose(fitted.to_value(noise), x, rtol=0, atol=1e-9)
    normal = -0.5 * np.square(noise).sum(axis=1) - np.log(2 * np.pi)
    assert np.allclose(fitted.log_prob(x), normal + fitted.log_det(x), rtol=0, atol=1e-12)


def test_its_log_det_is_that_of_the_jacobian_in_the_units_of_x(fitted: flows.Density) -> None:
    x = sine(5, 2)
    for row, log_det in zip(x, fitted.log_det(x), strict=True):
        u = torch.from_numpy((row - fitted.mean) / fitted.sd)
        jacobian = torch.autograd.functional.jacobian(
            lambda u: fitted.flow.to_noise(u[None], torch.zeros(1, 1).double())[0][0], u
        )
        assert log_det == pytest.approx(
            float(torch.linalg.slogdet(jacobian / torch.from_numpy(fitted.sd)).logabsdet), abs=1e-10
        )


def test_the_same_seed_gives_the_same_bytes_and_draws(fitted: flows.Density) -> None:
    again = flows.fit_density(sine(2000), "nsf", seed=1, width=16, settings=QUICK)
    assert again.log_prob(sine(50, 3)).tobytes() == fitted.log_prob(sine(50, 3)).tobytes()
    assert fitted.sample(20, seed=4).tobytes() == again.sample(20, seed=4).tobytes()
    assert not np.array_equal(fitted.sample(20, seed=4), fitted.sample(20, seed=5))
    assert fitted.sample(7).shape == (7, 2)


def test_one_column_may_come_without_an_axis() -> None:
    x = stream(0, "one column").exponential(3.0, 2000)
    density = flows.fit_density(x, "maf", width=16, settings=QUICK)
    assert density.log_prob(x).shape == (2000,)
    assert density.to_noise(x[:3]).shape == (3, 1)


@pytest.mark.slow
def test_the_kl_from_a_known_density_is_small() -> None:
    """The mean log ratio over 4000 fresh rows has a standard error of about 0.005; a sound fit gives far less
    than 0.10.
    """
    density = flows.fit_density(sine(5000), "maf", seed=0, width=32, settings=sf.TrainSettings(epochs=30))
    x = sine(4000, 9)
    ratio = log_density_of_sine(x) - density.log_prob(x)
    assert ratio.mean() < 0.10


def test_bad_input_is_refused_with_the_offending_value(fitted: flows.Density) -> None:
    with pytest.raises(ShapeError, match=r"\(n, 2\), got \(4, 3\)"):
        fitted.log_prob(np.zeros((4, 3)))
    with pytest.raises(ObservationError, match="row 1"):
        fitted.log_prob(np.array([[0, 0], [np.nan, 0]]))
    with pytest.raises(SettingsError, match="n .*0"):
        fitted.sample(0)
    with pytest.raises(ObservationError, match="column 1"):
        flows.fit_density(np.stack([np.arange(100.0), np.ones(100)], axis=1))
    with pytest.raises(SettingsError, match="rnvp"):
        flows.fit_density(sine(100), "rnvp")
