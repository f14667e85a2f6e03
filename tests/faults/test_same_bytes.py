"""The same rows and the same files for any number of workers, of any kind, in any order: also of rows that
fail.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from loky import ProcessPoolExecutor as Loky

import sbi_flows as sf
from sbi_flows.simulation.workers import local_workers
from tests.faults.conftest import files, needs_dask, rows
from tests.faults.models import PRIOR, alone, narrow_later, numbers, whole

SETTINGS = sf.SimulateSettings(block_size=50)
APART = sf.SimulateSettings(block_size=50, isolate=True)
MODELS = {
    "vectorised": (whole, 4000),
    "one at a time": (alone, 770),
    "other width later": (narrow_later, 800),
}
pytestmark = pytest.mark.filterwarnings("ignore::sbi_flows.errors.SimulationWarning")
each_model = pytest.mark.parametrize("name", MODELS)


class Shuffled(ThreadPoolExecutor):
    """Threads that wait before they begin, each its own time."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return super().submit(self.later, fn, *args, **kwargs)

    def later(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        time.sleep(random.Random(repr(args[1:])).uniform(0, 0.03))
        return fn(*args, **kwargs)


@pytest.fixture(scope="module")
def eight() -> Iterator[Executor]:
    with Loky(8) as executor:
        yield executor


@pytest.fixture(scope="module")
def spawned() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The bank of one process."""
    folder = tmp_path_factory.mktemp("serial")

    def bank(name: str) -> Path:
        model, n = MODELS[name]
        if not (folder / name).exists():
            sf.simulate(model, n, seed=5, store=folder / name, workers=1, settings=SETTINGS)
        return folder / name

    return bank


def check(
    name: str,
    serial: Callable[[str], Path],
    store: Path,
    settings: sf.SimulateSettings = SETTINGS,
    **options: Any,
) -> None:
    model, n = MODELS[name]
    sims = sf.simulate(model, n, seed=5, store=store, settings=settings, **options)
    assert rows(sims) == rows(sf.read_bank(serial(name)))
    assert sims.counts().keys() - {"ok"}
    assert files(store) == files(serial(name))
    if settings is SETTINGS and not isinstance(options.get("executor"), Loky | ProcessPoolExecutor):
        assert rows(sf.simulate(model, n, seed=5, workers=1, settings=settings)) == rows(sims)


@each_model
def test_eight_loky_workers(
    name: str, serial: Callable[[str], Path], tmp_path: Path, eight: Executor
) -> None:
    check(name, serial, tmp_path / "bank", executor=eight, workers=8)


@each_model
def test_a_standard_pool(name: str, serial: Callable[[str], Path], tmp_path: Path, spawned: Executor) -> None:
    check(name, serial, tmp_path / "bank", executor=spawned)


@pytest.mark.parametrize(
    "make", [local_workers(1), lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn"))]
)
def test_functions_that_make_a_pool(
    make: Callable[[], Executor], serial: Callable[[str], Path], tmp_path: Path
) -> None:
    check("one at a time", serial, tmp_path / "bank", executor=make)


@each_model
@pytest.mark.parametrize(
    "make", [lambda: ThreadPoolExecutor(3), lambda: Shuffled(8)], ids=["threads", "shuffled"]
)
def test_threads_and_any_order(
    name: str, make: Callable[[], Executor], serial: Callable[[str], Path], tmp_path: Path
) -> None:
    check(name, serial, tmp_path / "bank", executor=make())


@each_model
def test_a_child_process(name: str, serial: Callable[[str], Path], tmp_path: Path) -> None:
    check(name, serial, tmp_path / "bank", APART, workers=1)


def test_child_processes_of_workers(serial: Callable[[str], Path], tmp_path: Path, spawned: Executor) -> None:
    check("vectorised", serial, tmp_path / "bank", APART, executor=spawned)


@needs_dask
@each_model
def test_dask_workers(name: str, serial: Callable[[str], Path], tmp_path: Path, dask_address: str) -> None:
    from distributed import Client

    with Client(dask_address, set_as_default=False) as client:
        check(name, serial, tmp_path / "bank", executor=client.get_executor(pure=False))


def test_a_simulator_found_by_its_name_and_one_sent_whole_are_the_same(eight: Executor) -> None:
    named, sent = alone, sf.simulator(PRIOR, vectorized=False)(alone.function)
    one, other = (
        sf.simulate(model, 300, seed=5, executor=eight, settings=SETTINGS) for model in (named, sent)
    )
    assert rows(one) == rows(other)
    assert one.records == other.records
    fine = sf.simulator(PRIOR)(numbers)
    assert rows(sf.simulate(fine, 300, seed=5, executor=eight)) == rows(
        sf.simulate(fine, 300, seed=5, workers=1)
    )
