"""What becomes of rows that fail: a status, a cause, and the others as if nothing had happened."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

import sbi_flows as sf
from sbi_flows.errors import SimulationWarning, SimulatorContractError, TooManyFailuresError
from sbi_flows.rng import block_stream

from .models import PRIOR, F, make, simulate

pytestmark = pytest.mark.filterwarnings("ignore::sbi_flows.errors.SimulationWarning")


def negative_b(theta: Any, y: F) -> F:
    return np.where(np.asarray(theta["b"])[..., None] < -1, np.inf, y)


@pytest.mark.parametrize(("kind", "n"), [("vectorised", 1500), ("single", 150)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_are_not_finite_are_marked_and_the_others_are_as_without_them(
    kind: str, n: int, dtype: type
) -> None:
    sims, healthy = (
        simulate(make(kind, negative_b, dtype), n, seed=5),
        simulate(make(kind, dtype=dtype), n, seed=5),
    )
    bad = healthy.theta[:, 1] < -1
    assert ((sims.status == "nonfinite") == bad).all()
    assert sims.y[~bad].tobytes() == healthy.y[~bad].tobytes()
    assert sims.counts() == {"ok": int((~bad).sum()), "nonfinite": int(bad.sum())}
    assert all(
        bad[failure.row] and failure.block == failure.row // sims.block_size for failure in sims.records
    )


def raise_for_some(theta: Any, y: F) -> F:
    if theta["b"] < -1:
        raise FloatingPointError(f"b is {theta['b']:.3f}")
    return y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_single_draw_that_raises_is_marked_and_the_others_are_as_without_it(dtype: type) -> None:
    sims, healthy = (
        simulate(make("single", raise_for_some, dtype), 150, seed=5),
        simulate(make("single", dtype=dtype), 150, seed=5),
    )
    bad = healthy.theta[:, 1] < -1
    assert bad.any()
    assert ((sims.status == "raised") == bad).all()
    assert np.isnan(sims.y[bad]).all()
    assert sims.y.dtype == healthy.y.dtype
    assert sims.y[~bad].tobytes() == healthy.y[~bad].tobytes()
    assert sims.theta.tobytes() == healthy.theta.tobytes()


def test_each_single_draw_has_a_stream_of_its_own_however_much_the_others_use() -> None:
    @sf.simulator(PRIOR, vectorized=False, event_shape=(1,))
    def thirsty(theta: dict[str, float], rng: np.random.Generator) -> F:
        if theta["b"] < -1:
            raise ValueError("before any random number")
        return rng.standard_normal(int(100 * theta["a"]) + 1)[-1:]

    sims = simulate(thirsty, 50, seed=5)
    for row in np.flatnonzero(sims.ok).tolist():
        alone = thirsty.run(sims.theta[row : row + 1], block_stream(5, row // 1000, row % 1000))
        assert sims.y[row].tobytes() == alone.tobytes()
    assert 0 < sims.ok.sum() < 50


def test_a_failure_is_recorded_with_its_row_its_cause_and_its_traceback() -> None:
    sims = simulate(make("single", raise_for_some), 150, seed=5)
    bad = np.flatnonzero(~sims.ok).tolist()
    kept = [
        row for start in range(0, 150, 20) for row in [row for row in bad if start <= row < start + 20][:3]
    ]
    assert [failure.row for failure in sims.records] == kept
    for failure in sims.records:
        assert failure.cause == f"FloatingPointError: b is {sims.theta[failure.row, 1]:.3f}"
        assert "in raise_for_some" in failure.traceback
        assert (failure.block, failure.status) == (failure.row // 20, "raised")
        assert list(failure.theta.values()) == sims.theta[failure.row].tolist()


def test_a_row_that_makes_a_vectorised_simulator_raise_is_lost_alone() -> None:
    first = PRIOR.sample(1000, block_stream(5, 1))[0, 0]

    def second_block(theta: Any, y: F) -> F:
        if first in theta["a"]:
            raise OverflowError("too large")
        return y

    sims = simulate(make("vectorised", second_block, np.float32), 3000, seed=5)
    healthy = simulate(make("vectorised", dtype=np.float32), 3000, seed=5)
    assert sims.counts() == {"ok": 2999, "raised": 1}
    assert sims.status[1000] == "raised"
    assert sims.y.dtype == np.float32
    others = np.r_[0:1000, 2000:3000]
    assert sims.y[others].tobytes() == healthy.y[others].tobytes()
    assert np.isfinite(sims.y[1001:2000]).all()
    assert [(failure.row, failure.cause) for failure in sims.records] == [(1000, "OverflowError: too large")]


def test_bad_rows_are_left_out_only_in_words() -> None:
    sims = simulate(make("single", raise_for_some), 150, seed=5)
    theta, y = sims.usable()
    assert len(theta) == len(y) == sims.ok.sum() < 150
    assert (
        f"{150 - len(theta)} of 150 simulations failed ({150 - len(theta)} raised) and are left out"
        in sims.failure_text()
    )
    assert sims.records[0].cause in sims.failure_text()
    assert simulate(make("single"), 20).failure_text() == ""


def test_too_many_failures_stop_the_run_with_count_and_cause() -> None:
    """P(b < -1) = 16%: far above 1% and below 50% of the first 200 rows."""
    with pytest.raises(TooManyFailuresError, match=r"of the first 200 .*max_failures=0.01.*in row"):
        simulate(make("single", raise_for_some), 1000, seed=5, max_failures=0.01)
    assert len(simulate(make("single", raise_for_some), 300, seed=5, max_failures=0.5)) == 300


@pytest.mark.parametrize("n", [50, 400])
def test_repeating_a_call_on_a_bank_stops_again_for_the_same_reason(n: int, tmp_path: Path) -> None:
    def always(theta: Any, y: F) -> F:
        raise KeyError("c")

    for _ in range(2):
        with pytest.raises(TooManyFailuresError, match="KeyError: 'c'"):
            simulate(make("vectorised", always, event_shape=(3,)), n, store=tmp_path / "bank")


def test_a_simulator_that_always_raises_stops_at_once_even_with_its_shape_unknown() -> None:
    def always(theta: Any, y: F) -> F:
        raise KeyError("c")

    with pytest.raises(TooManyFailuresError, match="KeyError: 'c'"):
        simulate(make("single", always), 100_000)


def test_an_undeclared_shape_is_no_trouble_where_some_draws_raise() -> None:
    def mostly(theta: Any, y: F) -> F:
        if theta["a"] < 0.7:
            raise ValueError("a is too small")
        return y

    sims = simulate(make("single", mostly), 100, max_failures=0.99)
    assert sims.event_shape == (3,)
    assert ((sims.status == "raised") == (sims.theta[:, 0] < 0.7)).all()


@pytest.mark.parametrize(
    "trouble",
    [
        lambda theta, y: y[:1],
        lambda theta, y: y.T,
        lambda theta, y: y.astype(object),
        lambda theta, y: y.astype(str),
        lambda theta, y: None,
        lambda theta, y: y[:, : len(y)],
    ],
    ids=["one row", "transposed", "object", "text", "nothing", "as long as the batch"],
)
def test_a_broken_contract_stops_before_anything_runs(
    trouble: Callable[[Any, F], Any], tmp_path: Path
) -> None:
    with pytest.raises(SimulatorContractError, match="model: "):
        simulate(make("vectorised", trouble), 3000, store=tmp_path / "bank")
    assert not (tmp_path / "bank").exists()


def test_writing_to_theta_is_stopped_and_said() -> None:
    def write(theta: Any, y: F) -> F:
        theta["a"][:] = 0
        return y

    with pytest.raises(SimulatorContractError, match="read-only.*copy"):
        simulate(make("vectorised", write, event_shape=(3,)), 10)


def test_a_wrong_shape_later_is_recorded_row_by_row_and_the_run_goes_on(tmp_path: Path) -> None:
    """Rows that fail at random are left out by the simulator itself, so that a block comes back too short:
    the others are not lost.
    """

    def drop(theta: Any, y: F) -> F:
        return y[theta["b"] > -3]

    sims = simulate(make("vectorised", drop), 4000, seed=5, store=tmp_path / "bank")
    bad = sims.theta[:, 1] <= -3
    assert bad.any()
    assert ((sims.status == "shape") == bad).all()
    assert "returned shape (0, 3) for 1 rows of theta" in sims.records[0].cause
    assert sims.failures().table["cause"].tolist() == [
        "model: returned shape (0, 3) for 1 rows of theta; wanted (1, 3). A simulator that handles one draw "
        "at a time is declared with vectorized=False."
    ]


def test_a_single_draw_of_another_shape_is_recorded() -> None:
    sims = simulate(make("single", lambda theta, y: y[:2] if theta["b"] < -1.5 else y), 150, seed=5)
    bad = sims.theta[:, 1] < -1.5
    assert bad.any()
    assert ((sims.status == "shape") == bad).all()


def test_failures_are_counted_by_cause_and_placed_in_theta() -> None:
    sims = simulate(make("single", raise_for_some), 150, seed=5)
    bad = ~sims.ok
    failures = sims.failures()
    assert len(failures) == bad.sum()
    assert failures.n == 150
    assert failures.table.to_dict("records") == [
        {"status": "raised", "cause": "FloatingPointError: b is #", "count": bad.sum(), "share": bad.mean()}
    ]
    for name, column in zip(sims.names, sims.theta.T, strict=True):
        shares = [bad[places].mean() for places in np.array_split(np.argsort(column), 5)]
        assert failures.where.loc[name].tolist() == pytest.approx(shares)
    assert failures.where.loc["b"].iloc[0] > 0.7
    assert failures.where.loc["b"].iloc[2:].max() == 0
    assert failures.records == sims.records
    assert all(
        word in str(failures)
        for word in ("22 of 150", "FloatingPointError: b is #", "lowest fifth", "truncates the prior")
    )


def test_where_nothing_failed_it_says_so() -> None:
    failures = simulate(make("vectorised"), 50).failures()
    assert not failures
    assert len(failures) == 0
    assert str(failures) == "none of 50 simulations failed"
    assert list(failures.table.columns) == ["status", "cause", "count", "share"]


@pytest.mark.parametrize("kind", ["vectorised", "single"])
def test_failures_of_a_bank_are_those_of_memory(kind: str, tmp_path: Path) -> None:
    model = make(kind, negative_b)
    here, there = simulate(model, 70, seed=5), simulate(model, 70, seed=5, store=tmp_path / "bank")
    assert there.failures().table.equals(here.failures().table)
    assert there.failures().where.equals(here.failures().where)
    assert there.records == here.records


def test_many_failures_warn_and_few_do_not() -> None:
    model = make("single", raise_for_some)
    with pytest.warns(SimulationWarning, match="22 of 150"):
        simulate(model, 150, seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sf.simulate(model, 150, seed=5, settings=sf.SimulateSettings(warn_failures=0.2))


def test_a_vectorised_simulator_whose_rows_run_alone_is_said_to_be_slow() -> None:
    def only_small(theta: Any, y: F) -> F:
        if len(y) > 100:
            raise MemoryError("too many at once")
        return y

    with pytest.warns(SimulationWarning, match="2 of 2 blocks.*MemoryError: too many at once"):
        assert simulate(make("vectorised", only_small), 2000).ok.all()


def test_to_xarray_keeps_names_status_and_origin(tmp_path: Path) -> None:
    import xarray as xr

    sims = simulate(make("single", raise_for_some), 60, seed=5)
    sims.to_xarray().to_netcdf(tmp_path / "sims.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "sims.nc", engine="h5netcdf") as back:
        assert back["theta"].sel(parameter="b").values.tolist() == sims.theta[:, 1].tolist()
        assert np.array_equal(back["y"].values, sims.y, equal_nan=True)
        assert back["y"].dims == ("simulation", "y_dim_0")
        assert back["status"].values.tolist() == sims.status.tolist()
        assert (back.attrs["simulator"], back.attrs["seed"]) == ("model", 5)


@pytest.mark.parametrize("kind", ["vectorised", "single"])
def test_gather_and_read_block_give_parts_of_the_whole(kind: str, tmp_path: Path) -> None:
    whole = simulate(make(kind, negative_b), 70, seed=5)
    for sims in (whole, simulate(make(kind, negative_b), 70, seed=5, store=tmp_path / "bank")):
        rows = np.array([69, 3, 3, 21, 0])
        theta, y = sims.gather(rows)
        assert np.array_equal(theta, whole.theta[rows])
        assert np.array_equal(y, whole.y[rows], equal_nan=True)
        blocks = [sims.read_block(k) for k in range(sims.n_blocks)]
        assert np.array_equal(np.concatenate([block.theta for block in blocks]), whole.theta)
        assert sum(map(len, blocks)) == 70
        assert sims.n_bytes == whole.theta.nbytes + whole.y.nbytes
        assert [len(part) for part in sims.gather(np.array([], dtype=np.int64))] == [0, 0]


def test_truncation_by_nan_is_told_how_it_is_meant() -> None:
    """An order of parameters imposed by NaN works, and there is a way to write it; what was raised is a
    fault.
    """

    def ordered(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        y = rng.standard_normal((len(theta["a"]), 2))
        return np.where(theta["a"][:, None] < 0.2, np.nan, y)

    model = sf.Simulator(ordered, sf.Prior(a=scipy.stats.uniform(0, 1)))
    sims = sf.simulate(model, 200, max_failures=0.9)
    for text in (sims.failure_text(), str(sims.failures())):
        assert (
            "If the truncation is meant, write the parameter as a function of the earlier ones in sf.Prior"
            in text
        )
    with pytest.raises(TooManyFailuresError, match="If the truncation is meant"):
        sf.simulate(model, 200, max_failures=0.01)
    raised = simulate(make("single", raise_for_some), 150, seed=5)
    assert "is meant" not in raised.failure_text() + str(raised.failures())
