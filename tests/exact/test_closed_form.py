"""Draws in closed form: what breaks the contract, and draws that do not vary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.errors import SimulatorContractError
from sbi_flows.exact.closed_form import closed_form, verdict_on

Y = np.zeros(2)


def draws(exact: Callable[..., Any], n: int = 100) -> Any:
    """`exact` is the exact_posterior of a model with a ~ U(0, 1), b ~ N(0, 1)."""

    @sf.simulator(sf.Prior(a=uniform(0, 1), b=norm(0, 1)), event_shape=(2,), exact_posterior=exact)
    def model(theta: Any, rng: np.random.Generator) -> Any:
        return np.stack([theta["a"], theta["b"]], axis=1) + rng.standard_normal((len(theta["a"]), 2))

    return closed_form(model, Y, n, np.random.default_rng(1))


def right(y: Any, n: int, rng: np.random.Generator) -> Any:
    return np.stack([rng.random(n), rng.standard_normal(n)], axis=1)


def with_one(value: float) -> Callable[..., Any]:
    """Draws of which number 3 has this b."""

    def exact(y: Any, n: int, rng: np.random.Generator) -> Any:
        found = right(y, n, rng)
        found[3, 1] = value
        return found

    return exact


def writing(y: Any, n: int, rng: np.random.Generator) -> Any:
    y[:] = 7.0
    return right(y, n, rng)


def test_draws_inside_the_prior_are_given_as_they_are_and_the_data_stay() -> None:
    np.testing.assert_array_equal(draws(right), right(Y, 100, np.random.default_rng(1)))
    draws(writing)
    assert (Y == 0).all()


@pytest.mark.parametrize(
    ("exact", "said"),
    [
        (lambda y, n, rng: rng.normal(0, 2, (n, 2)), r"inside the prior, got a = .* of 100 draws are wrong"),
        (lambda y, n, rng: right(y, n, rng) + np.eye(2)[0], r"inside the prior.*\(100 of 100"),
        (with_one(np.nan), r"wanted \(100, 2\) numbers, got a = .*, b = nan \(1 of 100"),
        (with_one(np.inf), r"b = inf \(1 of 100"),
        (lambda y, n, rng: 1 / 0, r"raised ZeroDivisionError: division by zero"),
        (lambda y, n, rng: rng.normal(0, -1, (n, 2)), "raised ValueError"),
        (lambda y, n, rng: "no", "got str"),
        (lambda y, n, rng: {"a": right(y, n, rng)[:, 0]}, "got dict"),
        (lambda y, n, rng: right(y, n, rng)[:, 0], r"got shape \(100,\)"),
        (lambda y, n, rng: None, r"got NoneType|got shape \(\)"),
    ],
)
def test_what_breaks_the_contract_is_refused_with_the_first_wrong_draw(
    exact: Callable[..., Any], said: str
) -> None:
    with pytest.raises(SimulatorContractError, match=f"model.exact_posterior.*{said}"):
        draws(exact)


def test_a_column_that_does_not_vary_is_not_trusted() -> None:
    values = right(Y, 50, np.random.default_rng(1))
    assert verdict_on(values, ("a", "b")).level == "trust"
    values[:, 1] = 0.3
    found = verdict_on(values, ("a", "b"))
    assert found.level == "do not trust"
    assert "the 50 draws of b in closed form are all equal" in found.text
