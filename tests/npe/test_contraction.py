"""Narrow posteriors are recognised before training, and get the natural scale: soft edges, the flows of an
ensemble, and the posterior that comes of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.flows.natural import natural_scale_of
from sbi_flows.npe.contraction import soft_edges
from sbi_flows.npe.settings import flows_for
from sbi_flows.rng import stream

N = 2000
NARROW = 0.04
PRIOR = sf.Prior(a=uniform(-1, 2), b=norm(0, 1))


@sf.simulator(PRIOR, event_shape=(2,))
def shifted(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """y = (a, b) + noise: given y, a is normal with sd 0.04, cut off at -1 and 1."""
    noise = rng.standard_normal((len(theta["a"]), 2))
    return np.stack([theta["a"] + NARROW * noise[:, 0], theta["b"] + 0.5 * noise[:, 1]], axis=1)


@pytest.mark.parametrize("sd", [0.02, 0.05, 0.1])
def test_edges_follow_the_width_of_the_posterior(sd: float) -> None:
    """The gaps are those of N(0, 2 sd^2) and of nearest data: a quarter point of 0.32 sqrt(2) sd, doubled at
    most.
    """
    rng = stream(0, "edges")
    x = rng.uniform(-1, 1, (N, 1))
    edges = soft_edges(np.log((1 + x) / (1 - x)), np.array([True]), x + sd * rng.standard_normal((N, 1)))
    expected = 2 * 0.319 * np.sqrt(2) * sd
    assert 0.8 * expected < edges[0] < 2 * expected


def test_wide_and_unbounded_coordinates_have_no_edge() -> None:
    rng = stream(1, "edges")
    x = rng.uniform(-1, 1, (N, 3))
    data = np.column_stack([x[:, 0] + 0.05 * rng.standard_normal(N), x[:, 1] + 2 * rng.standard_normal(N)])
    edges = soft_edges(np.log((1 + x) / (1 - x)), np.array([True, True, False]), data)
    assert edges[0] > 0
    assert edges[1] == edges[2] == 0


def test_two_far_modes_do_not_hide_that_each_is_narrow() -> None:
    rng = stream(2, "edges")
    x = rng.uniform(-1, 1, (N, 1))
    data = np.abs(x) + 0.03 * rng.standard_normal((N, 1))
    assert soft_edges(np.log((1 + x) / (1 - x)), np.array([True]), data)[0] > 0


@pytest.mark.parametrize(
    ("members", "d", "narrow", "expected"),
    [
        (1, 2, True, ("nsf_natural",)),
        (1, 2, False, ("nsf",)),
        (2, 2, True, ("nsf_natural", "nsf")),
        (4, 2, True, ("nsf_natural", "nsf", "nsf_natural", "nsf_natural")),
        (2, 2, False, ("nsf",)),
        (4, 1, False, ("nsf",)),
        (4, 5, False, ("nsf", "nsf", "maf", "spline_coupling")),
    ],
)
def test_flows_of_an_ensemble(members: int, d: int, narrow: bool, expected: tuple[str, ...]) -> None:
    assert flows_for(members, d, narrow=narrow) == expected


def test_which_coordinates_are_logits_of_a_position() -> None:
    dirichlet = torch.distributions.Dirichlet(torch.ones(3))
    prior = sf.Prior(a=uniform(0, 1), w=dirichlet, b=norm(0, 1))
    assert prior.bounded.tolist() == [True, False, False, False]


@pytest.fixture(scope="module")
def fitted() -> sf.Posterior:
    train = sf.TrainSettings(epochs=40, batch_size=128)
    settings = sf.FitSettings(size="small", members=2, train=train)
    return sf.fit(shifted, n_simulations=4000, seed=1, settings=settings, say=None)


def test_a_fit_takes_the_natural_scale_where_it_helps(fitted: sf.Posterior, tmp_path: Path) -> None:
    assert fitted.settings.flows == ("nsf_natural", "nsf")
    scales = [natural_scale_of(flow) for flow in fitted.estimator.flows()]
    assert scales[0] is not None
    assert scales[1] is None
    assert (scales[0].edge > 0).tolist() == [True, False]
    fitted.save(tmp_path / "natural.safetensors")
    again = sf.load(tmp_path / "natural.safetensors")
    y = np.array([0.99, 0.0])
    assert (
        again.sample(y, 500, seed=3).to_numpy().tobytes()
        == fitted.sample(y, 500, seed=3).to_numpy().tobytes()
    )


@pytest.mark.parametrize("y", [0.0, 0.6, 0.97])
def test_a_posterior_that_the_bound_cuts_off(fitted: sf.Posterior, y: float) -> None:
    """Given y, a ~ N(y, 0.04^2) on (-1, 1)."""
    a = fitted.sample(np.array([y, 0.0]), 4000, seed=2)["a"]
    exact = norm(y, NARROW)
    grid = np.linspace(-1, 1, 4001)[1:-1]
    density = exact.pdf(grid) / (exact.cdf(1) - exact.cdf(-1))
    mean = np.trapezoid(grid * density, grid)
    sd = np.sqrt(np.trapezoid((grid - mean) ** 2 * density, grid))
    assert abs(a.mean() - mean) < 0.5 * sd
    assert 0.7 < a.std() / sd < 1.5


@pytest.mark.parametrize("y", [0.97, 1.0, 1.05])
def test_mass_neither_leaves_the_prior_nor_gathers_at_its_bound(fitted: sf.Posterior, y: float) -> None:
    """The exact share within 1e-4 of the bound is at most 0.005 (y = 1.05). With an edge of a quarter of this
    one, 0.17 of the draws lay there.
    """
    a = fitted.sample(np.array([y, 0.0]), 4000, seed=2)["a"]
    assert (np.abs(a) < 1).all()
    assert (1 - a < 1e-4).mean() < 0.02


def test_its_density_is_that_of_its_draws_on_the_original_scale(fitted: sf.Posterior) -> None:
    y = np.array([0.95, 0.2])
    a, b = np.linspace(0.6, 1, 801)[1:-1], np.linspace(-4, 4, 201)
    theta = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1)
    density = np.exp(fitted.log_prob(theta, y))
    mass = np.trapezoid(np.trapezoid(density, b, axis=1), a)
    assert mass == pytest.approx(1, abs=0.02)
