"""Statistics of a series: a run, a trend and a spike are found where they are, noise of the measurement is
told from noise of the process, and all are finite for any series.
"""

from __future__ import annotations

import numpy as np

from sbi_flows.misspecification.features import _runs, dynamics_statistics, series_statistics

_UNDONE = 8


def test_constant_short_and_several_channels_have_finite_statistics_of_a_row_each() -> None:
    rng = np.random.default_rng(0)
    u = np.concatenate(
        [np.zeros((1, 16, 2)), np.eye(16)[:1, :, None] * [[[1.0, 2.0]]], rng.standard_normal((4, 16, 2))]
    )
    found = dynamics_statistics(u)
    assert np.isfinite(found).all()
    assert np.allclose(found[:, : found.shape[1] // 2], dynamics_statistics(u[..., :1]))
    assert np.allclose(found[2:3], dynamics_statistics(u[2:3]))


def test_an_error_of_measurement_is_undone_at_the_next_step_and_one_of_the_process_is_not() -> None:
    """AR(1), rho = 0.9, 400 series of 200 steps: the correlation of e_{t+1} with f'(z_t) e_t is near 0, with
    noise added below -0.1.
    """
    rng = np.random.default_rng(1)
    z = np.zeros((400, 200))
    for t in range(1, 200):
        z[:, t] = 0.9 * z[:, t - 1] + rng.standard_normal(400)
    process = dynamics_statistics(z[..., None])[:, _UNDONE]
    measured = dynamics_statistics((z + rng.standard_normal(z.shape))[..., None])[:, _UNDONE]
    assert abs(process.mean()) < 0.05
    assert measured.mean() < -0.1


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
