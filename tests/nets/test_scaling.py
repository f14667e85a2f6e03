"""The scaling is chosen from the data, stored as numbers, and applied to the observation as to the
simulations.
"""

from __future__ import annotations

import numpy as np
import pytest

from sbi_flows.errors import SimulatorContractError
from sbi_flows.nets.scaling import COUNTS, HEAVY, LOG, PLAIN, Scaler


def table() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.column_stack(
        [
            rng.standard_normal(5000),
            rng.poisson(40, 5000),
            rng.standard_cauchy(5000),
            rng.integers(0, 2, 5000),
            np.full(5000, 7.0),
            1e9 + rng.standard_normal(5000),
        ]
    )


def test_each_column_gets_its_own_scaling_and_constants_are_dropped_with_a_word() -> None:
    scaler = Scaler.from_data(table(), shared=False)
    assert scaler.code.tolist() == [PLAIN, COUNTS, HEAVY, PLAIN, PLAIN, PLAIN]
    assert scaler.keep.tolist() == [True, True, True, True, False, True]
    assert scaler.out_shape == (5,)
    assert "1 column log1p (counts)" in scaler.describe()
    assert "1 constant column dropped" in scaler.describe()


def test_scaled_columns_have_mean_zero_and_sd_one() -> None:
    scaled = Scaler.from_data(table(), shared=False)(table())
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-6)


def test_float32_output_is_the_rounded_float64_one_even_on_a_large_offset() -> None:
    scaler = Scaler.from_data(table(), shared=False)
    np.testing.assert_array_equal(scaler.in_float32(table()), scaler(table()).astype(np.float32))


def test_a_series_shares_one_scaling_over_time_and_keeps_its_shape() -> None:
    y = np.random.default_rng(0).poisson(5, (300, 40)).astype(np.float32)
    scaler = Scaler.from_data(y, shared=True)
    assert scaler(y).shape == (300, 40, 1)
    assert scaler.code.tolist() == [COUNTS]
    two = np.stack([y, np.full_like(y, 3)], axis=-1)
    assert Scaler.from_data(two, shared=True)(two).shape == (300, 40, 1)


def test_counts_below_zero_stay_finite_and_are_counted() -> None:
    scaler = Scaler.from_data(np.random.default_rng(0).poisson(5, (300, 4)).astype(float), shared=False)
    observed = np.array([-3.0, 2.5, 4.0, 1.0])
    assert np.isfinite(scaler(observed[None])).all()
    assert scaler.unlike(np.array([observed, [3.0, 2.0, 4.0, 1.0]])).tolist() == [[2, 0, 0], [0, 0, 0]]


def test_a_mostly_zero_column_is_scaled_by_something_positive() -> None:
    y = np.zeros((5000, 1))
    y[:20, 0] = np.random.default_rng(0).standard_cauchy(20)
    scaled = Scaler.from_data(y, shared=False)(y)
    assert np.isfinite(scaled).all()


def test_data_that_never_vary_are_refused() -> None:
    with pytest.raises(SimulatorContractError, match="no information"):
        Scaler.from_data(np.ones((100, 3)), shared=False)


def positive() -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.column_stack(
        [
            np.exp(2 * rng.standard_normal(5000)),
            np.exp(0.1 * rng.standard_normal(5000)),
            rng.uniform(0, 1, 5000),
        ]
    )


def test_positive_columns_over_orders_of_magnitude_are_taken_on_the_log_scale() -> None:
    scaler = Scaler.from_data(positive(), shared=False)
    assert scaler.code.tolist() == [LOG, PLAIN, PLAIN]
    assert "1 column log (positive), 2 columns linear" in scaler.describe()
    scaled = scaler(positive())
    np.testing.assert_allclose(
        scaled[:, 0], (np.log(positive()[:, 0]) - scaler.mean[0]) / scaler.sd[0], rtol=1e-12
    )
    with_a_zero = np.concatenate([positive(), [[0.0, 1.0, 0.5]]])
    assert Scaler.from_data(with_a_zero, shared=False).code.tolist() == [HEAVY, PLAIN, PLAIN]
    series = np.exp(2 * np.random.default_rng(2).standard_normal((300, 40)))
    assert Scaler.from_data(series, shared=True).code.tolist() == [LOG]


def test_what_is_below_all_simulations_stays_finite_and_in_order_on_the_log_scale() -> None:
    scaler = Scaler.from_data(positive(), shared=False)
    least = positive()[:, 0].min()
    observed = np.array([-3.0, 0.0, 0.5 * least, least, 2 * least])
    scaled = scaler(np.column_stack([observed, np.ones((5, 2))]))[:, 0]
    assert np.isfinite(scaled).all()
    assert (np.diff(scaled) > 0).all()
    assert scaler.unlike(np.column_stack([observed, np.ones((5, 2))]))[:, 1].tolist() == [1, 1, 0, 0, 0]
    y = np.column_stack([observed, np.ones((5, 2))])
    np.testing.assert_allclose(scaler.powers(scaler.logs(y)), y, rtol=1e-12, atol=1e-15)


def test_values_that_differ_from_what_all_simulations_have_are_counted() -> None:
    scaler = Scaler.from_data(table(), shared=False)
    observed = np.repeat(table()[:1], 3, axis=0)
    observed[1:, 4] = 7.3, 7.0 + 1e-9
    assert scaler.unlike(observed).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    series = np.random.default_rng(0).poisson(5, (300, 40)).astype(float)
    series[:, 0] = 0
    assert Scaler.from_data(series, shared=True).unlike(np.full((1, 40), 5.0)).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("unit", [1e-310, 1e-150, 1e150, 1e307])
def test_sizes_that_cannot_be_computed_with_are_refused_with_the_column(unit: float) -> None:
    y = np.random.default_rng(0).uniform(0.1, 1, (200, 2)) * [1, unit]
    with pytest.raises(
        SimulatorContractError,
        match="column 1 of the simulated data runs from .* Let the simulator give other units",
    ):
        Scaler.from_data(y, shared=False)


def test_rare_events_that_no_simulation_had_are_no_mismatch() -> None:
    rng = np.random.default_rng(3)
    rare = rng.poisson(1 / 1000, (1000, 500)).astype(float)
    scaler = Scaler.from_data(np.column_stack([rng.standard_normal(1000), rare]), shared=False)
    fresh = np.column_stack([rng.standard_normal(200), rng.poisson(1 / 1000, (200, 500))])
    assert scaler.unlike(fresh)[:, 2].sum() == 0


@pytest.mark.parametrize(
    ("dtype", "ends"),
    [(np.int8, (-100, 100)), (np.int16, (-20_000, 20_000)), (np.bool_, (0, 1)), (np.float16, (-1, 1))],
)
def test_small_types_of_numbers_vary_as_they_do(dtype: type, ends: tuple[int, int]) -> None:
    y = np.random.default_rng(4).choice(ends, (300, 2)).astype(dtype)
    scaler = Scaler.from_data(y, shared=False)
    assert scaler.keep.all()
    assert scaler.unlike(y).sum() == 0


def gappy(y: np.ndarray, share: float = 0.3) -> np.ndarray:
    y = y.astype(np.float64)
    y[np.random.default_rng(9).random(y.shape) < share] = np.nan
    return y


def test_missing_values_are_left_out_of_the_choice_and_stay_missing() -> None:
    y = gappy(table())
    scaler, complete = Scaler.from_data(y, shared=False), Scaler.from_data(table(), shared=False)
    assert scaler.code.tolist() == complete.code.tolist()
    assert scaler.keep.tolist() == complete.keep.tolist()
    scaled = scaler(y)
    np.testing.assert_array_equal(np.isnan(scaled), np.isnan(y[:, scaler.keep]))
    np.testing.assert_allclose(np.nanmean(scaled, axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.nanstd(scaled, axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(scaler.in_float32(y), scaled.astype(np.float32))


def test_the_scaling_of_a_column_is_that_of_the_values_that_are_there() -> None:
    y = np.random.default_rng(0).poisson(5, (3000, 2)).astype(float)
    y[1000:, 1] = np.nan
    scaler = Scaler.from_data(y, shared=False)
    alone = Scaler.from_data(y[:1000, 1:], shared=False)
    np.testing.assert_allclose([scaler.mean[1], scaler.sd[1]], [alone.mean[0], alone.sd[0]], rtol=1e-12)


def test_columns_without_a_value_and_constant_ones_with_gaps_are_dropped() -> None:
    y = np.random.default_rng(0).standard_normal((2000, 3))
    y[:, 1] = np.nan
    y[:, 2] = np.where(np.arange(2000) % 2, 7.0, np.nan)
    scaler = Scaler.from_data(y, shared=False)
    assert scaler.keep.tolist() == [True, False, False]
    assert np.isfinite(scaler(y)).all()
    assert scaler.unlike(np.array([[0.0, np.nan, 7.0], [0.0, np.nan, 8.0], [0.0, 1.0, np.nan]])).tolist() == [
        [0, 0, 0],
        [0, 0, 1],
        [0, 0, 0],
    ]


@pytest.mark.parametrize("shared", [False, True])
def test_missing_counts_and_positive_values_are_no_mismatch(shared: bool) -> None:
    rng = np.random.default_rng(0)
    for y in (rng.poisson(5, (3000, 4)), np.exp(2 * rng.standard_normal((3000, 4)))):
        scaler = Scaler.from_data(gappy(y), shared=shared)
        assert set(scaler.code) <= {COUNTS, LOG}
        assert not scaler.unlike(gappy(y)[:200]).any()
        assert scaler.unlike(-y[:1].astype(np.float64) - 0.5).sum() > 0


def test_values_that_are_seen_seldom_are_not_taken_as_fixed() -> None:
    y = np.random.default_rng(0).standard_normal((3000, 2))
    y[:, 1] = np.nan
    y[:5, 1] = 3.0
    assert np.isnan(Scaler.from_data(y, shared=False).fixed[1])


def test_joined_scalings_are_those_of_the_parts() -> None:
    rng = np.random.default_rng(0)
    series, vector = rng.poisson(5, (2000, 6, 2)).astype(float), rng.standard_normal((2000, 3))
    one = Scaler.from_data(series, shared=True)
    other = Scaler.from_data(vector, shared=False)
    both = Scaler.joined([one, other])
    flat = np.concatenate([series.reshape(2000, -1), vector], axis=1)
    wanted = np.concatenate([one(series).reshape(2000, -1), other(vector)], axis=1)
    np.testing.assert_allclose(both(flat), wanted, rtol=1e-12)
    assert both.unlike(-flat[:5]).sum() == one.unlike(-series[:5]).sum() + other.unlike(-vector[:5]).sum()
