"""Smoothing of importance weights."""

from __future__ import annotations

import numpy as np

from sbi_flows.diagnostics.importance import pareto_k, smoothed


def test_smoothing_changes_the_largest_weights_alone_and_none_upwards_beyond_the_largest() -> None:
    log_weights = np.random.default_rng(1).exponential(0.6, 2000)
    found = smoothed(log_weights)
    order = np.argsort(log_weights)
    tail = int(3 * np.sqrt(2000))
    np.testing.assert_array_equal(found[order[:-tail]], log_weights[order[:-tail]])
    assert (np.diff(found[order[-tail:]]) >= 0).all()
    assert found.max() <= log_weights.max()
    assert not np.array_equal(found, log_weights)


def test_smoothed_weights_estimate_means_with_less_error() -> None:
    """Weights 1 / u^0.6 have k = 0.6: their mean is 2.5. Over 300 repeats, smoothing makes the root mean
    square error smaller by at least a tenth.
    """
    errors = []
    for seed in range(300):
        log_weights = -0.6 * np.log(np.random.default_rng(seed).random(1000))
        errors.append([np.exp(log_weights).mean() - 2.5, np.exp(smoothed(log_weights)).mean() - 2.5])
    plain, smooth = np.sqrt(np.square(errors).mean(axis=0))
    assert smooth < 0.9 * plain


def test_the_shape_is_that_of_the_tail() -> None:
    """Weights 1 / u^k; the standard error of k-hat with 948 largest of 100,000 weights is about 0.05."""
    for k in (0.3, 0.7, 1.2):
        log_weights = -k * np.log(np.random.default_rng(1).random(100_000))
        assert abs(pareto_k(log_weights) - k) < 0.2


def test_one_weight_above_all_others_by_any_factor_has_no_finite_shape() -> None:
    """The others are nothing in floating point, tiny, or zero."""
    spread = np.random.default_rng(1).random(1000)
    for scale in (1e3, 1e4, 1e6):
        assert pareto_k(-scale * spread) > 1
    few = np.full(1000, -np.inf)
    few[:3] = [0.0, -1.0, -2.0]
    assert pareto_k(few) == np.inf
    np.testing.assert_array_equal(smoothed(few), few)


def test_weights_that_are_zero_or_one_are_bounded_and_zero_stays_zero() -> None:
    for ones in (20, 80, 500):
        log_weights = np.where(np.arange(1000) < ones, 0.0, -np.inf)
        assert pareto_k(log_weights) < 0
        np.testing.assert_array_equal(smoothed(log_weights), log_weights)


def test_few_or_equal_weights_are_left_as_they_are() -> None:
    for log_weights in (np.zeros(100), np.random.default_rng(1).random(20)):
        np.testing.assert_array_equal(smoothed(log_weights), log_weights)
