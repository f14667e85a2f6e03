"""The contract of a simulator: what is accepted and converted once, and what is refused in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.errors import (
    InputError,
    ObservationError,
    PriorError,
    ShapeError,
    SimulatorContractError,
    TooManyFailuresError,
    UnknownParameterError,
)
from sbi_flows.problem.events import Events
from sbi_flows.problem.observation import as_observation

PRIOR = sf.Prior(a=uniform(0, 1), w=torch.distributions.Dirichlet(torch.ones(3)))
THETA = PRIOR.sample(6, np.random.default_rng(0))
F = np.ndarray


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def wrap(function: Callable[..., Any], **options: Any) -> sf.Simulator:
    return sf.simulator(PRIOR, **options)(function)


def test_the_decorated_name_is_the_simulator_and_still_the_function() -> None:
    @sf.simulator(PRIOR)
    def my_model(theta: dict[str, F], rng: np.random.Generator) -> F:
        """What it does."""
        return theta["a"] + rng.normal(size=len(theta["a"]))

    assert isinstance(my_model, sf.Simulator)
    assert (my_model.name, my_model.__doc__) == ("my_model", "What it does.")
    columns = PRIOR.as_mapping(THETA)
    np.testing.assert_array_equal(my_model(columns, rng()), my_model.function(columns, rng()))


def test_a_vectorised_simulator_sees_columns_and_a_single_one_sees_numbers() -> None:
    seen: list[Any] = []

    def look(theta: dict[str, Any], rng: np.random.Generator) -> F:
        seen.append(theta)
        return np.zeros(len(THETA)) if len(seen) == 1 else np.zeros(())

    wrap(look).run(THETA, rng())
    wrap(look, vectorized=False).run(THETA, rng())
    assert {name: value.shape for name, value in seen[0].items()} == {"a": (6,), "w": (6, 3)}
    assert type(seen[1]["a"]) is float
    assert seen[1]["w"].shape == (3,)
    assert [theta["a"] for theta in seen[1:]] == THETA[:, 0].tolist()


@pytest.mark.parametrize(
    ("made", "kept"),
    [
        ("f8", "f8"),
        ("f4", "f4"),
        ("f2", "f4"),
        ("i8", "f8"),
        ("u1", "f8"),
        ("?", "f8"),
        (">f8", "f8"),
        (">f4", "f4"),
        ("g", "f8"),
    ],
)
def test_single_precision_stays_and_all_else_becomes_double(made: str, kept: str) -> None:
    y = wrap(lambda theta, rng: np.ones((6, 2), dtype=made)).run(THETA, rng())
    assert y.dtype == np.dtype(kept)
    assert y.dtype.isnative


def test_lists_and_tensors_are_accepted() -> None:
    assert wrap(lambda theta, rng: [[1, 2]] * 6).run(THETA, rng()).shape == (6, 2)
    assert wrap(lambda theta, rng: torch.zeros(6, 2)).run(THETA, rng()).dtype == np.float32
    assert wrap(lambda theta, rng: 3, vectorized=False).run(THETA, rng()).shape == (6,)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda theta, rng: np.zeros((1, 4)), r"\(1, 4\).*\(6, \*event\).*vectorized=False"),
        (lambda theta, rng: np.zeros(()), r"\(\).*6 rows"),
        (lambda theta, rng: 1.0, r"\(\).*6 rows"),
        (lambda theta, rng: None, "dtype object"),
        (lambda theta, rng: np.array([None] * 6), "dtype object"),
        (lambda theta, rng: ["a"] * 6, "dtype <U1"),
        (lambda theta, rng: np.zeros(6, dtype=complex), "dtype complex128"),
        (lambda theta, rng: np.zeros(6, dtype="M8[s]"), "dtype datetime64"),
    ],
)
def test_another_first_dimension_or_type_breaks_the_contract(bad: Callable[..., Any], words: str) -> None:
    with pytest.raises(SimulatorContractError, match=words):
        wrap(bad).run(THETA, rng())


def test_events_of_another_shape_than_declared_break_the_contract() -> None:
    with pytest.raises(SimulatorContractError, match=r"\(4,\).*\(5,\)"):
        wrap(lambda theta, rng: np.zeros((6, 4)), event_shape=(5,)).run(THETA, rng())


def test_single_draws_of_different_shapes_break_the_contract() -> None:
    with pytest.raises(SimulatorContractError, match="shape"):
        wrap(lambda theta, rng: np.zeros(rng.integers(1, 9)), vectorized=False).run(THETA, rng())


def test_theta_cannot_be_written_to() -> None:
    def double(theta: dict[str, F], rng: np.random.Generator) -> F:
        theta["a"] *= 2
        return theta["a"]

    before = THETA.copy()
    with pytest.raises(SimulatorContractError, match="read-only.*copy"):
        wrap(double).run(THETA, rng())
    np.testing.assert_array_equal(THETA, before)


def test_what_was_returned_may_be_written_over_by_the_simulator() -> None:
    buffer = np.zeros((6, 2))

    def refill(theta: dict[str, F], rng: np.random.Generator) -> F:
        buffer[:] = rng.random()
        return buffer

    first = wrap(refill).run(THETA, rng(1))
    kept = first.copy()
    wrap(refill).run(THETA, rng(2))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("event", [(), (3,), (2, 4)])
@pytest.mark.parametrize("vectorized", [True, False])
def test_an_undeclared_event_shape_is_found_by_simulating(event: tuple[int, ...], vectorized: bool) -> None:
    model = wrap(
        lambda theta, rng: np.zeros((len(theta["a"]), *event) if vectorized else event), vectorized=vectorized
    )
    assert model.event_shape == event


def test_the_event_shape_is_found_although_some_draws_raise() -> None:
    def often(theta: dict[str, Any], rng: np.random.Generator) -> F:
        if theta["a"] < 0.8:
            raise FloatingPointError("a is too small")
        return np.zeros(7)

    assert wrap(often, vectorized=False).event_shape == (7,)


def test_an_unknown_part_is_a_type_error_that_names_it() -> None:
    with pytest.raises(TypeError, match="likelihood"):
        sf.Simulator(lambda theta, rng: theta["a"], PRIOR, likelihood=3)  # type: ignore[call-arg]


def test_a_simulator_that_always_raises_has_no_event_shape_and_says_why() -> None:
    with pytest.raises(TooManyFailuresError, match="no parameter 'b'; there are a, w"):
        _ = wrap(lambda theta, rng: theta["b"]).event_shape


def test_without_summaries_the_flattened_data_stand_in() -> None:
    y = rng().normal(size=(5, 2, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        wrap(lambda theta, rng: y).compute_summaries(y), y.reshape(5, 6).astype(np.float64)
    )


@pytest.mark.parametrize("bad", [lambda y: y.mean(), lambda y: y.mean(axis=1), lambda y: y[:2]])
def test_summaries_of_the_wrong_shape_break_the_contract(bad: Callable[..., Any]) -> None:
    with pytest.raises(SimulatorContractError, match=r"wanted \(5, k\)"):
        wrap(lambda theta, rng: 0, summaries=bad).compute_summaries(np.zeros((5, 3)))


def test_a_data_set_is_found_by_name_and_an_unknown_name_lists_them() -> None:
    model = wrap(lambda theta, rng: 0, event_shape=(3,), observed={"first": [1, 2, 3], "short": [1, 2]})
    assert model.data("first").tolist() == [1, 2, 3]
    with pytest.raises(ObservationError, match=r"'second'.*\['first', 'short'\]"):
        model.data("second")
    with pytest.raises(ShapeError, match=r"shape \(2,\)"):
        model.data("short")


def test_something_other_than_a_prior_or_a_function_is_refused_at_the_decorator() -> None:
    with pytest.raises(PriorError, match=r"@sf.simulator\(prior\)"):
        sf.simulator(lambda theta, rng: 0)  # type: ignore[arg-type]
    with pytest.raises(PriorError, match="sf.Prior"):
        sf.Simulator(lambda theta, rng: 0, {"a": uniform()})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="function"):
        sf.Simulator(3, PRIOR)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "y",
    [
        [1, 2, 3],
        (1.0, 2.0, 3.0),
        np.array([1, 2, 3], dtype=np.int8),
        np.array([[1], [2], [3]]),
        pandas.Series([1, 2, 3]),
        pandas.DataFrame({"count": [1, 2, 3]}),
        torch.tensor([1.0, 2.0, 3.0], requires_grad=True),
        torch.tensor([1, 2, 3]),
    ],
    ids=lambda y: type(y).__name__,
)
def test_data_are_converted_as_they_come(y: Any) -> None:
    values = as_observation(y, Events.plain((3,)))
    assert values.tolist() == [1, 2, 3]
    assert values.dtype == np.float64


@pytest.mark.parametrize(
    ("shape", "event", "wanted"),
    [
        ((4, 3), (3,), (4, 3)),
        ((1, 3), (3,), (1, 3)),
        ((3,), (3,), (3,)),
        ((3, 1), (3,), (3,)),
        ((1, 1), (1,), (1, 1)),
        ((5, 1), (1,), (5, 1)),
        ((1,), (1,), (1,)),
        ((5,), (), (5,)),
        ((), (), ()),
        ((5, 2, 2), (2, 2), (5, 2, 2)),
    ],
)
def test_a_stack_has_the_events_along_its_first_axis(
    shape: tuple[int, ...], event: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    assert as_observation(np.zeros(shape), Events.plain(event), stack=True).shape == wanted


@pytest.mark.parametrize(
    ("shape", "event"),
    [((2,), (3,)), ((3, 2), (3,)), ((3, 3), (3,)), ((), (3,)), ((1,), ()), ((0,), (3,)), ((6,), (2, 3))],
)
def test_another_shape_is_refused_with_both_shapes_named(
    shape: tuple[int, ...], event: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeError) as caught:
        as_observation(np.zeros(shape), Events.plain(event))
    assert str(shape) in str(caught.value)
    assert str(event) in str(caught.value)


@pytest.mark.parametrize(("shape", "event"), [((0, 3), (3,)), ((2, 2), (3,)), ((2, 2, 3), (3,))])
def test_an_empty_or_misshapen_stack_is_refused(shape: tuple[int, ...], event: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\(m, 3\)"):
        as_observation(np.zeros(shape), Events.plain(event), stack=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_missing_and_infinite_values_are_refused_with_their_place(bad: float) -> None:
    with pytest.raises(ObservationError, match=r"1 NaN .*3 .*\[\(1,\)\]"):
        as_observation([0.0, bad, 2.0], Events.plain((3,)))


@pytest.mark.parametrize(
    "y", [["a", "b", "c"], [1, None, 2], np.zeros(3, dtype=complex), [object()] * 3, {"a": 1}]
)
def test_what_is_not_numbers_is_refused(y: Any) -> None:
    with pytest.raises((ObservationError, ShapeError), match="numbers|NaN|Pass the array"):
        as_observation(y, Events.plain((3,)))


def test_the_prior_of_a_simulator_may_be_unbounded() -> None:
    model = sf.simulator(sf.Prior(x=norm()))(lambda theta, rng: theta["x"])
    theta = model.prior.sample(3, rng())
    np.testing.assert_array_equal(model.run(theta, rng()), theta[:, 0])


@pytest.mark.parametrize("vectorized", [True, False])
def test_a_name_that_no_parameter_has_is_answered_with_those_that_there_are(vectorized: bool) -> None:
    model = sf.Simulator(lambda theta, rng: theta["A"], PRIOR, vectorized=vectorized)
    with pytest.raises(UnknownParameterError, match="no parameter 'A'; there are a, w") as caught:
        model.run(THETA, np.random.default_rng(0))
    assert isinstance(caught.value, KeyError)
    seen: list[object] = []
    model = sf.Simulator(lambda theta, rng: seen.append(theta) or theta["a"], PRIOR, vectorized=vectorized)
    model.run(THETA, np.random.default_rng(0))
    assert isinstance(seen[0], dict)
