"""Blocks made in the background: the bytes of `simulate`, a bounded lead, errors that come through, and
nothing left behind.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.errors import SettingsError, SimulatorContractError, TooManyFailuresError, WorkerError
from sbi_flows.simulation.simulations import Block
from sbi_flows.simulation.supply import Supply

from .models import PRIOR, make

F = np.ndarray
PATIENCE = 60.0


def taken(supply: Supply, count: int) -> list[Block]:
    blocks = []
    while len(blocks) < count:
        block = supply.take(PATIENCE)
        assert block is not None
        blocks.append(block)
    return blocks


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "sbi_flows supply"]


def same_as(simulations: sf.Simulations, block: Block) -> bool:
    rows = slice(block.start, block.start + len(block))
    wanted = simulations.theta[rows], simulations.y[rows], simulations.codes[rows]
    return all(
        a.tobytes() == b.tobytes() for a, b in zip(wanted, (block.theta, block.y, block.codes), strict=True)
    )


@pytest.mark.parametrize("kind", ["vectorised", "one at a time"])
def test_row_i_is_row_i_of_simulate_wherever_it_is_made(kind: str) -> None:
    model = make(kind, lambda theta, y: np.where(np.asarray(theta["a"])[..., None] > 0.9, np.nan, y))
    with Supply(model, 3, block_size=None if kind == "vectorised" else 50) as supply:
        blocks = taken(supply, 2)
        supply.move(1)
        blocks += taken(supply, 8)
        assert supply.rate > 0
    n = max(block.start + len(block) for block in blocks)
    with pytest.warns(sf.errors.SimulationWarning, match="failed"):
        simulations = sf.simulate(model, n, seed=3)
    assert all(same_as(simulations, block) for block in blocks)
    assert len({block.start for block in blocks}) == 10
    assert (supply.watch.done, supply.watch.bad) == (
        sum(map(len, blocks)),
        sum(int((block.codes != 0).sum()) for block in blocks),
    )
    assert any("simulations of model failed" in text for text in supply.warnings())


def test_it_runs_ahead_no_further_than_it_may_and_ends_with_its_context() -> None:
    with Supply(make("vectorised"), 1, most_ahead=2_500) as supply:
        for _ in range(5):
            taken(supply, 2)
            time.sleep(0.02)
            assert supply.ahead < 2_500 + 1_000
        assert threads() == ["sbi_flows supply"]
    assert threads() == []


def test_blocks_that_another_run_has_used_are_left_out() -> None:
    with Supply(make("vectorised"), 1) as supply:
        taken(supply, 2)
        supply.skip_to(7)
        assert [block.start for block in taken(supply, 3)] == [7_000, 8_000, 9_000]


def test_a_simulator_that_fails_too_often_ends_it() -> None:
    model = make("vectorised", lambda theta, y: np.where(np.asarray(theta["a"])[..., None] > 0.3, np.nan, y))
    with Supply(model, 1) as supply, pytest.raises(TooManyFailuresError, match="of the first 1,000 "):
        taken(supply, 2)
    assert threads() == []


def test_what_the_thread_raises_reaches_the_caller_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        Supply(make("vectorised", lambda theta, y: y[1:]), 1) as supply,
        pytest.raises(SimulatorContractError, match="shape"),
    ):
        taken(supply, 1)

    def lost(*args: object) -> Block:
        raise WorkerError("the machine room is on fire")

    monkeypatch.setattr("sbi_flows.simulation.supply.make_block", lost)
    with Supply(make("vectorised"), 1) as supply:
        for _ in range(2):
            with pytest.raises(WorkerError, match="on fire"):
                taken(supply, 1)


def test_a_simulator_that_cannot_be_sent_stays_where_it_is() -> None:
    lock = threading.Lock()
    model = make("vectorised", lambda theta, y: y + lock.locked())
    with Supply(model, 1) as supply:
        taken(supply, 1)
        with pytest.raises(SettingsError, match="another process"):
            supply.move(1)
        assert supply.workers == 0
        taken(supply, 2)


def test_a_hang_in_a_process_is_ended_with_it(tmp_path: Path) -> None:
    home, calls = os.getpid(), tmp_path / "calls"

    @sf.simulator(PRIOR)
    def hangs_elsewhere(theta: dict[str, F], rng: np.random.Generator) -> F:
        if os.getpid() != home:
            with calls.open("a") as file:
                file.write(".")
            if calls.stat().st_size > 3:
                time.sleep(1e6)
        return np.stack([theta["a"], np.full(len(theta["a"]), float(os.getpid()))], axis=1)

    with Supply(hangs_elsewhere, 1) as supply:
        taken(supply, 1)
        supply.move(1)
        pids: set[int] = set()
        while (block := supply.take(0.5 if pids - {home} else PATIENCE)) is not None:
            pids |= set(block.y[:, 1].astype(int).tolist())
    (worker,) = pids - {home}
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert threads() == []


def test_a_hang_in_the_thread_is_said() -> None:
    calls, go_on = [0], threading.Event()

    def trouble(theta: dict[str, F], y: F) -> F:
        calls[0] += 1
        if calls[0] > 10:
            go_on.wait(PATIENCE)
        return y

    with Supply(make("vectorised", trouble), 1) as supply:
        taken(supply, 1)
        while calls[0] <= 10:
            supply.take(0.01)
    assert any("time_limit" in text for text in supply.warnings())
    go_on.set()
    supply._thread.join(PATIENCE)
    assert threads() == []
    assert supply.warnings() == []
