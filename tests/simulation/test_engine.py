"""The engine: the same bytes on any road, and a status for every row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm, uniform

import sbi_flows as sf
from sbi_flows.errors import SettingsError, ShapeError, SimulatorContractError, TooManyFailuresError
from sbi_flows.rng import block_stream

F = np.ndarray
PRIOR = sf.Prior(a=uniform(0, 1), b=torch.distributions.Normal(0.0, 1.0))
ROADS = [("vectorised", 1500, 3200), ("single", 50, 130)]
pytestmark = pytest.mark.filterwarnings("ignore::sbi_flows.errors.SimulationWarning")
each_road = pytest.mark.parametrize(("kind", "few", "many"), ROADS)


def simulate(simulator: Any, n: Any, **options: Any) -> sf.Simulations:
    """sf.simulate, in blocks of 20 where the simulator runs one draw at a time."""
    if isinstance(simulator, sf.Simulator) and not simulator.vectorized:
        options.setdefault("settings", sf.SimulateSettings(block_size=20))
    return sf.simulate(simulator, n, **options)


def make(kind: str, trouble: Callable[[Any, F], F] = lambda theta, y: y, dtype: type = np.float64, **options: Any) -> sf.Simulator:
    """y_j = a + b e_j, 3 numbers, vectorised or one draw at a time; `trouble` gets the last word on them."""

    @sf.simulator(PRIOR, vectorized=kind == "vectorised", **options)
    def model(theta: dict[str, Any], rng: np.random.Generator) -> F:
        a, b = np.asarray(theta["a"]), np.asarray(theta["b"])
        return trouble(theta, (a[..., None] + b[..., None] * rng.standard_normal((*a.shape, 3))).astype(dtype))

    return model


def same(one: sf.Simulations, other: sf.Simulations, rows: int | None = None) -> bool:
    pairs = [(getattr(one, name)[:rows], getattr(other, name)[:rows]) for name in ("theta", "y", "codes")]
    return all(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)


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
def test_a_bank_that_was_interrupted_extended_or_full_gives_the_bytes_of_one_run(kind: str, few: int, many: int, tmp_path: Path) -> None:
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
        assert sims.theta[1000 * k : 1000 * (k + 1)].tobytes() == PRIOR.sample(1000, block_stream(5, k)).tobytes()


@pytest.mark.parametrize(("kind", "n"), [("vectorised", 5000), ("single", 2000)])
def test_pairs_follow_the_joint_distribution(kind: str, n: int) -> None:
    """(y - a)/b is standard normal, whatever theta, and a uniform: Kolmogorov-Smirnov, false alarm rate 1e-5 each."""
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
    with pytest.raises(SettingsError, match="n must be a positive integer"):
        simulate(make("vectorised"), n)


def test_a_bad_seed_and_a_plain_function_are_refused() -> None:
    with pytest.raises(SettingsError, match="seed"):
        simulate(make("vectorised"), 10, seed=-1)
    with pytest.raises(SettingsError, match="made with @sf.simulator"):
        simulate(lambda theta, rng: theta, 10)  # type: ignore[arg-type]


@each_road
def test_progress_rises_to_n(kind: str, few: int, many: int) -> None:
    seen: list[tuple[int, int]] = []
    simulate(make(kind), many, progress=lambda done, n: seen.append((done, n)))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (many, many)


def negative_b(theta: Any, y: F) -> F:
    return np.where(np.asarray(theta["b"])[..., None] < -1, np.inf, y)


@pytest.mark.parametrize(("kind", "n"), [("vectorised", 1500), ("single", 150)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_are_not_finite_are_marked_and_the_others_are_as_without_them(kind: str, n: int, dtype: type) -> None:
    sims, healthy = simulate(make(kind, negative_b, dtype), n, seed=5), simulate(make(kind, dtype=dtype), n, seed=5)
    bad = healthy.theta[:, 1] < -1
    assert ((sims.status == "nonfinite") == bad).all()
    assert sims.y[~bad].tobytes() == healthy.y[~bad].tobytes()
    assert sims.counts() == {"ok": int((~bad).sum()), "nonfinite": int(bad.sum())}
    assert all(bad[failure.row] and failure.block == failure.row // sims.block_size for failure in sims.records)


def raise_for_some(theta: Any, y: F) -> F:
    if theta["b"] < -1:
        raise FloatingPointError(f"b is {theta['b']:.3f}")
    return y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_single_draw_that_raises_is_marked_and_the_others_are_as_without_it(dtype: type) -> None:
    sims, healthy = simulate(make("single", raise_for_some, dtype), 150, seed=5), simulate(make("single", dtype=dtype), 150, seed=5)
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
    kept = [row for start in range(0, 150, 20) for row in [row for row in bad if start <= row < start + 20][:3]]
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
    assert f"{150 - len(theta)} of 150 simulations failed ({150 - len(theta)} raised) and are left out" in sims.failure_text()
    assert sims.records[0].cause in sims.failure_text()
    assert simulate(make("single"), 20).failure_text() == ""


def test_too_many_failures_stop_the_run_with_count_and_cause() -> None:
    """P(b < -1) = 16%: far above 1% and below 50% of the first 200 rows."""
    with pytest.raises(
        TooManyFailuresError, match=r"of the first 200 simulations failed, more than max_failures=0.01. First cause, in row"
    ):
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
def test_a_broken_contract_stops_before_anything_runs(trouble: Callable[[Any, F], Any], tmp_path: Path) -> None:
    with pytest.raises(SimulatorContractError, match="model: "):
        simulate(make("vectorised", trouble), 3000, store=tmp_path / "bank")
    assert not (tmp_path / "bank").exists()


def test_writing_to_theta_is_stopped_and_said() -> None:
    def write(theta: Any, y: F) -> F:
        theta["a"][:] = 0
        return y

    with pytest.raises(SimulatorContractError, match="read-only.* Work on a copy"):
        simulate(make("vectorised", write, event_shape=(3,)), 10)


def test_a_wrong_shape_later_is_recorded_row_by_row_and_the_run_goes_on(tmp_path: Path) -> None:
    """Rows that fail at random are left out by the simulator itself, so that a block comes back too short: the others are not lost."""

    def drop(theta: Any, y: F) -> F:
        return y[theta["b"] > -3]

    sims = simulate(make("vectorised", drop), 4000, seed=5, store=tmp_path / "bank")
    bad = sims.theta[:, 1] <= -3
    assert bad.any()
    assert ((sims.status == "shape") == bad).all()
    assert "returned shape (0, 3) for 1 rows of theta" in sims.records[0].cause
    assert sims.failures().table["cause"].tolist() == [
        "model: returned shape (#, #) for # rows of theta; wanted (#, #). A simulator that handles one draw at a time is declared with "
        "vectorized=False."
    ]


def test_a_single_draw_of_another_shape_is_recorded() -> None:
    sims = simulate(make("single", lambda theta, y: y[:2] if theta["b"] < -1.5 else y), 150, seed=5)
    bad = sims.theta[:, 1] < -1.5
    assert bad.any()
    assert ((sims.status == "shape") == bad).all()


def test_an_interrupt_keeps_the_finished_blocks_and_the_same_call_resumes(tmp_path: Path) -> None:
    def interrupt(done: int, n: int) -> None:
        if done >= 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(make("single"), 200, seed=5, store=tmp_path / "bank", progress=interrupt)
    assert len(sf.read_bank(tmp_path / "bank")) in (60, 80, 100)
    assert same(simulate(make("single"), 200, seed=5, store=tmp_path / "bank"), simulate(make("single"), 200, seed=5))


def test_finished_blocks_are_not_simulated_again(tmp_path: Path) -> None:
    runs: Iterator[int] = iter(range(10**6))

    def count(theta: Any, y: F) -> F:
        next(runs)
        return y

    simulate(make("single", count, event_shape=(3,)), 100, store=tmp_path / "bank")
    before = next(runs)
    simulate(make("single", count, event_shape=(3,)), 120, store=tmp_path / "bank")
    stored_row_made_again = 1
    assert next(runs) - before - 1 == 20 + stored_row_made_again


def test_simulations_know_their_names_shapes_and_origin() -> None:
    sims = simulate(make("vectorised"), 30, seed=4)
    assert (len(sims), sims.names, sims.event_shape, sims.seed, sims.simulator_name) == (30, ("a", "b"), (3,), 4, "model")
    sims.check_matches(PRIOR, (3,))
    with pytest.raises(ShapeError, match=r"'model' with parameters \('a', 'b'\) and events \(3,\); wanted parameters \('a',\)"):
        sims.check_matches(sf.Prior(a=uniform(0, 1)), (3,))
    with pytest.raises(ShapeError, match="Simulate again"):
        sims.check_matches(PRIOR, (4,))
