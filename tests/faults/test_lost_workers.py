"""A worker that is killed, in any kind of pool: the run continues, with the same bytes, or says what it
needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from loky import ProcessPoolExecutor as Loky

import sbi_flows as sf
from sbi_flows.errors import WorkerError
from sbi_flows.rng import block_stream
from sbi_flows.simulation.campaign import InProcess
from sbi_flows.simulation.workers import local_workers
from tests.faults.conftest import REPEATS, files, needs_dask, rows
from tests.faults.models import PRIOR, make_killer, numbers

SETTINGS = sf.SimulateSettings(block_size=20)
N = 800
pytestmark = pytest.mark.filterwarnings("ignore:A worker stopped while some jobs:UserWarning")


@pytest.fixture
def killer(tmp_path: Path) -> sf.Simulator:
    return make_killer(tmp_path / "mark")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("undisturbed") / "bank"
    sf.simulate(make_killer(store), N, seed=5, store=store, workers=1, settings=SETTINGS)
    return store


def spawned() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"))


@pytest.mark.parametrize("make", [local_workers(2), spawned], ids=["loky", "standard pool"])
@pytest.mark.parametrize("repeat", range(REPEATS))
def test_a_pool_that_breaks_is_made_again_and_nothing_is_lost(
    make: Callable[[], Executor], repeat: int, killer: sf.Simulator, undisturbed: Path, tmp_path: Path
) -> None:
    sims = sf.simulate(
        killer, N, seed=5, store=tmp_path / "bank", executor=make, workers=2, settings=SETTINGS
    )
    assert (tmp_path / "mark").exists()
    assert rows(sims) == rows(sf.read_bank(undisturbed))
    assert files(tmp_path / "bank") == files(undisturbed)


@pytest.mark.parametrize("make", [lambda: Loky(2), spawned], ids=["loky", "standard pool"])
def test_a_pool_that_was_given_and_breaks_is_an_error_that_says_what_to_give(
    make: Callable[[], Executor], killer: sf.Simulator, undisturbed: Path, tmp_path: Path
) -> None:
    executor = make()
    with pytest.raises(WorkerError, match="executor=lambda: ") as caught:
        sf.simulate(
            killer, N, seed=5, store=tmp_path / "bank", executor=executor, workers=2, settings=SETTINGS
        )
    executor.shutdown(wait=True)
    assert "finished blocks of 20 rows" in " ".join(caught.value.__notes__)
    finished, wanted = files(tmp_path / "bank"), files(undisturbed)
    assert finished.items() <= wanted.items()
    sf.simulate(killer, N, seed=5, store=tmp_path / "bank", workers=1, settings=SETTINGS)
    assert files(tmp_path / "bank") == wanted


@needs_dask
@pytest.mark.parametrize("repeat", range(REPEATS))
def test_a_dask_worker_that_is_killed_is_replaced_and_nothing_is_lost(
    repeat: int, killer: sf.Simulator, undisturbed: Path, tmp_path: Path, dask_address: str
) -> None:
    from distributed import Client

    with Client(dask_address, set_as_default=False) as client:
        executor = client.get_executor(pure=False)
        sims = sf.simulate(
            killer, N, seed=5, store=tmp_path / "bank", executor=executor, workers=2, settings=SETTINGS
        )
    assert (tmp_path / "mark").exists()
    assert rows(sims) == rows(sf.read_bank(undisturbed))
    assert files(tmp_path / "bank") == files(undisturbed)


@needs_dask
def test_a_function_that_makes_a_dask_executor_will_do(
    killer: sf.Simulator, undisturbed: Path, tmp_path: Path, dask_address: str
) -> None:
    from distributed import Client

    with Client(dask_address, set_as_default=False) as client:
        model = sf.simulator(PRIOR)(numbers)
        sims = sf.simulate(
            model, 300, seed=5, executor=lambda: client.get_executor(pure=False), workers=2, settings=SETTINGS
        )
        assert rows(sims) == rows(sf.simulate(model, 300, seed=5, workers=1, settings=SETTINGS))


class Breaking(Executor):
    """Runs at once; the seeded share of submissions finds it broken, or breaks it on the way."""

    def __init__(self, chance: np.random.Generator) -> None:
        self.chance, self.broken = chance, False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.broken = self.broken or self.chance.random() < 0.1
        if self.broken:
            raise BrokenExecutor("at submission")
        future: Future[Any] = Future()
        if self.chance.random() < 0.1:
            self.broken = True
            future.set_exception(BrokenExecutor("later"))
        elif self.chance.random() < 0.1:
            future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.parametrize("seed", range(5))
def test_a_pool_may_break_at_any_submission(
    seed: int, killer: sf.Simulator, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All losses here are the pool's, so no careful second try in a child is needed."""
    monkeypatch.setattr("sbi_flows.simulation.workers._SHARED", 1000)
    here = InProcess(killer)
    monkeypatch.setattr("sbi_flows.simulation.workers.isolated", lambda *_: here)
    chance = np.random.default_rng(seed)
    sims = sf.simulate(killer, N, seed=5, executor=lambda: Breaking(chance), workers=2, settings=SETTINGS)
    assert rows(sims) == rows(sf.read_bank(undisturbed))


@pytest.mark.filterwarnings("ignore:.*simulations failed:sbi_flows.errors.SimulationWarning")
def test_a_row_that_ends_its_worker_is_marked_and_the_bank_can_be_extended(tmp_path: Path) -> None:
    """Extending makes a stored row again in this process: never one that ends it, so not here, where the only
    block has one.
    """
    deadly = PRIOR.sample(1000, block_stream(5, 0))[0, 0]

    @sf.simulator(PRIOR, vectorized=False)
    def leaves(theta: dict[str, float], rng: np.random.Generator) -> np.ndarray:
        if theta["a"] == deadly:
            os._exit(7)
        return numbers(theta, rng)

    for n in (15, 20):
        sims = sf.simulate(
            leaves,
            n,
            seed=5,
            store=tmp_path / "bank",
            workers=2,
            settings=sf.SimulateSettings(block_size=20, tries=1),
        )
        assert np.flatnonzero(sims.status == "died").tolist() == [0]
        assert sims.counts() == {"ok": n - 1, "died": 1}
    assert {failure.cause for failure in sims.records} == {"the process that ran it ended with exit code 7"}


def test_a_child_that_cannot_be_started_in_a_worker_is_an_error_and_not_a_dead_row(
    killer: sf.Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise WorkerError("no more processes")

    monkeypatch.setattr("sbi_flows.simulation.workers.make_block", fail)
    with ThreadPoolExecutor(2) as executor, pytest.raises(WorkerError, match="no more processes"):
        sf.simulate(killer, 100, executor=executor, settings=SETTINGS)


def test_no_pool_is_left_behind() -> None:
    """A pool that a function made is shut down, whatever options its shutdown takes."""
    ended: list[dict[str, Any]] = []

    class Plain(Breaking):
        def shutdown(self, wait: bool = True) -> None:
            ended.append({"wait": wait})

    never: Any = SimpleNamespace(random=lambda: 1.0)
    sf.simulate(sf.simulator(PRIOR)(numbers), 100, executor=lambda: Plain(never), settings=SETTINGS)
    assert ended == [{"wait": False}]
