"""The prior: labelled columns, what is refused, and what a file can hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats as st
import torch
from torch import distributions as td

import sbi_flows as sf
from sbi_flows.errors import PriorError, ShapeError

MIXED = sf.Prior(
    a=st.uniform(2, 3),
    w=td.Dirichlet(torch.tensor([2.0, 3.0, 1.5])),
    b=td.Gamma(2.0, 0.5),
    m=td.MultivariateNormal(torch.tensor([1.0, -2.0]), torch.tensor([[1.0, 0.9], [0.9, 2.0]])),
)
NAMED = MIXED.as_mapping(MIXED.sample(2, np.random.default_rng(0)))


def test_a_users_own_distribution_works_but_no_file_can_hold_it() -> None:
    class Triangle(st.rv_continuous):
        def _pdf(self, x: Any, *_: Any) -> Any:
            return 2 * x

    prior = sf.Prior(x=Triangle(a=0, b=1, name="triangle")())
    assert prior.inside(prior.sample(5, np.random.default_rng(0))).all()
    with pytest.raises(PriorError, match=r"prior x: 'triangle\(\)'.*prior=prior"):
        sf.Prior.from_json(prior.to_json())


def test_a_users_own_distribution_cannot_pass_for_scipys() -> None:
    class Norm(st.rv_continuous):
        def _pdf(self, x: Any, *_: Any) -> Any:
            return np.exp(-np.abs(x)) / 2

    with pytest.raises(PriorError, match="rebuilt"):
        sf.Prior.from_json(sf.Prior(x=Norm(name="norm")()).to_json())


@pytest.mark.parametrize(
    "record",
    [
        {"source": "scipy", "kind": "os", "args": [], "kwds": {}},
        {"source": "scipy", "kind": "rv_continuous", "args": [], "kwds": {}},
        {"source": "scipy", "kind": "poisson", "args": [3], "kwds": {}},
        {"source": "scipy", "kind": "norm", "args": ["a"], "kwds": {}},
        {"source": "scipy", "kind": "norm", "args": [0, -1], "kwds": {}},
        {"source": "scipy", "kind": "norm"},
        {"source": "torch", "kind": "Distribution", "params": {}},
        {"source": "torch", "kind": "Normal", "params": {"loc": 0.0}},
        {"source": "elsewhere"},
        {},
    ],
)
def test_a_stored_marginal_that_names_anything_else_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(PriorError, match="prior rate:"):
        sf.Prior.from_json([{"name": "rate", **record}])


IMPROPER: dict[str, Any] = {
    "nothing": None,
    "a number": 3.0,
    "a word": "norm",
    "a list": [0, 1],
    "a type": dict,
    "unfrozen": st.norm,
    "unfrozen discrete": st.poisson,
    "discrete": st.poisson(3),
    "multivariate": st.multivariate_normal([0, 0]),
    "a kernel estimate": st.gaussian_kde([1, 2, 4]),
    "negative scale": st.norm(0, -1),
    "zero scale": st.norm(0, 0),
    "NaN": st.norm(np.nan),
    "negative width": st.uniform(3, -1),
    "negative shape": st.gamma(-1),
    "an array": st.norm([0, 1]),
    "an array of scales": st.norm(0, [1, 2]),
    "a word inside": st.norm("a"),
    "torch batch": td.Normal(torch.zeros(2), 1.0),
    "torch batch of vectors": td.Independent(td.Normal(torch.zeros(2, 3), 1.0), 1),
    "torch matrix": td.Independent(td.Normal(torch.zeros(2, 3), 1.0), 2),
    "torch negative scale": td.Normal(0.0, -1.0, validate_args=False),
    "torch endless uniform": td.Uniform(0.0, float("inf")),
    "torch discrete": td.Poisson(3.0),
    "torch categorical": td.Categorical(torch.ones(3)),
}


@pytest.mark.parametrize("bad", IMPROPER)
def test_what_is_no_proper_distribution_is_refused_by_name(bad: str) -> None:
    with pytest.raises(PriorError, match="prior rate:"):
        sf.Prior(rate=IMPROPER[bad])


def test_marginals_without_names_are_refused() -> None:
    for given in ({"a": st.norm(0, 1)}, st.norm(0, 1)):
        with pytest.raises(PriorError, match=r"Prior\(\*\*mapping\)"):
            sf.Prior(given)


def test_a_prior_without_marginals_is_refused() -> None:
    with pytest.raises(PriorError, match="at least one marginal"):
        sf.Prior()


def test_columns_are_labelled_in_the_order_given() -> None:
    assert MIXED.names == ("a", "w[0]", "w[1]", "w[2]", "b", "m[0]", "m[1]")
    assert (MIXED.d, MIXED.unconstrained_dim) == (7, 6)
    assert MIXED.lower.tolist() == [2, 0, 0, 0, 0, -np.inf, -np.inf]
    assert MIXED.upper.tolist() == [5, 1, 1, 1, np.inf, np.inf, np.inf]


def test_marginals_are_independent_and_their_log_densities_add() -> None:
    theta = MIXED.sample(100, np.random.default_rng(0))
    parts = [
        sf.Prior(x=MIXED.marginals[name].distribution).log_prob(theta[:, columns])
        for name, columns in MIXED.slices.items()
    ]
    np.testing.assert_allclose(MIXED.log_prob(theta), sum(parts), rtol=1e-12)


def test_named_entries_and_columns_are_the_same_theta() -> None:
    theta = MIXED.sample(5, np.random.default_rng(0))
    named = MIXED.as_mapping(theta)
    assert {name: value.shape for name, value in named.items()} == {
        "a": (5,),
        "w": (5, 3),
        "b": (5,),
        "m": (5, 2),
    }
    assert MIXED.as_array(named).tobytes() == theta.tobytes()
    assert MIXED.log_prob(named).tobytes() == MIXED.log_prob(theta).tobytes()


def test_a_row_alone_gives_what_it_gives_in_a_batch_of_any_shape() -> None:
    theta = MIXED.sample(12, np.random.default_rng(0))
    z, log_det = MIXED.to_unconstrained(theta.reshape(3, 4, 7))
    assert z.shape == (3, 4, 6)
    assert log_det.shape == (3, 4)
    alone = [MIXED.to_unconstrained(row) for row in theta]
    np.testing.assert_array_equal(z.reshape(12, 6), [row for row, _ in alone])
    np.testing.assert_allclose(log_det.ravel(), [row for _, row in alone], rtol=1e-14)
    assert MIXED.log_prob(theta.reshape(3, 4, 7)).shape == (3, 4)
    assert MIXED.from_unconstrained(z).shape == (3, 4, 7)


@pytest.mark.parametrize(
    "theta", [np.array(0.0), [1.0, 2.0], np.zeros((3, 6)), {"a": np.ones(2)}, {**NAMED, "x": np.ones(2)}]
)
def test_theta_of_another_shape_or_with_other_names_is_refused(theta: Any) -> None:
    with pytest.raises(ShapeError, match="theta"):
        MIXED.log_prob(theta)


def test_entries_with_different_numbers_of_rows_are_refused() -> None:
    with pytest.raises(ShapeError, match="same number of rows"):
        sf.Prior(a=st.norm(), b=st.norm()).log_prob({"a": [1.0, 2.0], "b": [1.0]})


def test_z_of_another_width_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(..., 6\).*\(2, 7\)"):
        MIXED.from_unconstrained(np.zeros((2, 7)))


def test_sampling_uses_the_generator_and_nothing_else() -> None:
    numpy_state, torch_state = str(np.random.get_state()), torch.get_rng_state()
    first = MIXED.sample(30, np.random.default_rng(4))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        second = MIXED.sample(30, np.random.default_rng(4))
    assert first.tobytes() == second.tobytes()
    assert str(np.random.get_state()) == numpy_state
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_priors_are_equal_when_their_marginals_are() -> None:
    assert sf.Prior(a=st.norm(0, 1)) == sf.Prior(a=st.norm(0, 1))
    assert sf.Prior(a=st.norm(0, 1)) != sf.Prior(a=st.norm(0, 2))
    assert sf.Prior(a=st.norm(0, 1)) != sf.Prior(b=st.norm(0, 1))
    assert len({sf.Prior(a=st.norm(0, 1)), sf.Prior(a=st.norm(0, 1))}) == 1
