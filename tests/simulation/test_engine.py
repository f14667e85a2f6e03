"""The engine: the same bytes on any road."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm, uniform

import sbi_flows as sf
from sbi_flows.errors import SettingsError, ShapeError
from sbi_flows.machine import usable_cores
from sbi_flows.rng import block_stream

from .models import PRIOR, F, make, same, simulate

ROADS = [("vectorised", 1500, 3200), ("single", 50, 130)]
pytestmark = pytest.mark.filterwarnings("ignore::sbi_flows.errors.SimulationWarning")
each_road = pytest.mark.parametrize(("kind", "few", "many"), ROADS)


class LastFirst(Executor):
    """Runs what is submitted only when it is asked for, the last first."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: fn(*args, **kwargs)))
        if len(self.waiting) > 2:
            self.run()
        return future

    def run(self) -> None:
        while self.waiting:
            future, work = self.waiting.pop()
            future.set_result(work())


@each_road
def test_threads_give_the_bytes_of_one_process(kind: str, few: int, many: int) -> None:
    with ThreadPoolExecutor(3) as executor:
        assert same(simulate(make(kind), many, seed=5, executor=executor), simulate(make(kind), many, seed=5))


@pytest.mark.parametrize(("kind", "n"), [("vectorised", 3000), ("single", 60)])
def test_the_order_in_which_blocks_finish_does_not_matter(kind: str, n: int) -> None:
    assert same(simulate(make(kind), n, seed=5, executor=LastFirst()), simulate(make(kind), n, seed=5))


@each_road
def test_more_simulations_continue_the_same_rows(kind: str, few: int, many: int) -> None:
    assert same(simulate(make(kind), few, seed=5), simulate(make(kind), many, seed=5), rows=few)


@each_road
def test_a_bank_that_was_interrupted_extended_or_full_gives_the_bytes_of_one_run(
    kind: str, few: int, many: int, tmp_path: Path
) -> None:
    whole = simulate(make(kind), many, seed=5)
    assert same(simulate(make(kind), few, seed=5, store=tmp_path / "a"), whole, rows=few)
    assert same(simulate(make(kind), many, seed=5, store=tmp_path / "a"), whole)
    for shard in sorted((tmp_path / "a").rglob("*.safetensors"))[::2]:
        shard.unlink()
    with ThreadPoolExecutor(3) as executor:
        assert same(simulate(make(kind), many, seed=5, store=tmp_path / "a", executor=executor), whole)
    assert same(simulate(make(kind), many, seed=5, store=tmp_path / "a"), whole)
    assert same(simulate(make(kind), few, seed=5, store=tmp_path / "a"), whole, rows=few)


def test_theta_of_block_k_comes_from_the_stream_of_block_k() -> None:
    sims = simulate(make("vectorised"), 3000, seed=5)
    for k in range(3):
        assert (
            sims.theta[1000 * k : 1000 * (k + 1)].tobytes()
            == PRIOR.sample(1000, block_stream(5, k)).tobytes()
        )


@pytest.mark.parametrize(("kind", "n"), [("vectorised", 5000), ("single", 2000)])
def test_pairs_follow_the_joint_distribution(kind: str, n: int) -> None:
    """(y - a)/b is standard normal, whatever theta, and a uniform: Kolmogorov-Smirnov, false alarm rate 1e-5
    each.
    """
    sims = simulate(make(kind), n, seed=6)
    noise = (sims.y - sims.theta[:, :1]) / sims.theta[:, 1:]
    assert kstest(noise.ravel(), norm.cdf).pvalue > 1e-5
    assert kstest(sims.theta[:, 0], "uniform").pvalue > 1e-5
    assert len(np.unique(noise)) == noise.size


@pytest.mark.parametrize("kind", ["vectorised", "single"])
def test_another_seed_gives_other_rows(kind: str) -> None:
    one, other = simulate(make(kind), 40, seed=1), simulate(make(kind), 40, seed=2)
    assert not np.isin(one.theta, other.theta).any()
    assert not np.isin(one.y, other.y).any()


@pytest.mark.parametrize("kind", ["vectorised", "single"])
def test_global_generators_are_neither_read_nor_moved(kind: str) -> None:
    numpy_state, torch_state = str(np.random.get_state()), torch.get_rng_state()
    one = simulate(make(kind), 40, seed=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        other = simulate(make(kind), 40, seed=1)
    assert same(one, other)
    assert str(np.random.get_state()) == numpy_state
    assert torch.equal(torch.get_rng_state(), torch_state)


@pytest.mark.parametrize("n", [7, np.int64(7), np.uint8(7), np.uint64(7)])
def test_any_positive_integer_is_a_number_of_simulations(n: Any) -> None:
    assert len(simulate(make("vectorised"), n)) == 7


@pytest.mark.parametrize("n", [0, -1, 1.5, "7", None, True])
def test_anything_else_is_not(n: Any) -> None:
    with pytest.raises(SettingsError, match="n must be"):
        simulate(make("vectorised"), n)


def test_a_bad_seed_and_a_plain_function_are_refused() -> None:
    with pytest.raises(SettingsError, match="seed"):
        simulate(make("vectorised"), 10, seed=-1)
    with pytest.raises(SettingsError, match="@sf.simulator"):
        simulate(lambda theta, rng: theta, 10)  # type: ignore[arg-type]


@each_road
def test_progress_rises_to_n(kind: str, few: int, many: int) -> None:
    seen: list[tuple[int, int]] = []
    simulate(make(kind), many, progress=lambda done, n: seen.append((done, n)))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (many, many)


def test_an_interrupt_keeps_the_finished_blocks_and_the_same_call_resumes(tmp_path: Path) -> None:
    def interrupt(done: int, n: int) -> None:
        if done >= 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(make("single"), 200, seed=5, store=tmp_path / "bank", progress=interrupt)
    assert len(sf.read_bank(tmp_path / "bank")) in (60, 80, 100)
    assert same(
        simulate(make("single"), 200, seed=5, store=tmp_path / "bank"), simulate(make("single"), 200, seed=5)
    )


def test_finished_blocks_are_not_simulated_again(tmp_path: Path) -> None:
    runs: Iterator[int] = iter(range(10**6))

    def count(theta: Any, y: F) -> F:
        next(runs)
        return y

    simulate(make("single", count, event_shape=(3,)), 100, store=tmp_path / "bank")
    before = next(runs)
    simulate(make("single", count, event_shape=(3,)), 120, store=tmp_path / "bank")
    stored_rows_made_again = next(runs) - before - 1 - 20
    assert 1 <= stored_rows_made_again <= 101


@pytest.mark.parametrize(
    "options",
    [
        {"executor": 5},
        {"executor": "dask"},
        {"executor": ThreadPoolExecutor},
        {"workers": 0},
        {"workers": True},
        {"workers": 2.0},
        {"time_limit": -1},
        {"time_limit": "10"},
        {"time_limit": True},
        {"time_limit": float("nan")},
        {"time_limit": 1e12},
        {"max_failures": "0.5"},
        {"max_failures": None},
        {"max_failures": True},
        {"settings": {}},
        {"store": 5},
        {"store": ""},
        {"store": "a\0b"},
        {"progress": 3},
    ],
    ids=str,
)
def test_options_that_cannot_be_used_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="bank" if "store" in options else next(iter(options))):
        sf.simulate(make("vectorised"), 10, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"block_size": 0},
        {"block_size": 10**12},
        {"block_size": 2.0},
        {"tries": 0},
        {"isolate": 0},
        {"warn_failures": True},
    ],
    ids=str,
)
def test_settings_that_cannot_be_used_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(options))):
        sf.SimulateSettings(**options)


def test_cores_are_counted_within_the_limit_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    most = usable_cores()
    assert 1 <= most <= (os.cpu_count() or 1)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert usable_cores() == 1
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "4096")
    assert usable_cores() == most


def test_simulations_know_their_names_shapes_and_origin() -> None:
    sims = simulate(make("vectorised"), 30, seed=4)
    assert repr(sims) == "Simulations(30 of 'model': theta (a, b), y (3,); 30 ok)"
    assert (len(sims), sims.names, sims.event_shape, sims.seed, sims.simulator_name) == (
        30,
        ("a", "b"),
        (3,),
        4,
        "model",
    )
    sims.check_matches(PRIOR, (3,))
    with pytest.raises(ShapeError, match=r"'model'.*\('a', 'b'\).*\(3,\).*\('a',\)"):
        sims.check_matches(sf.Prior(a=uniform(0, 1)), (3,))
    with pytest.raises(ShapeError, match=r"\(4,\)"):
        sims.check_matches(PRIOR, (4,))
