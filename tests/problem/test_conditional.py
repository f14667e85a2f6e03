"""Marginals given earlier parameters: never outside, densities in closed form, an exact map, and what is
refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray
from scipy.stats import (
    beta,
    expon,
    gamma,
    halfcauchy,
    loguniform,
    norm,
    pareto,
    poisson,
    rv_continuous,
    t,
    truncnorm,
    uniform,
    weibull_max,
)
from torch import distributions as td

import sbi_flows as sf
from sbi_flows.errors import PriorError

F = NDArray[np.float64]

ORDERED = sf.Prior(young=uniform(0, 1), adult=lambda p: uniform(p["young"], 1 - p["young"]))
SCHOOLS = sf.Prior(mu=norm(0, 5), tau=halfcauchy(0, 5), theta=lambda p: sf.iid(norm(p["mu"], p["tau"]), 8))
CHAIN = sf.Prior(
    a=uniform(0, 1),
    b=lambda p: uniform(p["a"], 1 - p["a"]),
    c=lambda p: uniform(p["b"], 1 - p["b"]),
    d=lambda p: uniform(0, p["a"]),
    e=lambda p: uniform(0, p["d"]),
    f=lambda p: uniform(0, p["e"]),
)
FAMILIES: dict[str, Callable[[Any], Any]] = {
    "norm": lambda p: norm(p["m"], np.exp(p["m"])),
    "t": lambda p: t(1.5, loc=p["m"], scale=p["s"]),
    "beta with its shapes": lambda p: beta(2 + p["s"], 1 + p["s"], loc=p["m"], scale=p["s"]),
    "gamma": lambda p: gamma(0.5 + p["s"], scale=p["s"]),
    "expon": lambda p: expon(p["m"], 1 / p["s"]),
    "pareto": lambda p: pareto(2 + p["s"], loc=p["m"]),
    "weibull_max": lambda p: weibull_max(1.5, loc=p["m"], scale=p["s"]),
    "truncnorm": lambda p: truncnorm((0 - p["m"]) / p["s"], np.inf, loc=p["m"], scale=p["s"]),
    "loguniform": lambda p: loguniform(p["s"], 10 * p["s"]),
    "numbers alone": lambda p: norm(1, 2),
    "a group": lambda p: sf.iid(gamma(2, scale=p["s"]), 3),
    "an array that starts with the block": lambda p: norm(p["w"][:, 0], p["w"][:, 1]),
    "a ratio of a block": lambda p: uniform(0, p["w"].min(axis=-1)),
}


def over(function: Callable[[Any], Any]) -> sf.Prior:
    return sf.Prior(
        m=norm(0, 0.5), s=uniform(0.5, 2), w=td.Dirichlet(torch.tensor([2.0, 3.0, 1.5])), x=function
    )


PRIORS = {"ordered": ORDERED, "schools": SCHOOLS, **{name: over(f) for name, f in FAMILIES.items()}}
each = pytest.mark.parametrize("name", PRIORS)
quietly = settings(deadline=None, derandomize=True, max_examples=150, database=None)


def test_of_ten_million_ordered_draws_none_is_outside() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        young, adult = (theta := ORDERED.sample(500_000, rng)).T
        assert ((young > 0) & (adult > young) & (adult < 1)).all()
        assert ORDERED.inside(theta).all()


@pytest.mark.parametrize("prior", [ORDERED, CHAIN, SCHOOLS], ids=["ordered", "chain", "schools"])
def test_no_coordinates_lead_outside(prior: sf.Prior) -> None:
    """A million at |z| up to 1,000, and nine million nearer; narrow intervals at their lower end have no
    float between.
    """
    rng = np.random.default_rng(1)
    for size in (1e3, *[30.0] * 3, *[5.0] * 6):
        n = 1_000_000 // prior.d
        theta = prior.from_unconstrained(rng.uniform(-size, size, (n, prior.unconstrained_dim)))
        assert np.isfinite(theta).all()
        assert prior.inside(theta).all()


@pytest.mark.slow
@pytest.mark.parametrize("prior", [ORDERED, SCHOOLS], ids=["ordered", "schools"])
def test_of_ten_million_coordinates_none_leads_outside(prior: sf.Prior) -> None:
    rng = np.random.default_rng(2)
    for size in np.geomspace(1, 1e3, 40):
        z = rng.uniform(-size, size, (250_000, prior.unconstrained_dim))  # 40 times: ten million
        assert prior.inside(prior.from_unconstrained(z)).all()


def test_the_density_of_ordered_parameters_is_in_closed_form() -> None:
    theta = ORDERED.sample(10_000, np.random.default_rng(0))
    np.testing.assert_allclose(ORDERED.log_prob(theta), -np.log1p(-theta[:, 0]), rtol=1e-10, atol=1e-10)
    outside = np.array([[0.5, 0.4], [0.5, 1.1], [-0.1, 0.5], [1.2, 1.1], [0.5, np.nan]])
    assert (ORDERED.log_prob(outside) == -np.inf).all()
    assert not ORDERED.inside(outside).any()


def test_the_density_of_a_hierarchical_prior_is_in_closed_form() -> None:
    theta = SCHOOLS.sample(10_000, np.random.default_rng(0))
    mu, tau, groups = theta[:, 0], theta[:, 1], theta[:, 2:]
    each_group = -0.5 * ((groups - mu[:, None]) / tau[:, None]) ** 2 - np.log(
        tau[:, None] * np.sqrt(2 * np.pi)
    )
    wanted = (
        -0.5 * (mu / 5) ** 2
        - np.log(5 * np.sqrt(2 * np.pi))
        + np.log(2 / (5 * np.pi) / (1 + (tau / 5) ** 2))
        + each_group.sum(axis=1)
    )
    np.testing.assert_allclose(SCHOOLS.log_prob(theta), wanted, rtol=1e-10, atol=1e-10)
    assert (SCHOOLS.log_prob(theta * np.where(np.arange(10) == 1, -1, 1)) == -np.inf).all()


@each
def test_draws_go_to_the_real_line_and_back(name: str) -> None:
    prior = PRIORS[name]
    theta = prior.sample(5_000, np.random.default_rng(3))
    z, log_det = prior.to_unconstrained(theta)
    assert np.isfinite(z).all()
    assert np.isfinite(log_det).all()
    assert np.isfinite(prior.log_prob(theta)).all()
    np.testing.assert_allclose(prior.from_unconstrained(z), theta, rtol=1e-9, atol=1e-9)


@quietly
@given(name=some.sampled_from(list(PRIORS)), z=some.lists(some.floats(-8, 8), min_size=10, max_size=10))
def test_what_comes_from_the_real_line_goes_there_and_back(name: str, z: list[float]) -> None:
    prior = PRIORS[name]
    theta = prior.from_unconstrained(np.array(z[: prior.unconstrained_dim]))
    assert prior.inside(theta)
    np.testing.assert_allclose(
        prior.from_unconstrained(prior.to_unconstrained(theta)[0]), theta, rtol=1e-9, atol=1e-9
    )


@each
def test_the_log_determinant_is_that_of_the_numerical_derivative(name: str) -> None:
    """Central differences of T^-1; without the last component of the simplex."""
    prior = PRIORS[name]
    u = prior.unconstrained_dim
    kept = [i for i, label in enumerate(prior.names) if label != "w[2]"]
    z = np.random.default_rng(0).uniform(-2, 2, size=(50, u))
    steps = 1e-4 * np.eye(u)
    columns = [
        (prior.from_unconstrained(z + step) - prior.from_unconstrained(z - step))[:, kept] / 2e-4
        for step in steps
    ]
    jacobian = np.stack(columns, axis=-1)
    np.testing.assert_allclose(
        prior.to_unconstrained(prior.from_unconstrained(z))[1], -np.linalg.slogdet(jacobian)[1], atol=1e-4
    )


@each
def test_a_row_alone_gives_what_it_gives_in_a_batch_of_any_shape(name: str) -> None:
    prior = PRIORS[name]
    theta = prior.sample(12, np.random.default_rng(0))
    z, log_det = prior.to_unconstrained(theta.reshape(3, 4, -1))
    alone = [prior.to_unconstrained(row) for row in theta]
    np.testing.assert_allclose(z.reshape(12, -1), [row for row, _ in alone], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(log_det.ravel(), [row for _, row in alone], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        prior.log_prob(theta.reshape(3, 4, -1)).ravel(), [prior.log_prob(row) for row in theta], rtol=1e-12
    )
    assert prior.from_unconstrained(z).shape == (3, 4, prior.d)
    assert prior.inside(theta[0]).shape == ()
    assert prior.sample(0, np.random.default_rng(0)).shape == (0, prior.d)
    assert prior.log_prob(theta[:0]).shape == (0,)


def test_a_row_outside_leaves_the_others_alone() -> None:
    theta = SCHOOLS.sample(6, np.random.default_rng(0))
    spoilt = theta.copy()
    spoilt[2, 1] = -1
    kept = np.arange(6) != 2
    assert SCHOOLS.log_prob(spoilt)[2] == -np.inf
    assert SCHOOLS.inside(spoilt).tolist() == kept.tolist()
    assert SCHOOLS.log_prob(spoilt)[kept].tobytes() == SCHOOLS.log_prob(theta)[kept].tobytes()
    assert (
        SCHOOLS.to_unconstrained(spoilt)[0][kept].tobytes()
        == SCHOOLS.to_unconstrained(theta)[0][kept].tobytes()
    )


def test_a_hierarchical_prior_is_in_its_non_centred_form() -> None:
    """z of the groups is (theta - mu) / (1.349 tau), which depends on neither."""
    theta = SCHOOLS.sample(20_000, np.random.default_rng(0))
    z, _ = SCHOOLS.to_unconstrained(theta)
    wanted = (theta[:, 2:] - theta[:, :1]) / (theta[:, 1:2] * (norm.ppf(0.75) - norm.ppf(0.25)))
    np.testing.assert_allclose(z[:, 2:], wanted, rtol=1e-9, atol=1e-12)


def test_bounds_that_move_are_the_widest() -> None:
    assert ORDERED.lower.tolist() == pytest.approx([0, 0], abs=1e-300)
    assert ORDERED.upper.tolist() == [1, 1]
    assert ORDERED.bounded.tolist() == [True, False]
    moved = sf.Prior(m=norm(0, 1), x=lambda p: uniform(p["m"], 1), y=lambda p: beta(1 + p["m"] ** 2, 2))
    assert moved.lower.tolist() == [-np.inf, -np.inf, 0]
    assert moved.upper.tolist() == [np.inf, np.inf, 1]
    assert moved.bounded.tolist() == [False, False, True]
    assert SCHOOLS.lower.tolist() == [-np.inf, 0, *[-np.inf] * 8]


def test_a_function_gets_each_earlier_name_as_an_array_it_cannot_change() -> None:
    seen: list[dict[str, tuple[int, ...]]] = []

    def last(p: Any) -> Any:
        seen.append({name: p[name].shape for name in p})
        with pytest.raises(ValueError, match="read-only"):
            p["a"][:] = 0
        return norm(p["a"], 1)

    prior = sf.Prior(a=norm(0, 1), w=sf.iid(norm(0, 1), 3), x=last)
    prior.sample(7, np.random.default_rng(0))
    assert seen[-1] == {"a": (7,), "w": (7, 3)}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a cycle": (
        {"a": lambda p: norm(p["b"], 1), "b": lambda p: norm(p["a"], 1)},
        r"prior a: a cycle: a needs b, and b needs a\..*as written is a, b",
    ),
    "a longer cycle": (
        {"a": lambda p: norm(p["b"], 1), "b": lambda p: norm(p["c"], 1), "c": lambda p: norm(p["a"], 1)},
        "a needs b, and b needs c, and c needs a",
    ),
    "a later one": (
        {"a": lambda p: norm(p["b"], 1), "b": norm(0, 1)},
        r"prior a: .*asks for b, which comes after it; write b first\. The order as written is a, b",
    ),
    "itself": ({"b": norm(0, 1), "a": lambda p: norm(p["a"], 1)}, "asks for a itself"),
    "an unknown one": (
        {"b": norm(0, 1), "a": lambda p: norm(p["B"], 1)},
        "asks for 'B', and there is no such",
    ),
    "discrete": ({"b": norm(0, 1), "a": lambda p: poisson(np.exp(p["b"]))}, "prior a: poisson is discrete"),
    "no distribution": (
        {"b": norm(0, 1), "a": lambda p: p["b"]},
        "prior a: got .*wanted a frozen continuous",
    ),
    "not frozen": ({"b": norm(0, 1), "a": lambda p: norm}, "norm is not frozen"),
    "torch": ({"b": norm(0, 1), "a": lambda p: td.Normal(0.0, 1.0)}, "prior a: got Normal"),
    "a negative scale": ({"b": norm(0, 1), "a": lambda p: norm(0, p["b"])}, r"scale -.*b=-"),
    "a NaN": ({"b": norm(0, 1), "a": lambda p: norm(np.sqrt(p["b"]), 1)}, r"loc nan.*b=-"),
    "an empty support": ({"b": uniform(0, 2), "a": lambda p: uniform(0, 1 - p["b"])}, r"scale -.*b=1\."),
    "a single point": ({"b": uniform(0, 2), "a": lambda p: uniform(0, 0 * p["b"])}, "scale 0"),
    "a bad shape": ({"b": norm(0, 1), "a": lambda p: gamma(p["b"])}, r"gamma .*not a proper.*b=-"),
    "too far": (
        {"b": norm(0, 1), "a": lambda p: norm(0, 1e139 * np.exp(p["b"]))},
        "one draw of a thousand million",
    ),
    "if": (
        {"b": norm(0, 1), "a": lambda p: norm(0, 1 if p["b"] > 0 else 2)},
        r"np\.where\(condition, a, b\)",
    ),
    "the argument's name": (
        {"b": norm(0, 1), "a": lambda b: norm(b, 1)},
        r"a mapping of names to arrays: lambda p",
    ),
    "no argument": ({"b": norm(0, 1), "a": lambda: norm(0, 1)}, "takes one argument, a mapping"),
    "one row of a block": (
        {"b": sf.iid(norm(0, 1), 3), "a": lambda p: norm(p["b"][0], 1)},
        r"one number for each of the 500 draws .*p\[name\]\[:, i\]",
    ),
    "a number of the first row": (
        {"b": sf.iid(norm(0, 1), 3), "a": lambda p: norm(p["b"][0][0], 1)},
        "which other draws",
    ),
    "a mean over draws": ({"b": norm(0, 1), "a": lambda p: norm(p["b"].mean(), 1)}, "which other draws"),
    "random numbers": (
        {"b": norm(0, 1), "a": lambda p: norm(np.random.default_rng().normal(size=len(p["b"])), 1)},
        "without random numbers",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_a_conditional_is_refused_in_words(bad: str) -> None:
    marginals, words = BAD[bad]
    with pytest.raises(PriorError, match=f"(?s){words}"):
        sf.Prior(**marginals)


def test_values_that_no_try_met_are_refused_when_they_come() -> None:
    """P(b > 5) = 3e-7: none of the tries, and the maps say so too."""
    prior = sf.Prior(b=norm(0, 1), a=lambda p: uniform(0, 5 - p["b"]))
    assert not prior.inside([6.0, -0.5])
    assert prior.log_prob([6.0, -0.5]) == -np.inf
    with pytest.raises(PriorError, match="prior a: uniform .*b=6"):
        prior.from_unconstrained(prior.to_unconstrained([6.0, 0.1])[0] * [1, 0] + [0, 1])


def test_a_users_own_family_may_be_given_earlier_parameters() -> None:
    class Triangle(rv_continuous):
        def _pdf(self, x: Any, *_: Any) -> Any:
            return 2 * x

        def _cdf(self, x: Any, *_: Any) -> Any:
            return x * x

        def _ppf(self, q: Any, *_: Any) -> Any:
            return np.sqrt(q)

    triangle = Triangle(a=0, b=1, name="triangle")
    prior = sf.Prior(s=uniform(1, 2), x=lambda p: triangle(scale=p["s"]))
    theta = prior.sample(1000, np.random.default_rng(0))
    np.testing.assert_allclose(
        prior.log_prob(theta), np.log(2 * theta[:, 1] / theta[:, 0] ** 2) - np.log(2), rtol=1e-10
    )


def test_functions_are_compared_by_the_distribution_they_give() -> None:
    def other(p: Any) -> Any:
        return uniform(loc=p["young"], scale=1 - p["young"])

    assert sf.Prior(young=uniform(0, 1), adult=other) == ORDERED
    assert sf.Prior(young=uniform(0, 1), adult=lambda p: uniform(p["young"], 1.001 - p["young"])) != ORDERED
    assert sf.Prior(young=uniform(0, 1), adult=lambda p: uniform(0, p["young"])) != ORDERED
    priors = [sf.Prior(a=norm(0, 1), b=lambda p, k=k: norm(p["a"], k)) for k in (1, 2)]  # the same text
    assert priors[0] != priors[1]
    assert repr(ORDERED) == "Prior(young=uniform(0, 1), adult=uniform given young)"
    assert repr(SCHOOLS) == "Prior(mu=norm(0, 5), tau=halfcauchy(0, 5), theta=iid(norm, 8) given mu, tau)"
