"""Simultaneous bands: the level is as stated, the p-value is uniform, and the recursion is exact."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom

from sbi_flows.diagnostics.bands import _chance_inside, ecdf_band, ecdf_p_value, grid, largest_gap


def test_the_chance_of_a_path_is_that_of_counting_all_paths() -> None:
    """Four ranks at the points 1/4, 1/2, 3/4: all 4^4 ways to fall into the four cells."""
    low, high = np.array([0, 1, 2]), np.array([2, 3, 4])
    inside = [
        all(low[k] <= sum(cell <= k for cell in cells) <= high[k] for k in range(3))
        for cells in product(range(4), repeat=4)
    ]
    assert _chance_inside(low, high, 4) == pytest.approx(np.mean(inside), abs=1e-12)


@pytest.mark.parametrize("m", [50, 1000])
def test_a_band_holds_the_whole_curve_as_often_as_it_says(m: int) -> None:
    """4,000 uniform samples; binomial limits at a false-alarm rate of 1e-5. The exact level is at least the
    one asked for.
    """
    low, high = ecdf_band(m, 0.95)
    ranks = np.sort(np.random.default_rng(0).random((4000, m)), axis=1)
    shares = np.stack([np.searchsorted(row, grid(m), side="right") / m for row in ranks])
    inside = ((low <= shares) & (shares <= high)).all(axis=1).sum()
    assert binom.ppf(5e-6, 4000, 0.95) <= inside <= binom.isf(5e-6, 4000, 0.965)


def test_the_p_value_is_uniform() -> None:
    """P(p <= a) <= a, and close to it: 1,000 samples of 300 ranks, binomial limits at 1e-5."""
    rng = np.random.default_rng(1)
    found = np.array([ecdf_p_value(rng.random(300)) for _ in range(1000)])
    for level in (0.01, 0.1, 0.5):
        assert binom.ppf(5e-6, 1000, 0.85 * level) <= (found <= level).sum() <= binom.isf(5e-6, 1000, level)


def test_far_outside_the_p_value_is_small_and_never_negative() -> None:
    assert 0 <= ecdf_p_value(np.random.default_rng(0).random(1000) ** 3) < 1e-50
    assert largest_gap(np.full(1000, 0.999)) == pytest.approx(0.99)
