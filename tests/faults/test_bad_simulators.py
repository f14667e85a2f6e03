"""Simulators that raise, hang, crash or lie, or have a will of their own: each row is accounted for, or the
error says why.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.errors import NonDeterministicSimulatorError, SimulationWarning, SimulatorContractError
from sbi_flows.simulation.campaign import Trouble
from sbi_flows.simulation.isolation import Isolated
from sbi_flows.simulation.workers import packed
from tests.conftest import QUICK
from tests.faults.conftest import needs_dask, rows
from tests.faults.models import PRIOR, WAYS, compile_stuck, make_awful, numbers, way

F = np.ndarray
N, LIMIT, SEED = 200, 1.0, 9
SETTINGS = sf.SimulateSettings(block_size=25, tries=2)
STATUS = {
    "raise": "raised",
    "nan": "nonfinite",
    "sleep": "timeout",
    "lock": "timeout",
    "segfault": "died",
    "leave": "died",
    "exit": "raised",
    "shape": "shape",
    "object": "shape",
    "write": "ok",
    "print": "ok",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str | None:
    return compile_stuck(tmp_path_factory.mktemp("stuck"))


def check(library: str | None, **options: Any) -> sf.Simulations:
    with pytest.warns(SimulationWarning, match="simulations failed"):
        sims = sf.simulate(make_awful(library), N, seed=SEED, time_limit=LIMIT, settings=SETTINGS, **options)
    kinds = [WAYS[kind] if kind < len(WAYS) else "fine" for kind in way(sims.theta[:, 0])]
    assert set(kinds) == {*WAYS, "fine"}
    assert sims.status.tolist() == [STATUS.get(kind, "ok") for kind in kinds]
    assert np.isfinite(sims.y[sims.ok]).all()
    assert np.isnan(sims.y[sims.status == "died"]).all()
    table = sims.failures().table
    assert table["count"].sum() == (~sims.ok).sum()
    causes = " ".join(table["cause"])
    for word in (
        "ValueError: a is #",
        "SystemExit: #",
        "NaN or infinite",
        "time limit of # s",
        "SIGSEGV",
        "exit code #",
        "returned events",
    ):
        assert word in causes
    return sims


@pytest.fixture(scope="module")
def awful(library: str | None) -> sf.Simulations:
    """Made in a child of this process."""
    return check(library, workers=1)


def test_every_row_is_accounted_for_by_its_cause_and_fitting_says_how_many_were_left_out(
    awful: sf.Simulations,
) -> None:
    said: list[str] = []
    fine = sf.simulator(PRIOR)(numbers)
    sf.fit(fine, simulations=awful, seed=1, settings=QUICK, say=said.append)
    failed, counts = int((~awful.ok).sum()), awful.counts()
    words = (
        f"{failed} of {N} simulations failed ({counts['nonfinite']} nonfinite, {counts['raised']} raised, "
        f"{counts['timeout']} timeout, "
    )
    assert words in " ".join(said)


def test_in_loky_workers(library: str | None, awful: sf.Simulations) -> None:
    assert rows(check(library, workers=2)) == rows(awful)


@needs_dask
def test_in_threads_of_dask_workers(library: str | None, awful: sf.Simulations, dask_address: str) -> None:
    from distributed import Client

    with Client(dask_address, set_as_default=False) as client:
        assert rows(check(library, executor=client.get_executor(pure=False), workers=4)) == rows(awful)


@pytest.mark.parametrize("kind", ["sleep", "lock"])
def test_a_hang_ends_at_its_limit(kind: str, library: str | None) -> None:
    runner = Isolated(packed(make_awful(library)), LIMIT, 1)
    theta = PRIOR.sample(1000, np.random.default_rng(0))
    stuck, fine = theta[way(theta[:, 0]) == WAYS.index(kind)][:1], theta[way(theta[:, 0]) == len(WAYS)][:1]
    assert isinstance(runner.run(fine, np.random.default_rng(0)), np.ndarray)
    began = time.monotonic()
    out = runner.run(stuck, np.random.default_rng(0))
    seconds = time.monotonic() - began
    assert isinstance(out, Trouble)
    assert out.cause == f"still running after the time limit of {LIMIT:g} s"
    assert LIMIT <= seconds < LIMIT + 5
    assert isinstance(runner.run(fine, np.random.default_rng(0)), np.ndarray)
    runner.close()


def vectorised(trouble: Callable[[Any, F, np.random.Generator], Any], **options: Any) -> sf.Simulator:
    @sf.simulator(PRIOR, **options)
    def bad(theta: dict[str, F], rng: np.random.Generator) -> F:
        return trouble(theta, numbers(theta, rng), rng)

    return bad


def in_place(theta: Any, y: F, rng: np.random.Generator) -> F:
    theta["a"] += 1
    return y


calls = itertools.count()
CONTRACT = {
    "one row": (lambda theta, y, rng: y[:1], "returned shape"),
    "one row too many": (lambda theta, y, rng: np.concatenate([y, y[:1]]), "returned shape"),
    "a number": (lambda theta, y, rng: 1.0, "returned shape"),
    "objects": (lambda theta, y, rng: y.astype(object), "returned dtype object"),
    "text": (lambda theta, y, rng: y.astype(str), "returned dtype <U"),
    "complex": (lambda theta, y, rng: y + 1j, "returned dtype complex"),
    "nothing": (lambda theta, y, rng: None, "returned dtype object"),
    "broadcast": (
        lambda theta, y, rng: theta["a"][:, None] + rng.standard_normal(len(y)),
        r"\(n,\) and \(n, 1\)",
    ),
    "writes": (in_place, "writes to the theta that it is given"),
}
WILL = {
    "random": lambda theta, y, rng: y + random.random(),
    "clock": lambda theta, y, rng: y + time.perf_counter(),
    "counter": lambda theta, y, rng: y + next(calls),
    "new generator": lambda theta, y, rng: y + np.random.default_rng().standard_normal(),
}


@pytest.mark.parametrize(
    ("kind", "isolate"), [*((kind, False) for kind in CONTRACT), ("broadcast", True), ("writes", True)]
)
def test_a_broken_contract_is_named_before_anything_is_stored(
    kind: str, isolate: bool, tmp_path: Path
) -> None:
    trouble, words = CONTRACT[kind]
    with pytest.raises(SimulatorContractError, match=words):
        sf.simulate(
            vectorised(trouble), 100, store=tmp_path / "bank", settings=sf.SimulateSettings(isolate=isolate)
        )
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize("kind", WILL)
def test_a_will_of_its_own_is_found_before_anything_is_stored(kind: str, tmp_path: Path) -> None:
    with pytest.raises(NonDeterministicSimulatorError, match="given twice"):
        sf.simulate(vectorised(WILL[kind]), 100, store=tmp_path / "bank", workers=1)
    assert not (tmp_path / "bank").exists()


def test_the_global_generator_of_numpy_is_found(tmp_path: Path) -> None:
    """In a child, so that this test does not move it here."""
    model = vectorised(lambda theta, y, rng: y + np.random.standard_normal())
    with pytest.raises(NonDeterministicSimulatorError, match="not np.random"):
        sf.simulate(model, 100, store=tmp_path / "bank", settings=sf.SimulateSettings(isolate=True))


def test_a_will_that_shows_later_is_found_when_a_bank_is_extended(tmp_path: Path) -> None:
    """Too many rows for the simulations that test it before: then the clock is in."""
    model = vectorised(lambda theta, y, rng: y + (time.perf_counter() if len(y) > 8 else 0))
    sf.simulate(model, 100, store=tmp_path / "bank", settings=sf.SimulateSettings(block_size=50))
    with pytest.raises(NonDeterministicSimulatorError, match="block 0 .*made again twice"):
        sf.simulate(model, 200, store=tmp_path / "bank")


def test_a_block_that_was_made_twice_and_differs_is_not_stored_over(tmp_path: Path) -> None:
    from sbi_flows.simulation.bank import Bank

    model = vectorised(lambda theta, y, rng: y)
    sf.simulate(model, 100, store=tmp_path / "bank", settings=sf.SimulateSettings(block_size=50))
    bank = Bank.found(tmp_path / "bank")
    assert bank is not None
    block = bank.load(1)
    bank.commit(1, block)
    block.y[3, 1] += 1e-9
    with pytest.raises(NonDeterministicSimulatorError, match="block 1, made twice"):
        bank.commit(1, block)
    assert (bank.load(1).y != block.y).sum() == 1


def test_a_simulator_that_was_edited_does_not_extend_its_old_bank_and_the_difference_is_shown(
    tmp_path: Path,
) -> None:
    old, new = (
        vectorised(lambda theta, y, rng: y),
        vectorised(lambda theta, y, rng: y + np.array([0, 0.25, 0])),
    )
    before = sf.simulate(old, 100, store=tmp_path / "bank", settings=sf.SimulateSettings(block_size=50))
    there, here = before.y[0, 1], before.y[0, 1] + 0.25
    with pytest.raises(
        sf.errors.BankMismatchError, match=rf"y of row 0 was {there:.6g} there and is {here:.6g} here"
    ) as caught:
        sf.simulate(new, 200, store=tmp_path / "bank")
    assert "The simulator has changed since" in str(caught.value)
    assert rows(sf.read_bank(tmp_path / "bank")) == rows(before)
