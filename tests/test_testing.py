"""`check_simulator`: a good simulator passes, and each way of breaking the contract is caught by its rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import uniform

import sbi_flows as sf

F = np.ndarray
PRIOR = sf.Prior(a=uniform(0, 1), w=torch.distributions.Dirichlet(torch.ones(3)))
PRIVATE = np.random.default_rng(0)


def centred(theta: dict[str, Any], rng: np.random.Generator) -> F:
    a = np.asarray(theta["a"])
    return a[..., None] + rng.standard_normal((*a.shape, 4))


def make(function: Callable[..., Any] = centred, **options: Any) -> sf.Simulator:
    return sf.simulator(PRIOR, **options)(function)


def broken_rules(simulator: sf.Simulator) -> set[str]:
    return {finding.rule for finding in sf.testing.check_simulator(simulator).findings if not finding.ok}


def inside(y: F, n: int, rng: np.random.Generator) -> F:
    return PRIOR.sample(n, rng)


COMPLETE: dict[str, Any] = {
    "event_shape": (4,),
    "summaries": lambda y: np.stack([y.mean(axis=1), y.std(axis=1)], axis=1),
    "log_likelihood": lambda theta, y, rng: -np.square(y - theta["a"][:, None]).sum(axis=1) / 2,
    "exact_posterior": inside,
    "observed": {"zeros": np.zeros(4)},
}


@pytest.mark.parametrize(
    "simulator", [make(), make(vectorized=False), make(**COMPLETE), make(vectorized=False, **COMPLETE)]
)
def test_a_simulator_that_keeps_the_contract_passes(simulator: sf.Simulator) -> None:
    report = sf.testing.check_simulator(simulator)
    assert report.ok, report
    assert len(report.findings) == 10


def test_the_report_has_a_line_for_each_rule_and_says_which_is_broken() -> None:
    lines = str(
        sf.testing.check_simulator(make(lambda theta, rng: np.zeros((len(theta["a"]), 2))))
    ).splitlines()
    assert lines[0] == "simulator '<lambda>'"
    (broken,) = (line for line in lines[1:] if line.startswith("NOT"))
    assert broken.startswith("NOT randomness comes from the rng: ")
    assert all(line.startswith(("ok  ", "NOT ")) for line in lines[1:])


def from_elsewhere(theta: dict[str, Any], rng: np.random.Generator) -> F:
    return PRIVATE.standard_normal((len(theta["a"]), 2))


def constant(theta: dict[str, Any], rng: np.random.Generator) -> F:
    return np.stack([theta["a"], theta["a"]], axis=1)


def writes(theta: dict[str, Any], rng: np.random.Generator) -> F:
    y = centred(theta, rng)
    theta["w"][..., 0] = 0
    return y


def sometimes_nan(theta: dict[str, Any], rng: np.random.Generator) -> F:
    return np.where(theta["a"][:, None] < 0.1, np.nan, centred(theta, rng))


def squeezed(theta: dict[str, Any], rng: np.random.Generator) -> F:
    return centred(theta, rng)[..., : len(theta["a"])]


def raises(theta: dict[str, Any], rng: np.random.Generator) -> F:
    raise RuntimeError("always")


RUNNING = {
    "declared shapes, for 1 draw and for 8",
    "the same rng gives the same bytes",
    "randomness comes from the rng",
}


@pytest.mark.parametrize(
    ("function", "broken"),
    [
        (from_elsewhere, {"the same rng gives the same bytes"}),
        (constant, {"randomness comes from the rng"}),
        (sometimes_nan, {"all rows are finite"}),
        (squeezed, RUNNING | {"all rows are finite"}),
        (raises, RUNNING | {"theta is not written to", "all rows are finite"}),
    ],
)
def test_each_way_of_breaking_the_contract_has_its_rule(
    function: Callable[..., Any], broken: set[str]
) -> None:
    assert broken_rules(make(function)) == broken


@pytest.mark.parametrize("vectorized", [True, False])
def test_writing_to_theta_is_caught(vectorized: bool) -> None:
    assert "theta is not written to" in broken_rules(make(writes, vectorized=vectorized))


def test_another_shape_than_declared_is_caught() -> None:
    assert "declared shapes, for 1 draw and for 8" in broken_rules(make(event_shape=(5,)))


@pytest.mark.parametrize(
    ("part", "value", "rule"),
    [
        ("summaries", lambda y: (y - y.mean(axis=0))[:, :2], "summaries"),
        ("summaries", lambda y: np.log(-np.ones((len(y), 1)) * np.inf), "summaries"),
        ("summaries", lambda y: y[0], "summaries"),
        ("log_likelihood", lambda theta, y, rng: 0.0, "log_likelihood"),
        ("log_likelihood", lambda theta, y, rng: np.full(len(theta["a"]), np.nan), "log_likelihood"),
        ("log_likelihood", lambda theta, y, rng: theta["a"][:, None], "log_likelihood"),
        ("exact_posterior", lambda y, n, rng: PRIOR.sample(n, rng)[:, :2], "exact_posterior"),
        ("exact_posterior", lambda y, n, rng: PRIOR.sample(n, rng) + 2, "exact_posterior"),
        ("exact_posterior", lambda y, n, rng: PRIOR.sample(1, rng).repeat(n, axis=0), "exact_posterior"),
        ("observed", {"short": np.zeros(3)}, "observed data"),
        ("observed", {"missing": np.full(4, np.nan)}, "observed data"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_each_optional_part_has_its_rule(part: str, value: Any, rule: str) -> None:
    assert broken_rules(make(**{**COMPLETE, part: value})) == {rule}


def test_the_check_is_a_function_of_its_seed_alone() -> None:
    first, second = (sf.testing.check_simulator(make(**COMPLETE), seed=3) for _ in range(2))
    assert first == second


def gaps(y: F, rng: np.random.Generator) -> F:
    return np.where(rng.random(y.shape) < 0.2, np.nan, y)


def with_gaps(theta: dict[str, Any], rng: np.random.Generator) -> F:
    return gaps(centred(theta, rng), rng)


def several(theta: dict[str, Any], rng: np.random.Generator) -> dict[str, F]:
    y = centred(theta, rng)
    return {"counts": gaps(y, rng), "map": np.stack([y, y], axis=-1)}


KINDS = {"counts": sf.Series(), "map": sf.Grid(axes=1)}
SPLIT = sf.Prior(young=uniform(0, 1), adult=lambda p: uniform(p["young"], 1 - p["young"]))


@sf.simulator(SPLIT)
def conditional(theta: dict[str, Any], rng: np.random.Generator) -> F:
    return np.stack([theta["young"], theta["adult"]], axis=1) + rng.standard_normal((len(theta["young"]), 2))


@pytest.mark.parametrize(
    "simulator",
    [
        make(
            with_gaps, missing=True, summaries=lambda y: y[:, :2], observed={"a gap": [1.0, np.nan, 2.0, 3.0]}
        ),
        make(several, missing=True, data=KINDS, summaries=lambda y: y["map"][:, 0]),
        sf.replicates(make(), 1, 5),
        sf.replicates(make(log_likelihood=COMPLETE["log_likelihood"]), 2, 5),
        conditional,
    ],
)
def test_data_of_every_kind_pass(simulator: sf.Simulator) -> None:
    report = sf.testing.check_simulator(simulator)
    assert report.ok, report


def seen_of(name: str, simulator: sf.Simulator) -> str:
    """What was seen of a broken rule whose words begin so."""
    report = sf.testing.check_simulator(simulator)
    (found,) = (one for one in report.findings if one.rule.startswith(name))
    assert not found.ok
    return found.seen


def test_gaps_that_are_not_declared_are_told_from_failures() -> None:
    assert "of 200 rows (in 'counts')" in seen_of("all rows are finite", make(several, data=KINDS))
    assert "declare it: @sf.simulator(prior, missing=True)" in seen_of("all rows are finite", make(with_gaps))
    assert "declare it" not in seen_of("all rows are finite", make(sometimes_nan))


def test_with_gaps_a_row_without_any_value_and_an_infinite_one_are_faults() -> None:
    found = seen_of("no infinite", make(sometimes_nan, missing=True))
    assert "rows hold nothing that is observed" in found
    overflowing = make(lambda theta, rng: with_gaps(theta, rng) * np.inf, missing=True)
    assert "200 of 200 rows hold infinite values" in seen_of("no infinite", overflowing)


def test_another_mapping_than_declared_is_said_array_by_array() -> None:
    seen = seen_of(
        "declared shapes", make(several, missing=True, data={"counts": sf.Series(), "maps": sf.Grid()})
    )
    assert "'counts', 'map'; data= declares a mapping of 'counts', 'maps'" in seen
    seen = seen_of(
        "declared shapes", make(several, missing=True, data={**KINDS, "counts": sf.Series(("a", "b"))})
    )
    assert "'counts' is declared as" in seen
    assert "2 names (a, b) for 1" in seen
