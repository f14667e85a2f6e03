"""The local test has the stated rate on exact posteriors and detects planted faults at one observation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from sbi_flows.diagnostics.local import LocalTest, local_c2st
from sbi_flows.errors import ShapeError

from .known import MUTANTS, PROBLEMS, Known, Tested, exact


def local_test_of(known: Known, tested: Tested, seed: int, m: int = 1000) -> LocalTest:
    rng = np.random.default_rng(seed)
    theta, y = known.joint(m, rng)
    observed = known.joint(1, rng)[1]
    sampler = tested[0]
    return local_c2st(
        theta, sampler(y, 1, rng)[:, 0], y, sampler(observed, 200, rng)[0], observed[0], rng=rng, swaps=200
    )


@pytest.mark.parametrize("name", PROBLEMS)
def test_false_alarms_are_as_rare_as_stated(name: str) -> None:
    """60 repeats with p <= 10%: at most the binomial limit at 1e-5."""
    known = PROBLEMS[name]()
    assert sum(local_test_of(known, exact(known), seed).p <= 0.1 for seed in range(60)) <= binom.isf(
        1e-5, 60, 0.1
    )


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_prior_is_told_from_the_posterior(name: str) -> None:
    """At most observations: where the data say nothing, the prior is the posterior."""
    known = PROBLEMS[name]()
    tested = MUTANTS["prior as posterior"](known)
    assert tested is not None
    assert sum(local_test_of(known, tested, seed).p <= 0.05 for seed in range(8)) >= 6


def test_too_few_pairs_are_refused() -> None:
    known = PROBLEMS["conjugate Gaussian"]()
    with pytest.raises(ShapeError, match="200 pairs, got 50"):
        local_test_of(known, exact(known), 0, m=50)
