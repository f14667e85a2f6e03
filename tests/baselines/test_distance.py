"""The distance: units, what is left out, and large blocks."""

from __future__ import annotations

import numpy as np
import pytest

from sbi_flows.baselines.distance import Distance, spreads


def test_the_unit_is_the_median_absolute_deviation_or_the_mean_where_that_is_zero() -> None:
    rare = np.zeros(1000)
    rare[:10] = 5.0
    columns = np.column_stack([np.arange(1000.0), rare, np.ones(1000)])
    assert spreads(columns) == pytest.approx([250, 0.05, np.inf])
    assert Distance.of(columns, np.zeros(3)).used.tolist() == [True, True, False]


@pytest.mark.parametrize("n", [1, 63, 8192, 20_001])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_the_length_of_the_scaled_offsets_in_blocks_of_any_size(n: int, dtype: type) -> None:
    rng = np.random.default_rng(1)
    summaries = (1e6 + rng.standard_normal((n, 5)) * [1, 10, 100, 1e3, 1e-3]).astype(dtype)
    distance = Distance(np.full(5, 1e6), np.array([1, 10, 100, 1e3, np.inf]))
    wanted = np.linalg.norm(distance.offsets(summaries.astype(np.float64)), axis=1)
    assert distance.offsets(summaries).shape == (n, 4)
    assert distance(summaries) == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_a_summary_that_is_not_finite_is_infinitely_far_also_one_that_is_left_out() -> None:
    distance = Distance(np.zeros(2), np.array([1.0, np.inf]))
    rows = np.array([[0.0, 0], [np.nan, 0], [np.inf, 0], [0, np.nan], [1e300, 0]])
    assert np.isinf(distance(rows)).tolist() == [False, True, True, True, True]


def test_units_of_a_generation_replace_those_of_the_prior_but_where_nothing_varies() -> None:
    rng = np.random.default_rng(1)
    first = Distance.of(rng.standard_normal((4000, 2)) * [10, 1], np.zeros(2))
    later = first.rescaled(np.column_stack([rng.standard_normal(4000), np.zeros(4000)]))
    assert later.scales[0] == pytest.approx(first.scales[0] / 10, rel=0.1)
    assert later.scales[1] == first.scales[1]


def test_squares_may_leave_floating_point_before_they_are_scaled() -> None:
    for size in (1e-200, 1e200):
        rows = size * np.array([[3.0, 4.0], [0.0, 1.0]])
        assert Distance(np.zeros(2), np.full(2, size))(rows) == pytest.approx([5, 1])
    left_out = Distance(np.zeros(2), np.array([1.0, np.inf]))
    assert left_out(np.array([[2.0, 1e200]])) == pytest.approx([2])
