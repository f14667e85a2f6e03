"""Mappings and missing values on every road: in memory, in banks, by workers, with a time limit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.errors import BankMismatchError, SbiFlowsError

from .models import PRIOR, same, simulate

pytestmark = pytest.mark.filterwarnings("ignore::sbi_flows.errors.SimulationWarning")
DATA = {"counts": sf.Series(channels=("young", "adults")), "effort": sf.Vector()}


def tables(theta: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A series with gaps, and a number; for one draw or for n."""
    a, b = np.asarray(theta["a"]), np.asarray(theta["b"])
    counts = rng.poisson(5 * a[..., None, None], (*a.shape, 6, 2)).astype(np.float64)
    counts[rng.random(counts.shape) < 0.2] = np.nan
    return {"effort": b + rng.standard_normal(a.shape), "counts": counts}


def make(kind: str, data: Any = DATA) -> sf.Simulator:
    return sf.Simulator(tables, PRIOR, vectorized=kind == "vectorised", data=data, missing=True)


each_kind = pytest.mark.parametrize(("kind", "n"), [("vectorised", 2500), ("single", 60)])


def check_same(one: sf.Simulations, other: sf.Simulations) -> None:
    assert one.flat_y.tobytes() == other.flat_y.tobytes()
    assert one.theta.tobytes() == other.theta.tobytes()
    assert one.events == other.events
    assert (one.status == other.status).all()


@each_kind
def test_missing_values_are_no_failures_and_y_is_a_mapping(kind: str, n: int) -> None:
    made = simulate(make(kind), n, seed=5)
    assert made.ok.all()
    assert made.y["counts"].shape == (n, 6, 2)
    assert made.y["effort"].shape == (n,)
    share = np.isnan(made.y["counts"]).mean()
    assert abs(share - 0.2) < 4 * np.sqrt(0.16 / (12 * n))
    assert not np.isnan(made.y["effort"]).any()
    assert "counts (6, 2), series; effort ()" in repr(made)


@each_kind
def test_a_bank_gives_the_bytes_of_memory_and_knows_what_y_is(kind: str, n: int, tmp_path: Path) -> None:
    whole = simulate(make(kind), n, seed=5)
    simulate(make(kind), n // 2, seed=5, store=tmp_path / "a.bank")
    extended = simulate(make(kind), n, seed=5, store=tmp_path / "a.bank")
    check_same(extended, whole)
    for shard in sorted((tmp_path / "a.bank").rglob("*.safetensors"))[::2]:
        shard.unlink()
    check_same(simulate(make(kind), n, seed=5, store=tmp_path / "a.bank"), whole)
    read = sf.read_bank(tmp_path / "a.bank")
    assert read.events == whole.events
    np.testing.assert_array_equal(read.flat_y[:n], whole.flat_y)
    np.testing.assert_array_equal(read.y["counts"][:n], whole.y["counts"])
    rows = np.array([n - 1, 3, 0])
    np.testing.assert_array_equal(read.gather(rows)[1], whole.flat_y[rows])


def test_a_bank_of_other_arrays_is_refused(tmp_path: Path) -> None:
    simulate(make("vectorised"), 100, seed=5, store=tmp_path / "a.bank")
    other = sf.Simulator(lambda theta, rng: rng.random((len(theta["a"]), 13)), PRIOR, missing=True)
    other.name = "tables"
    with pytest.raises(SbiFlowsError):
        simulate(other, 100, seed=5, store=tmp_path / "a.bank")
    swapped = make("vectorised", dict(reversed(DATA.items())))
    with pytest.raises(BankMismatchError):
        simulate(swapped, 100, seed=5, store=tmp_path / "a.bank")


@each_kind
def test_two_workers_give_the_bytes_of_one(kind: str, n: int, tmp_path: Path) -> None:
    whole = simulate(make(kind), n, seed=5)
    check_same(simulate(make(kind), n, seed=5, workers=2), whole)


def test_a_time_limit_gives_the_same_bytes_and_costs_the_rows_that_hang() -> None:
    whole = simulate(make("single"), 40, seed=5)
    check_same(simulate(make("single"), 40, seed=5, time_limit=20.0), whole)

    def hangs(theta: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
        if theta["b"] < -1.9:
            time.sleep(60)
        return tables(theta, rng)

    slow = sf.Simulator(hangs, PRIOR, vectorized=False, data=DATA, missing=True)
    made = simulate(slow, 40, seed=5, time_limit=5.0)
    late = made.theta[:, 1] < -1.9
    assert late.any()
    assert ((made.status == "timeout") == late).all()
    assert np.isnan(made.flat_y[late]).all()
    assert made.flat_y[~late].tobytes() == whole.flat_y[~late].tobytes()


def test_rows_that_fail_are_missing_in_every_array() -> None:
    def fails(theta: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
        if theta["b"] < -1:
            raise FloatingPointError("too small")
        return tables(theta, rng)

    made = simulate(sf.Simulator(fails, PRIOR, vectorized=False, data=DATA, missing=True), 60, seed=5)
    bad = made.theta[:, 1] < -1
    assert ((made.status == "raised") == bad).all()
    assert bad.any()
    for part in made.y.values():
        assert np.isnan(part[bad]).all()
    assert made.usable()[1].shape == (int((~bad).sum()), 13)


def test_pairs_given_as_mappings_are_the_bytes_of_simulate() -> None:
    whole = simulate(make("vectorised"), 300, seed=5)
    for y in (whole.y, {name: part.tolist() for name, part in reversed(whole.y.items())}):
        given = sf.Simulations.from_arrays(PRIOR, whole.theta, y, data=DATA, missing=True)
        check_same(given, whole)
    gone = np.where(np.arange(300)[:, None, None] == 7, np.nan, whole.y["counts"])
    effort = np.where(np.arange(300) == 7, np.nan, whole.y["effort"])
    empty = sf.Simulations.from_arrays(
        PRIOR, whole.theta, {"counts": gone, "effort": effort}, data=DATA, missing=True
    )
    assert np.flatnonzero(~empty.ok).tolist() == [7]
    complete = sf.Simulations.from_arrays(PRIOR, whole.theta, whole.y, data=DATA)
    assert complete.ok.sum() == (~np.isnan(whole.flat_y).any(axis=1)).sum()


def test_pairs_of_unequal_lengths_are_filled_up_where_values_may_be_missing() -> None:
    theta = PRIOR.sample(20, np.random.default_rng(0))
    y = [np.arange(float(2 + i % 4)) for i in range(20)]
    made = sf.Simulations.from_arrays(PRIOR, theta, y, data=sf.Series(), missing=True)
    assert made.y.shape == (20, 5)
    assert ((~np.isnan(made.y)).sum(axis=1) == [len(one) for one in y]).all()
    with pytest.raises(SbiFlowsError, match="missing=True"):
        sf.Simulations.from_arrays(PRIOR, theta, y)


def test_a_mapping_goes_to_xarray_by_name() -> None:
    found = simulate(make("vectorised"), 50, seed=5).to_xarray()
    assert found["counts"].shape == (50, 6, 2)
    assert found["effort"].shape == (50,)


def test_replicates_in_a_bank(tmp_path: Path) -> None:
    one = sf.Simulator(lambda theta, rng: theta["a"] + rng.standard_normal(len(theta["a"])), PRIOR)
    plots = sf.replicates(one, 1, 4)
    simulate(plots, 200, seed=5, store=tmp_path / "a.bank")
    read = sf.read_bank(tmp_path / "a.bank")
    assert read.events == plots.events
    assert same(read, simulate(plots, 200, seed=5), rows=200)
