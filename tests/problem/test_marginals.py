"""Marginals and their maps to R^u: exact at the edges, never outside, and a proper change of variables."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import scipy.stats as st
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from torch import distributions as td

import sbi_flows as sf

SCIPY: dict[str, Any] = {
    "uniform": st.uniform(2, 3),
    "uniform, up to 0": st.uniform(-1, 1),
    "beta": st.beta(2, 5, loc=-1, scale=4),
    "beta with horns": st.beta(0.5, 0.5),
    "loguniform": st.loguniform(1e-3, 1e3),
    "truncnorm": st.truncnorm(-1, 2),
    "truncnorm, half": st.truncnorm(0, np.inf, scale=3),
    "gamma": st.gamma(0.5, scale=4),
    "expon": st.expon(loc=-2),
    "lognorm": st.lognorm(1.5),
    "halfnorm": st.halfnorm(5),
    "pareto": st.pareto(2.5),
    "weibull_max, below 4": st.weibull_max(1.5, loc=4),
    "norm": st.norm(3, 0.2),
    "logistic": st.logistic(-5, 1e3),
    "t(2)": st.t(2),
    "cauchy": st.cauchy(1, 3),
}
TORCH_SCALARS: dict[str, Any] = {
    "Beta": td.Beta(2.0, 0.7),
    "Cauchy": td.Cauchy(1.0, 3.0),
    "Chi2": td.Chi2(torch.tensor(3.0)),
    "Exponential": td.Exponential(0.1),
    "Gamma": td.Gamma(2.0, 0.5),
    "Gumbel": td.Gumbel(1.0, 2.0),
    "HalfCauchy": td.HalfCauchy(2.0),
    "HalfNormal": td.HalfNormal(3.0),
    "InverseGamma": td.InverseGamma(torch.tensor(3.0), torch.tensor(2.0)),
    "Laplace": td.Laplace(-1.0, 2.0),
    "LogNormal": td.LogNormal(0.0, 1.5),
    "Normal": td.Normal(-3.0, 0.01),
    "Pareto": td.Pareto(2.0, 3.0),
    "StudentT": td.StudentT(2.5),
    "Torch uniform": td.Uniform(-1.0, 4.0),
    "Weibull": td.Weibull(2.0, 1.5),
}
BLOCKS: dict[str, Any] = {
    "MultivariateNormal": td.MultivariateNormal(
        torch.tensor([1.0, -2.0]), torch.tensor([[1.0, 0.9], [0.9, 2.0]])
    ),
    "Dirichlet": td.Dirichlet(torch.tensor([2.0, 3.0, 1.5])),
    "Dirichlet with horns": td.Dirichlet(torch.tensor([0.3, 0.2, 0.1, 0.5])),
    "normals": td.Independent(td.Normal(torch.tensor([0.0, 100.0]), torch.tensor([1.0, 0.1])), 1),
    "uniforms": td.Independent(td.Uniform(torch.tensor([0.0, -5.0]), torch.tensor([1.0, 5.0])), 1),
    "gammas": td.Independent(td.Gamma(torch.tensor([0.5, 9.0]), torch.tensor([1.0, 1.0])), 1),
}
SCALARS = {**SCIPY, **TORCH_SCALARS}
PRIORS = {name: sf.Prior(x=distribution) for name, distribution in {**SCALARS, **BLOCKS}.items()}
EPS = np.finfo(np.float64).eps

each = pytest.mark.parametrize("name", PRIORS)
each_scalar = pytest.mark.parametrize("name", SCALARS)
quietly = settings(deadline=None, derandomize=True, max_examples=150, database=None)


def draw(name: str, n: int = 2000, seed: int = 0) -> NDArray[np.float64]:
    return PRIORS[name].sample(n, np.random.default_rng(seed))


def there_and_back(prior: sf.Prior, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    return prior.from_unconstrained(prior.to_unconstrained(theta)[0])


def allowed_error(prior: sf.Prior, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """A few ulp of the bound and of the distance to it; where there is no bound, of theta and of the
    median.
    """
    ends = np.stack([np.broadcast_to(end, theta.shape) for end in (prior.lower, prior.upper)])
    distances = np.abs(theta - ends)
    nearest, distance = np.take_along_axis(ends, distances.argmin(0)[None], 0)[0], distances.min(0)
    at_bound = 64 * EPS * distance + 2 * EPS * np.abs(nearest)
    at_large = (
        64 * EPS * (np.abs(theta) + np.abs(prior.from_unconstrained(np.zeros(prior.unconstrained_dim))))
    )
    return np.where(np.isfinite(nearest), at_bound, at_large)


def change_of_variables(prior: sf.Prior, z: NDArray[np.float64]) -> NDArray[np.float64]:
    """log p_Z(z) = log p(theta) - log |det dT/dtheta|."""
    theta = prior.from_unconstrained(z)
    return prior.log_prob(theta) - prior.to_unconstrained(theta)[1]


@each
def test_draws_go_to_the_real_line_and_back(name: str) -> None:
    theta = draw(name)
    z, log_det = PRIORS[name].to_unconstrained(theta)
    assert np.isfinite(z).all()
    assert np.isfinite(log_det).all()
    assert (np.abs(there_and_back(PRIORS[name], theta) - theta) <= allowed_error(PRIORS[name], theta)).all()


@quietly
@given(
    loc=some.floats(-1e6, 1e6),
    log_width=some.floats(-3, 6),
    log_distance=some.floats(-15, -0.31),
    upper=some.booleans(),
)
def test_a_draw_however_near_a_bound_round_trips(
    loc: float, log_width: float, log_distance: float, upper: bool
) -> None:
    prior = sf.Prior(x=st.uniform(loc, 10**log_width))
    low, high = prior.lower[0], prior.upper[0]
    offset = (high - low) * 10**log_distance
    x = min(
        max(high - offset if upper else low + offset, np.nextafter(low, np.inf)), np.nextafter(high, -np.inf)
    )
    theta = np.array([x])
    assert (np.abs(there_and_back(prior, theta) - theta) <= allowed_error(prior, theta)).all()


@each
def test_a_draw_1e_12_of_the_width_from_a_bound_round_trips(name: str) -> None:
    prior = PRIORS[name]
    width = np.where(np.isfinite(prior.upper - prior.lower), prior.upper - prior.lower, 1.0)
    for end, inward in ((prior.lower, 1), (prior.upper, -1)):
        if prior.d == 1 and np.isfinite(end):
            theta = end + inward * 1e-12 * width
            assert (np.abs(there_and_back(prior, theta) - theta) <= allowed_error(prior, theta)).all()


@quietly
@given(name=some.sampled_from(list(PRIORS)), z=some.lists(some.floats(-1e3, 1e3), min_size=4, max_size=4))
def test_no_point_of_the_real_line_falls_outside_the_open_support(name: str, z: list[float]) -> None:
    prior = PRIORS[name]
    theta = prior.from_unconstrained(np.array(z[: prior.unconstrained_dim]))
    assert np.isfinite(theta).all()
    assert ((theta > prior.lower) & (theta < prior.upper)).all()
    assert prior.inside(theta)


@quietly
@given(name=some.sampled_from(list(PRIORS)), z=some.lists(some.floats(-30, 30), min_size=4, max_size=4))
def test_what_comes_from_the_real_line_goes_there_and_back(name: str, z: list[float]) -> None:
    prior = PRIORS[name]
    theta = prior.from_unconstrained(np.array(z[: prior.unconstrained_dim]))
    assert (np.abs(there_and_back(prior, theta) - theta) <= allowed_error(prior, theta)).all()


@each_scalar
def test_the_map_is_increasing(name: str) -> None:
    x = PRIORS[name].from_unconstrained(np.linspace(-20, 20, 401)[:, None])[:, 0]
    assert (np.diff(x) >= 0).all()
    assert (np.diff(x[100:-100]) > 0).all()


@each
def test_the_log_determinant_is_that_of_the_numerical_derivative(name: str) -> None:
    """Central differences of T^-1; for the simplex over its first k - 1 components."""
    prior = PRIORS[name]
    z = np.random.default_rng(0).uniform(-4, 4, size=(50, prior.unconstrained_dim))
    steps = 1e-4 * np.eye(prior.unconstrained_dim)
    columns = [
        (prior.from_unconstrained(z + step) - prior.from_unconstrained(z - step))[
            :, : prior.unconstrained_dim
        ]
        / 2e-4
        for step in steps
    ]
    _, inverse = np.linalg.slogdet(np.stack(columns, axis=-1))
    np.testing.assert_allclose(prior.to_unconstrained(prior.from_unconstrained(z))[1], -inverse, atol=1e-4)


@each_scalar
def test_the_density_on_the_real_line_integrates_to_one(name: str) -> None:
    """Trapezoid rule, wrong by h^2/12 times the kink of the density at most; the slowest tail, exp(-|z|/2),
    ends at 4e-8.
    """
    z = np.linspace(-35, 35, 7001)
    density = np.exp(change_of_variables(PRIORS[name], z[:, None]))
    assert trapezoid(density, z) == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize("name", ["MultivariateNormal", "Dirichlet", "normals", "uniforms"])
def test_the_density_of_a_block_integrates_to_one(name: str) -> None:
    z = np.linspace(-25, 25, 401)
    grid = np.stack(np.meshgrid(z, z), axis=-1)
    assert trapezoid(trapezoid(np.exp(change_of_variables(PRIORS[name], grid)), z), z) == pytest.approx(
        1, abs=1e-6
    )


@pytest.mark.parametrize("name", [*TORCH_SCALARS, *BLOCKS])
def test_minus_the_mean_log_density_of_draws_is_the_entropy(name: str) -> None:
    """z-score of a mean of 20,000 terms, below 5: false alarm rate 6e-7 each."""
    log_prob = PRIORS[name].log_prob(draw(name, 20_000, seed=3))
    entropy = float({**TORCH_SCALARS, **BLOCKS}[name].entropy())
    assert abs(log_prob.mean() + entropy) < 5 * log_prob.std() / np.sqrt(len(log_prob)) + 1e-6


@pytest.mark.parametrize("name", SCIPY)
def test_draws_follow_the_distribution(name: str) -> None:
    """Kolmogorov-Smirnov; false alarm rate 1e-5 each."""
    assert st.kstest(draw(name, 5000)[:, 0], SCIPY[name].cdf).pvalue > 1e-5


@pytest.mark.parametrize("name", SCIPY)
def test_log_prob_is_scipys(name: str) -> None:
    theta = draw(name, 200)
    np.testing.assert_array_equal(PRIORS[name].log_prob(theta), SCIPY[name].logpdf(theta[:, 0]))


@each
def test_outside_the_support_the_density_is_zero(name: str) -> None:
    prior = PRIORS[name]
    for end, sign in ((prior.lower, -1), (prior.upper, 1)):
        beyond = np.where(
            np.isfinite(end), end + sign * np.maximum(1e-9 * np.abs(end), 1e-9), draw(name, 1)[0]
        )
        if np.isfinite(end).any():
            assert prior.log_prob(beyond) == -np.inf
            assert not prior.inside(beyond)


@each
def test_the_bounds_themselves_have_a_log_density_and_no_warning(name: str) -> None:
    prior = PRIORS[name]
    if prior.d == 1:
        ends = [end for end in (prior.lower, prior.upper) if np.isfinite(end).all()]
        assert not any(np.isnan(prior.log_prob(end)) for end in ends)


@pytest.mark.parametrize(
    "distribution",
    [st.beta(0.05, 0.05), st.gamma(0.01, scale=1e3), st.uniform(1e9, 1e-6), td.Beta(0.05, 0.05)],
)
def test_draws_that_round_to_a_bound_are_moved_inside(distribution: Any) -> None:
    prior = sf.Prior(x=distribution)
    theta = prior.sample(20_000, np.random.default_rng(0))
    assert ((theta > prior.lower) & (theta < prior.upper)).all()
    assert np.isfinite(prior.to_unconstrained(theta)[0]).all()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_tiny_component_of_a_simplex_keeps_its_digits_wherever_it_stands(place: int) -> None:
    theta = np.insert(np.array([0.3, 0.7 - 1e-12]), place, 1e-12)
    back = there_and_back(PRIORS["Dirichlet"], theta)
    np.testing.assert_allclose(back, theta, rtol=64 * EPS)


def test_a_point_off_the_simplex_is_outside() -> None:
    assert not PRIORS["Dirichlet"].inside([0.5, 0.4, 0.2])
    assert PRIORS["Dirichlet"].log_prob([0.5, 0.4, 0.2]) == -np.inf


@each
def test_the_json_of_a_prior_gives_the_same_prior(name: str) -> None:
    prior = PRIORS[name]
    back = sf.Prior.from_json(json.loads(json.dumps(prior.to_json(), allow_nan=False)))
    theta = draw(name, 20)
    assert back == prior
    assert back.sample(20, np.random.default_rng(0)).tobytes() == theta.tobytes()
    assert back.log_prob(theta).tobytes() == prior.log_prob(theta).tobytes()
    assert back.to_unconstrained(theta)[0].tobytes() == prior.to_unconstrained(theta)[0].tobytes()


LIGHT = {
    "gamma(0.1)": st.gamma(0.1),
    "gamma(0.3)": st.gamma(0.3),
    "chi2": st.chi2(0.5),
    "halfnorm": st.halfnorm(),
    "expon": st.expon(-2),
}
MIRRORED = {"weibull_max": st.weibull_max(1.5, loc=4)}
IN_TORCH = {"HalfNormal": td.HalfNormal(3.0), "Exponential": td.Exponential(0.1), "Gamma": td.Gamma(2.0, 0.5)}


@pytest.mark.parametrize("name", [*LIGHT, *MIRRORED, *IN_TORCH])
def test_five_deviations_on_a_light_tail_do_not_leave_what_the_prior_allows(name: str) -> None:
    """On the log scale they would: exp(5 sd) of a gamma(0.1) distribution is 1e22."""
    prior = sf.Prior(x={**LIGHT, **MIRRORED, **IN_TORCH}[name])
    theta = prior.sample(20_000, np.random.default_rng(0))
    z = prior.to_unconstrained(theta)[0]
    out = prior.from_unconstrained(z.mean(axis=0) + np.array([[-5.0], [5.0]]) * z.std(axis=0))
    assert (np.abs(out - np.median(theta)) <= 10 * np.abs(theta - np.median(theta)).max()).all()


@pytest.mark.parametrize("prior", [st.lognorm(0.1), st.lognorm(2), st.invgamma(3), td.LogNormal(0.0, 1.5)])
def test_a_tail_like_a_log_normal_one_or_heavier_is_taken_on_the_log_scale(prior: Any) -> None:
    z, _ = sf.Prior(x=prior).to_unconstrained(np.array([[3.0], [6.0], [12.0]]))
    np.testing.assert_allclose(np.diff(z[:, 0]), np.log(2), rtol=1e-12)
