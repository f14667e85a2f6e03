"""The tests are tested: planted faults of exact posteriors are detected, and the exact ones pass.

Reduced from `tests/benchmarks/faults.py`, where each fault is planted in 100 seeded repeats and each exact
posterior is tested 1,000 times.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from sbi_flows.diagnostics.dependence import data_features
from sbi_flows.diagnostics.normalisation import normalisation
from sbi_flows.diagnostics.pairs import draw_pairs
from sbi_flows.diagnostics.recovery import gain, recovery
from sbi_flows.diagnostics.tests import apply_tests, overall
from sbi_flows.errors import SettingsError
from tests.benchmarks.faults import measured

from .known import MUTANTS, PROBLEMS, exact, gaussian

PLANTED = [
    (name, fault)
    for name, make in PROBLEMS.items()
    for fault in MUTANTS
    if MUTANTS[fault](make()) is not None
]


@pytest.mark.parametrize(("name", "fault"), PLANTED)
def test_a_planted_fault_is_detected(name: str, fault: str) -> None:
    known = PROBLEMS[name]()
    tested = MUTANTS[fault](known)
    assert tested is not None
    outcomes = apply_tests(measured(known, tested, 1000, seed=0))
    assert not overall(outcomes).ok
    assert all(one.advice for one in outcomes if one.level != "trust")


@pytest.mark.parametrize("name", PROBLEMS)
def test_an_exact_posterior_is_trusted_and_alarms_are_no_more_frequent_than_stated(name: str) -> None:
    """100 repeats at m = 200 and a stated rate of 20%: at most the binomial limit at 1e-5."""
    known = PROBLEMS[name]()
    alarms = 0
    for seed in range(100):
        found = measured(known, exact(known), 200, seed)
        alarms += any(outcome.significant for outcome in apply_tests(found, 0.2))
        assert overall(apply_tests(found)).ok
    assert alarms <= binom.isf(1e-5, 100, 0.2)


def test_a_normalisation_that_is_off_is_measured_in_nats() -> None:
    known = gaussian()
    rng = np.random.default_rng(0)
    theta, y = known.joint(500, rng)

    def too_high(theta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return known.log_prob(theta, y) + 0.4

    pairs = draw_pairs(known.sample, theta, y, names=("a", "b"), rng=rng, log_prob=too_high)
    assert normalisation(pairs, too_high, rng).excess == pytest.approx(0.4, abs=0.02)
    with pytest.raises(SettingsError, match="log_prob"):
        normalisation(draw_pairs(known.sample, theta, y, names=("a", "b"), rng=rng), too_high, rng)


def test_recovery_contraction_and_gain_are_those_of_the_closed_form() -> None:
    """gain: the mutual information 0.5 log det(I + A A^T / s^2), to 5 standard errors."""
    known = gaussian()
    rng = np.random.default_rng(0)
    theta, y = known.joint(4000, rng)
    pairs = draw_pairs(known.sample, theta, y, names=("a", "b"), rng=rng, log_prob=known.log_prob)
    assert pairs.log_q is not None
    found = gain(pairs.log_q[:, 0], known.log_prior(theta))
    design = np.array([[1.0, 0.5], [-0.3, 1.0]])
    information = 0.5 * np.log(np.linalg.det(np.eye(2) + design @ design.T / 0.49))
    assert abs(found.mean - information) < 5 * found.error
    variance = known.moments(y)[1][0] ** 2
    for j, one in enumerate(recovery(pairs)):
        assert one.contraction == pytest.approx(1 - variance[j], abs=0.03)
        assert one.correlation == pytest.approx(np.sqrt(1 - variance[j]), abs=0.03)
        assert one.z_sd == pytest.approx(1, abs=0.06)
    assert gain(np.array([0.0, -np.inf]), np.zeros(2)).z == -np.inf


def test_features_are_few_for_few_rows_and_leave_out_what_is_constant() -> None:
    rng = np.random.default_rng(0)
    assert data_features(rng.standard_normal((1000, 4))).shape == (1000, 8)
    assert data_features(rng.standard_normal((1000, 10, 10))).shape == (1000, 30)
    assert data_features(rng.standard_normal((100, 10, 10))).shape == (100, 4)
    assert data_features(np.ones((100, 3))).shape == (100, 0)
