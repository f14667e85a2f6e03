"""Exchangeable groups: one marginal n times, stored whole, and named."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import gamma, halfcauchy, norm, poisson, uniform
from torch import distributions as td

import sbi_flows as sf
from sbi_flows.errors import PriorError, SettingsError

RNG = np.random.default_rng
GROUPS = {
    "norm": norm(1, 2),
    "uniform": uniform(2, 3),
    "gamma": gamma(0.5, scale=4),
    "halfcauchy": halfcauchy(0, 5),
}


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_is_its_marginal_n_times(name: str) -> None:
    one, group = sf.Prior(x=GROUPS[name]), sf.Prior(x=sf.iid(GROUPS[name], 4))
    theta = group.sample(1000, RNG(0))
    assert group.names == ("x[0]", "x[1]", "x[2]", "x[3]")
    np.testing.assert_allclose(group.log_prob(theta), one.log_prob(theta[..., None]).sum(axis=1), rtol=1e-12)
    z, log_det = group.to_unconstrained(theta)
    each, log_dets = one.to_unconstrained(theta[..., None])
    np.testing.assert_array_equal(z, each[..., 0])
    np.testing.assert_allclose(log_det, log_dets.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(group.from_unconstrained(z), theta, rtol=1e-9)
    assert group.bounded.tolist() == [name == "uniform"] * 4
    assert group.inside(theta).all()


@pytest.mark.parametrize("labels", [None, ["A", "B", "C", "D"]])
def test_a_group_is_stored_whole(labels: list[str] | None) -> None:
    prior = sf.Prior(a=norm(0, 1), x=sf.iid(gamma(0.5, scale=4), 4, labels=labels))
    back = sf.Prior.from_json(json.loads(json.dumps(prior.to_json(), allow_nan=False)))
    assert back == prior
    assert back.sample(9, RNG(0)).tobytes() == prior.sample(9, RNG(0)).tobytes()
    assert back.labels == prior.labels == ({} if labels is None else {"x": tuple(labels)})
    assert repr(prior) == "Prior(a=norm(0, 1), x=iid(gamma(0.5, scale=4), 4))"


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ((norm, 3), PriorError, "norm is not frozen|sf.iid"),
        ((poisson(3), 3), PriorError, "discrete"),
        ((3.0, 3), PriorError, "wanted a frozen"),
        ((lambda p: norm(p["mu"], 1), 3), PriorError, "the function goes around it"),
        ((td.Normal(0.0, 1.0), 3), PriorError, r"torch\.distributions\.Independent"),
        ((norm(0, 1), 0), SettingsError, "n must be a positive integer"),
        ((norm(0, 1), 2.0), SettingsError, "n must be a positive integer"),
    ],
)
def test_what_is_no_group_is_refused(given: tuple[Any, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        sf.iid(*given)


@pytest.mark.parametrize("labels", [["a"], ["a", "a"], "ab", ["a", ""], ["a", "b", "c"]])
def test_labels_name_each_group_once(labels: Any) -> None:
    with pytest.raises(PriorError, match="labels must be 2 different names"):
        sf.iid(norm(0, 1), 2, labels=labels)


def test_a_group_with_arrays_needs_a_function() -> None:
    with pytest.raises(PriorError, match="prior x: .*not one number each"):
        sf.Prior(x=sf.iid(norm([0, 1], 1), 2))


def test_a_stored_group_that_names_anything_else_is_refused() -> None:
    record = {"name": "x", "source": "iid", "n": 2}
    for of in ({"source": "scipy", "kind": "os", "args": [], "kwds": {}}, {"source": "iid"}, {}):
        with pytest.raises(PriorError, match="prior x:"):
            sf.Prior.from_json([{**record, "of": of}])
    with pytest.raises(PriorError, match="prior x:"):
        sf.Prior.from_json([record])


def test_a_vector_of_one_simplex_component_is_refused() -> None:
    with pytest.raises(PriorError, match="prior w: .*a single component, which is always 1"):
        sf.Prior(w=td.Dirichlet(torch.ones(1)))
