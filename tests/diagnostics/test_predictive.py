"""Posterior predictive checks have the stated null distribution; the tail of weights is estimated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, genpareto

from sbi_flows.diagnostics.importance import efficiency, pareto_k
from sbi_flows.diagnostics.predictive import plain_statistics, predictive_check
from sbi_flows.errors import ShapeError


def test_p_of_one_more_draw_is_uniform() -> None:
    """2,000 repeats of 199 draws of 5 dependent statistics: shares below 5% and 50% within binomial limits
    (1e-5).
    """
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((5, 5))
    found = []
    for _ in range(2000):
        rows = np.exp(rng.standard_normal((200, 5)) @ mix * 0.3)
        found.append(predictive_check(rows[0], rows[1:], "abcde").p)
    for level in (0.05, 0.5):
        assert (
            binom.ppf(5e-6, 2000, level) <= (np.array(found) <= level).sum() <= binom.isf(5e-6, 2000, level)
        )


def test_what_is_predicted_badly_is_named() -> None:
    predicted = np.random.default_rng(0).standard_normal((1000, 3))
    found = predictive_check(np.array([0.0, 6.0, 0.1]), predicted, ("mean", "sd", "trend"))
    assert found.worst == "sd"
    assert found.p == pytest.approx(1 / 1001)
    assert found.p_values[0] > 0.5
    assert predictive_check(np.zeros(3), predicted, ("mean", "sd", "trend")).p > 0.9


def test_too_few_finite_predictions_are_refused() -> None:
    with pytest.raises(ShapeError, match="50 finite.*got 10"):
        predictive_check(np.zeros(2), np.vstack([np.zeros((10, 2)), np.full((90, 2), np.nan)]), "ab")


def test_plain_statistics_of_short_and_long_data() -> None:
    names, values = plain_statistics(np.arange(12.0).reshape(4, 3))
    assert names == ("entry 1", "entry 2", "entry 3")
    assert values.shape == (4, 3)
    y = np.zeros((2, 30))
    y[1, 5:15] = 3
    names, values = plain_statistics(y)
    found = dict(zip(names, values.T, strict=True))
    assert found["longest run of equal values"].tolist() == [29, 14]
    assert found["largest jump"].tolist() == [0, 3]
    assert np.isfinite(values).all()


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_the_tail_of_weights_is_found(k: float) -> None:
    """The mean over 20 samples of 4,000 weights, drawn towards 0.5 by 10 of 189 weights."""
    rng = np.random.default_rng(0)
    found = np.mean([pareto_k(np.log(genpareto(k).rvs(4000, random_state=rng))) for _ in range(20)])
    assert found == pytest.approx((189 * k + 5) / 199, abs=0.08)


def test_efficiency_is_one_for_equal_weights_and_the_share_of_those_above_zero() -> None:
    assert efficiency(np.full(100, -800.0)) == pytest.approx(1)
    assert efficiency(np.where(np.arange(100) < 25, 0.0, -np.inf)) == pytest.approx(0.25)
    assert pareto_k(np.zeros(20)) == np.inf
