"""Two moons: the crescent, its density, and its posterior against a grid."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare, kstest, norm, uniform

from simulators.two_moons import two_moons, two_moons_log_likelihood, two_moons_posterior

F = NDArray[np.float64]
RNG = np.random.default_rng(0)


def rows(theta: list[float] | F, n: int = 1) -> dict[str, F]:
    values = np.atleast_2d(np.repeat([theta], n, axis=0) if np.ndim(theta) == 1 else theta)
    return {"theta_1": values[:, 0], "theta_2": values[:, 1]}


@pytest.mark.parametrize("theta", [[0.0, 0.0], [0.7, 0.2], [-0.7, 0.2], [-0.9, -0.95]])
def test_data_form_a_crescent_at_the_place_that_theta_gives(theta: list[float]) -> None:
    """Radius normal, angle uniform, uncorrelated: false alarm rate 1e-6 each."""
    y = two_moons.run(np.repeat([theta], 5000, axis=0), np.random.default_rng(1))
    u = y[:, 0] - 0.25 + abs(theta[0] + theta[1]) / np.sqrt(2)
    v = y[:, 1] - (theta[1] - theta[0]) / np.sqrt(2)
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    assert kstest(radius, norm(0.1, 0.01).cdf).pvalue > 1e-6
    assert kstest(angle, uniform(-np.pi / 2, np.pi).cdf).pvalue > 1e-6
    assert abs(np.corrcoef(radius, angle)[0, 1]) < 5 / np.sqrt(len(y))


@pytest.mark.parametrize("theta", [[0.0, 0.0], [0.7, 0.2], [-0.3, -0.6]])
def test_the_density_integrates_to_one(theta: list[float]) -> None:
    """Midpoint rule on a square of 0.4 around the crescent."""
    centre = np.array([0.25 - abs(theta[0] + theta[1]) / np.sqrt(2), (theta[1] - theta[0]) / np.sqrt(2)])
    offsets = (np.arange(400) + 0.5) / 400 * 0.4 - 0.2
    total = 0.0
    for first in (
        centre[0] + offsets
    ):  # the likelihood takes one y: a column of y is one y under shifted theta with the same sum
        shift = offsets / np.sqrt(2)
        shifted = np.stack([theta[0] + shift, theta[1] - shift], axis=1)
        total += float(
            np.exp(two_moons_log_likelihood(rows(shifted), np.array([first, centre[1]]), RNG)).sum()
        )
    assert total * (0.4 / 400) ** 2 == pytest.approx(1, abs=2e-3)


def test_the_posterior_is_its_own_mirror_image() -> None:
    theta = two_moons.prior.sample(100, np.random.default_rng(2))
    y = two_moons.run(theta[:1], np.random.default_rng(3))[0]
    np.testing.assert_allclose(
        two_moons_log_likelihood(rows(theta), y, RNG),
        two_moons_log_likelihood(rows(-theta[:, ::-1]), y, RNG),
        rtol=1e-9,
    )
    draws = two_moons_posterior(np.array([0.0, 0.0]), 4000, np.random.default_rng(4))
    assert abs((draws.sum(axis=1) > 0).mean() - 0.5) < 5 * 0.5 / np.sqrt(4000)


@pytest.mark.parametrize(
    "y", [[0.0, 0.0], [-0.6, 0.2], [-1.15, 0.05], [-0.35, 0.85], [0.33, -0.02], [0.1, 1.2]]
)
def test_draws_of_the_posterior_fill_the_cells_of_a_grid_as_its_density_says(y: list[float]) -> None:
    """Cells of prior times likelihood, 10,000 draws, chi-squared at 1e-6; also where the prior's edge cuts
    the crescents.
    """
    data = np.array(y)
    draws = two_moons_posterior(data, 10_000, np.random.default_rng(5))
    assert two_moons.prior.inside(draws).all()
    low, high = draws.min(axis=0) - 0.01, draws.max(axis=0) + 0.01
    low, high = np.maximum(low, -1), np.minimum(high, 1)
    fine, coarse = 1200, 12
    axes = [a + (np.arange(fine) + 0.5) / fine * (b - a) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(two_moons_log_likelihood(rows(grid), data, RNG)).reshape(
        coarse, fine // coarse, coarse, fine // coarse
    )
    wanted = density.sum(axis=(1, 3)).ravel()
    counts = np.histogram2d(
        *draws.T, bins=[np.linspace(a, b, coarse + 1) for a, b in zip(low, high, strict=True)]
    )[0].ravel()
    wanted *= len(draws) / wanted.sum()
    large = wanted > 10
    seen, expected = np.r_[counts[large], counts[~large].sum()], np.r_[wanted[large], wanted[~large].sum()]
    keep = expected > 5
    assert chisquare(seen[keep], expected[keep] * seen[keep].sum() / expected[keep].sum()).pvalue > 1e-6
    assert seen[~keep].sum() < 5 + 10 * np.sqrt(5)


@pytest.mark.parametrize("y", [[3.0, 0.0], [-5.0, 4.0], [100.0, -100.0]])
def test_data_that_no_theta_can_make_are_answered_inside_the_prior(y: list[float]) -> None:
    draws = two_moons_posterior(np.array(y), 50, np.random.default_rng(6))
    assert two_moons.prior.inside(draws).all()


def test_the_density_is_finite_at_the_centre_of_the_crescent() -> None:
    assert np.isfinite(two_moons_log_likelihood(rows([0.0, 0.0]), np.array([0.25, 0.0]), RNG)).all()
