"""The judge of class probabilities: a calibrated, an overconfident, an underconfident and a biased
classifier.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import binom

from sbi_flows.diagnostics.classification import (
    FALSE_ALARM,
    Scaling,
    bernoulli_sum,
    check_classes,
    mean_log_score,
)

F = NDArray[np.float64]


def judged_rows(n: int, k: int, seed: int, spread: float = 2.0) -> tuple[F, NDArray[np.int64]]:
    """True logits of n rows, and classes drawn from them."""
    rng = np.random.default_rng(seed)
    logits = spread * rng.standard_normal((n, k))
    cumulative = np.cumsum(softmax(logits, axis=1), axis=1)
    return logits, (rng.random((n, 1)) > cumulative[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("spread", [0.3, 2.0, 8.0])
def test_a_calibrated_classifier_passes(k: int, spread: float) -> None:
    """12 data sets: one p-value of 12 is below 1e-4 with chance 1e-3 at most; seeds are fixed."""
    found = [check_classes(*judged_rows(800, k, seed, spread)) for seed in range(12)]
    assert min(one.p for one in found) > FALSE_ALARM
    assert {one.level for one in found} == {"trust"}


def test_p_values_are_not_below_uniform() -> None:
    """Of 120 calibrated classifiers, no more have p <= 0.05 than 5% would allow (1e-5)."""
    p = np.array([check_classes(*judged_rows(200, 2, seed)).p for seed in range(120)])
    assert (p <= 0.05).sum() <= binom.isf(1e-5, 120, 0.05)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize(("factor", "sign"), [(1.6, -1), (0.6, 1)])
def test_an_overconfident_and_an_underconfident_one_are_caught(k: int, factor: float, sign: int) -> None:
    logits, labels = judged_rows(4000, k, 1)
    found = check_classes(factor * logits, labels)
    assert found.p < FALSE_ALARM
    assert found.level != "trust"
    assert np.sign(found.confidence) == sign
    assert found.temperature == pytest.approx(factor, rel=0.15)


def test_a_biased_one_is_caught() -> None:
    logits, labels = judged_rows(4000, 2, 2)
    found = check_classes(logits + np.array([0.0, 0.8]), labels)
    assert found.p < FALSE_ALARM
    assert found.level != "trust"


def test_one_that_is_wrong_in_the_middle_only_leaves_the_band() -> None:
    """Right on average and in its mean log score, but not bin by bin."""
    rng = np.random.default_rng(3)
    p = rng.choice([0.3, 0.7], 6000)
    labels = (rng.random(6000) > 0.5).astype(np.int64)
    found = check_classes(np.log(np.column_stack([p, 1 - p])), labels)
    assert found.p < FALSE_ALARM
    assert not found.curves[0].inside


def test_a_slight_fault_in_a_million_rows_is_not_condemned() -> None:
    logits, labels = judged_rows(60_000, 2, 4)
    found = check_classes(1.1 * logits, labels)
    assert found.p < FALSE_ALARM
    assert found.level == "trust"


def test_bands_hold_all_bins_of_a_calibrated_classifier_at_once() -> None:
    """No more of 120 leave it than 1% would allow (1e-5)."""
    outside = sum(not check_classes(*judged_rows(300, 2, seed)).curves[0].inside for seed in range(120))
    assert outside <= binom.isf(1e-5, 120, 0.01)


def test_the_distribution_of_a_sum_of_equal_bernoulli_variables_is_binomial() -> None:
    np.testing.assert_allclose(bernoulli_sum(np.full(50, 0.3)), binom.pmf(np.arange(51), 50, 0.3), rtol=1e-10)


def test_the_distribution_of_a_sum_of_two() -> None:
    np.testing.assert_allclose(bernoulli_sum(np.array([0.2, 0.7])), [0.24, 0.62, 0.14])


def test_scaling_finds_temperature_and_biases_and_undoes_them() -> None:
    """Within 4.5 of its own standard errors."""
    logits, labels = judged_rows(8000, 3, 5)
    wrong = 2.0 * (logits - np.array([0.0, 0.5, -0.5]))
    found = Scaling.of(wrong, labels)
    errors = np.sqrt(np.diag(found.covariance))
    assert (np.abs(found.numbers - [0.5, 0.5, -0.5]) < 4.5 * errors).all()
    assert mean_log_score(found(wrong), labels) > mean_log_score(wrong, labels) + 0.05
    alone = Scaling.of(wrong, labels, biases=False)
    np.testing.assert_array_equal(alone.numbers[1:], 0)


def test_scaling_of_separated_classes_stays_finite() -> None:
    labels = np.tile([0, 1], 100)
    found = Scaling.of(10.0 * np.eye(2)[labels], labels)
    assert np.isfinite(found.numbers).all()
    assert check_classes(10.0 * np.eye(2)[labels], labels).level == "trust"
