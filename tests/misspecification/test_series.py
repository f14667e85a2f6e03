"""Statistics of a series: a run, a trend and a spike are found where they are."""

from __future__ import annotations

import numpy as np

from sbi_flows.misspecification.series import _runs, series_statistics


def test_the_two_longest_runs_are_found_wherever_they_are() -> None:
    same = np.array(
        [[1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 0, 1]], dtype=bool
    )
    longest, second = _runs(same)
    assert longest.tolist() == [3, 0, 6, 1]
    assert second.tolist() == [2, 0, 0, 1]


def test_constant_series_and_several_channels_have_finite_statistics() -> None:
    rng = np.random.default_rng(0)
    u = np.concatenate([np.zeros((1, 40, 2)), rng.standard_normal((5, 40, 2))])
    found = series_statistics(u)
    assert np.isfinite(found).all()
    assert np.array_equal(found[:, : found.shape[1] // 2], series_statistics(u[..., :1]))


def test_a_stuck_series_changes_what_it_should() -> None:
    rng = np.random.default_rng(0)
    u = rng.standard_normal((1, 100, 1))
    stuck = u.copy()
    stuck[0, 40:60] = stuck[0, 40]
    before, after = series_statistics(u)[0], series_statistics(stuck)[0]
    assert (np.abs(after - before) > 1).sum() >= 2
