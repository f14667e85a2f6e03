"""Patterns of missing values that were never seen in training are known, and those like in training are not
called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, norm

import sbi_flows as sf
from sbi_flows.misspecification.patterns import Patterns
from sbi_flows.problem.events import Declaration
from sbi_flows.problem.patterns import as_observe

EVENTS = Declaration.of(sf.Series(), True).events({"": (20,)}, "model")
NEVER, BACK, MORE, GAP, FEWER = range(5)


def trained(given: Any, n: int = 2000) -> Patterns:
    return Patterns.of(patterns(given, n, 0))


def patterns(given: Any, n: int, seed: int) -> np.ndarray:
    observe = as_observe(given, EVENTS)
    assert observe is not None
    return observe(np.zeros((n, 20)), np.random.default_rng(seed))


def with_gaps(*missing: int) -> np.ndarray:
    y = np.zeros((1, 20))
    y[0, list(missing)] = np.nan
    return y


def never_the_first(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    hidden = rng.random(y.shape) < 0.3
    hidden[:, :2] = False
    hidden[:, 19] = True
    return np.where(hidden, np.nan, y)


@pytest.mark.parametrize(
    "given",
    [
        sf.gaps((0.0, 0.5)),
        sf.gaps(0.02),
        sf.gaps((0.1, 0.3), by="step"),
        sf.lengths(5, 20),
        [sf.lengths(5, 20), sf.gaps((0.0, 0.3))],
        never_the_first,
    ],
    ids=["gaps", "few gaps", "steps", "lengths", "both", "own"],
)
def test_patterns_like_those_of_training_are_hardly_called(given: Any) -> None:
    fresh = trained(given).unlike(patterns(given, 300, 1))
    assert (fresh.sum(axis=1) > 0).sum() <= binom.isf(1e-4, 300, 0.01)


@pytest.mark.parametrize(
    ("given", "y", "which", "count"),
    [
        (never_the_first, with_gaps(0, 19), NEVER, 1),
        (never_the_first, with_gaps(0, 1, 19), NEVER, 2),
        (never_the_first, with_gaps(5), BACK, 1),
        (sf.gaps(0.1), with_gaps(*range(2, 18)), GAP, None),
        (sf.gaps(0.1), with_gaps(*range(0, 20, 2), 1, 5, 9, 13), MORE, None),
        (sf.lengths(5, 15), with_gaps(), BACK, 5),
        (sf.lengths(5, 15), with_gaps(), FEWER, 5),
        (sf.lengths(5, 15), with_gaps(*range(4, 20)), MORE, 1),
        (sf.lengths(5, 20), with_gaps(3), GAP, 1),
    ],
)
def test_patterns_outside_training_are_counted(
    given: Any, y: np.ndarray, which: int, count: int | None
) -> None:
    found = int(trained(given).unlike(y)[0, which])
    assert found == count if count is not None else found > 0


def test_what_ends_early_is_no_gap() -> None:
    found = trained(sf.lengths(5, 20)).unlike(with_gaps(*range(8, 20)))
    assert not found.any()


def test_rare_gaps_are_to_be_expected_also_where_training_had_none() -> None:
    """Of 1,000 elements that miss in one of 2,000 rows each, many are complete in training by chance."""
    y = np.zeros((2000, 1000))
    y[np.random.default_rng(0).random(y.shape) < 1 / 2000] = np.nan
    fresh = np.zeros((300, 1000))
    fresh[np.random.default_rng(1).random(fresh.shape) < 1 / 2000] = np.nan
    assert not Patterns.of(y).unlike(fresh)[:, NEVER].any()


def test_numbers_for_a_file_give_the_same_counts() -> None:
    one = trained(sf.gaps(0.1))
    again = Patterns(**one.arrays())
    y = patterns(sf.gaps(0.5), 100, 2)
    np.testing.assert_array_equal(again.unlike(y), one.unlike(y))


@pytest.fixture(scope="module")
def posterior() -> sf.Posterior:
    """A quick fit for series of 6 to 12 steps with few gaps."""

    @sf.simulator(sf.Prior(a=norm(0, 1), b=norm(0, 1)), data=sf.Series())
    def model(theta: Any, rng: np.random.Generator) -> np.ndarray:
        noise = 0.3 * rng.standard_normal((len(theta["a"]), 12))
        return np.asarray(theta["a"][:, None] + theta["b"][:, None] * np.linspace(-1, 1, 12) + noise)

    settings = sf.FitSettings(
        width=16, layers=2, summary_features=8, members=1, flow="maf", train=sf.TrainSettings(epochs=8)
    )
    return sf.fit(
        model, observe=[sf.lengths(6, 12), sf.gaps((0, 0.1))], n_simulations=600, settings=settings, say=None
    )


Y = 0.2 + 0.4 * np.linspace(-1, 1, 12) + 0.3 * np.random.default_rng(3).standard_normal(12)


def test_the_verdict_is_better_within_than_outside(posterior: sf.Posterior) -> None:
    assert posterior.detector.patterns is not None
    gappy = Y.copy()
    gappy[4] = np.nan
    for y in (Y, Y[:7], gappy):
        assert "missing" not in posterior.sample(y, 10).verdict.text
    cases: list[tuple[Callable[[], np.ndarray], str]] = [
        (lambda: Y[:2], "missing beyond the most"),
        (lambda: np.where(np.isin(np.arange(12), range(2, 10)), np.nan, Y), "gap beyond the longest"),
    ]
    for make, words in cases:
        verdict = posterior.sample(make(), 10).verdict
        assert verdict.level == "do not trust"
        assert words in verdict.text
