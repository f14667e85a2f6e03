"""Rows that grow while they are trained on: fresh first, each once where simulating is fast, else replayed;
and where to simulate.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from sbi_flows.errors import SettingsError, TooManyFailuresError
from sbi_flows.machine import torch_threads
from sbi_flows.notes import Notes
from sbi_flows.npe.online.estimate import held_out_of_start
from sbi_flows.npe.online.replay import ReplayRows, StartRows
from sbi_flows.npe.online.throughput import Terms, arrange
from sbi_flows.npe.settings import training_for
from sbi_flows.simulation.simulations import Block
from sbi_flows.training.rows import Batch, Rows
from sbi_flows.training.settings import TrainSettings

F = np.ndarray
SIZE, START, HELD_OUT = 100, 200, 40


class Shelf:
    """Stands for a supply: blocks of 100 rows whose theta is the number of the row, as many at a time as are
    put on it.
    """

    seed, campaign, block_size = 5, None, SIZE

    def __init__(self, rate: float = 1.0, *, fails: str = "") -> None:
        self.blocks: deque[Block] = deque()
        self.rate, self.fails = rate, fails
        self.workers = self.most_ahead = 0
        self.skipped = 0

    def put(self, *numbers: int, bad: int = 0) -> None:
        for k in numbers:
            start = k * SIZE
            theta = np.arange(start, start + SIZE, dtype=np.float64)[:, None]
            codes = np.zeros(SIZE, dtype=np.uint8)
            codes[:bad] = 1
            self.blocks.append(Block(start, theta, np.where(codes[:, None] > 0, np.nan, theta), codes))

    def take(self, seconds: float = 0.0) -> Block | None:
        return self.blocks.popleft() if self.blocks else None

    def number(self, block: Block) -> int:
        return block.start // SIZE

    def skip_to(self, k: int) -> None:
        self.skipped = k

    @property
    def ahead(self) -> int:
        return SIZE * len(self.blocks)

    def move(self, workers: int) -> None:
        if self.fails:
            raise SettingsError(self.fails)
        self.workers = workers


def convert(theta: F, y: F) -> tuple[F, F]:
    return theta.astype(np.float32), y.astype(np.float32)


def rows(shelf: Shelf, kept_bytes: int = 10**6, **options: Any) -> ReplayRows:
    def part(numbers: F) -> Batch:
        values = numbers[:, None].astype(np.float32)
        return numbers, (torch.from_numpy(values), torch.from_numpy(values.copy()))

    settings = TrainSettings(**{"batch_size": 32, **options})
    numbers = np.arange(START)
    start = StartRows(part(numbers[HELD_OUT:]), part(numbers[:HELD_OUT]), START, kept_bytes)
    out = ReplayRows(shelf, convert, settings, start)  # type: ignore[arg-type]
    assert isinstance(out, Rows)
    return out


def test_where_simulating_is_quick_each_row_is_seen_once_and_none_that_is_held_out() -> None:
    shelf = Shelf()
    shelf.put(*range(2, 12))
    growing = rows(shelf, epoch_rows=320)
    seen = [numbers for epoch in range(3) for numbers, _ in growing.batches(epoch)]
    assert growing.steps == 10
    assert [len(numbers) for numbers in seen] == [32] * 30
    assert set(np.concatenate(seen[:5])) == set(range(HELD_OUT, START))
    assert max(Counter(np.concatenate(seen).tolist()).values()) == 1
    assert (growing.used, growing.drawn, growing.failed) == (960, 960, 0)


def test_numbers_and_tensors_move_along_together() -> None:
    shelf = Shelf()
    growing = rows(shelf, epoch_rows=320)
    for epoch in range(4):
        shelf.put(epoch + 2)
        for numbers, (u, y) in growing.batches(epoch):
            assert np.array_equal(u.numpy()[:, 0], numbers)
            assert np.array_equal(y.numpy()[:, 0], numbers)


def test_a_slow_simulator_has_every_row_used_fresh_at_once_and_then_replayed_evenly() -> None:
    orders = []
    for _ in range(2):
        shelf = Shelf()
        growing = rows(shelf, epoch_rows=32)
        seen: list[np.ndarray] = []
        for step in range(400):
            if step % 50 == 40:
                shelf.put(2 + step // 50)
            (batch,) = growing.batches(step)
            before = set(np.concatenate(seen).tolist()) if seen else set()
            fresh = [row for row in batch[0].tolist() if row not in before]
            assert len(fresh) == min(32, START - HELD_OUT - 32 * step) if step < 5 else len(fresh) <= 32
            assert len(batch[0]) == 32
            seen.append(batch[0])
            if step % 50 == 43:
                assert growing.waiting == 0
        counts = Counter(np.concatenate(seen[-250:]).tolist())
        assert set(counts) == set(range(HELD_OUT, 1000))
        assert max(Counter(np.concatenate(seen[5:10]).tolist()).values()) == 1
        assert growing.used == 8 * SIZE + START - HELD_OUT
        assert growing.drawn == 400 * 32
        orders.append(np.concatenate(seen))
    assert np.array_equal(*orders)


def test_replay_draws_without_replacement_from_what_is_kept_and_the_oldest_make_way() -> None:
    shelf = Shelf()
    growing = rows(shelf, kept_bytes=0, epoch_rows=32)
    for step in range(5):
        list(growing.batches(step))
    a_pass = np.concatenate([numbers for step in range(5) for numbers, _ in growing.batches(step)])
    assert sorted(a_pass) == list(range(HELD_OUT, START))
    shelf.put(2)
    while growing.pull(1):
        list(growing.batches(0))
    for _ in range(10):
        list(growing.batches(0))
    kept = {int(row) for _ in range(10) for numbers, _ in growing.batches(0) for row in numbers}
    assert len(kept) == START - HELD_OUT
    assert set(range(200, 300)) < kept


def test_rows_that_failed_are_never_handed_out() -> None:
    shelf = Shelf()
    shelf.put(2, 3, bad=30)
    shelf.put(4, bad=SIZE)
    growing = rows(shelf, epoch_rows=32 * 20)
    batches = list(growing.batches(0))
    assert all(torch.isfinite(part).all() for _, tensors in batches for part in tensors)
    assert growing.failed == 160
    assert not set(np.concatenate([numbers for numbers, _ in batches])) & {
        *range(200, 230),
        *range(300, 330),
        *range(400, 500),
    }


def test_what_ends_the_supply_reaches_the_one_who_asks_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(self: Shelf, seconds: float = 0.0) -> None:
        raise TooManyFailuresError("no more")

    growing = rows(Shelf())
    monkeypatch.setattr(Shelf, "take", ended)
    with pytest.raises(TooManyFailuresError, match="no more"):
        for _ in growing.batches(0):
            pass


def test_a_resumed_run_does_not_see_its_rows_afresh() -> None:
    shelf = Shelf()
    shelf.put(2, 3)
    first = rows(shelf, epoch_rows=320)
    used = {int(row) for numbers, _ in first.batches(0) for row in numbers}
    state = first.state()
    assert (state["start"], state["held_out"], state["next"], state["used"]) == (START, HELD_OUT, 4, 320)
    shelf = Shelf()
    shelf.put(4)
    second = rows(shelf, epoch_rows=96)
    assert second.fingerprint() == first.fingerprint()
    second.resume(state)
    assert shelf.skipped == 4
    fresh = {int(row) for numbers, _ in second.batches(1) for row in numbers}
    assert fresh < set(range(400, 500))
    assert not fresh & used
    assert {int(row) for numbers, _ in second.batches(2) for row in numbers} - set(range(400, 500)) <= set(
        range(HELD_OUT, START)
    )
    assert second.used == 420


def chosen(
    shelf: Shelf,
    steps: dict[tuple[int, bool], float],
    *,
    threads: int = 4,
    left: float = 60.0,
    networks: int = 1,
) -> tuple[dict[str, Mapping[str, Any]], int, Shelf]:
    """arrange, where a step takes steps[threads, simulating] seconds and the shelf makes `rate` rows in each
    second that passes.
    """
    owed = 0.0

    def step(count: int, seconds: float, between: Any) -> float:
        nonlocal owed
        beside = between.__name__ == "pull"
        took = steps[count, beside and not shelf.workers]
        for _ in range(20):
            owed += took * shelf.rate / SIZE
            while owed >= 1:
                shelf.put(50)
                owed -= 1
            between()
        return took

    notes, terms = Notes(), Terms(steps[1, False], left, threads, networks)
    found = arrange(shelf, rows(shelf), step, terms, notes)  # type: ignore[arg-type]
    return {note.kind: note.values for note in notes}, found.threads, shelf


def test_where_to_simulate_follows_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sbi_flows.npe.online.throughput.usable_cores", lambda: 8)
    same = {(1, False): 0.01, (1, True): 0.0102, (4, False): 0.02, (4, True): 0.02}
    notes, threads, shelf = chosen(Shelf(61_000), same)
    rates = {"simulation": 61_000, "training": pytest.approx(3_140, rel=1e-3), "workers": 0, "fresh": 1.0}
    assert notes["rates"] == rates
    assert (threads, shelf.workers) == (1, 0)
    assert 10_000 < shelf.most_ahead < 15_000

    notes, threads, shelf = chosen(Shelf(61_000), {**same, (4, True): 0.005})
    assert threads == 4
    assert notes["threads"]["threads"] == 4
    assert notes["threads"]["steps_per_second"] == {"1": pytest.approx(98.04, rel=1e-3), "4": 200}

    notes, threads, shelf = chosen(Shelf(61_000), {**same, (1, True): 0.05})
    assert (threads, shelf.workers) == (1, 1)
    assert notes["simulator moved"] == {"starved": False, "times": pytest.approx(5)}

    for networks, slower, workers in ((1, 0.013, 1), (2, 0.013, 0), (2, 0.05, 1)):
        _, _, shelf = chosen(Shelf(61_000), {**same, (1, True): slower}, threads=1, networks=networks)
        assert shelf.workers == workers, "alongside other networks a thread may delay the steps by half"

    _, threads, shelf = chosen(Shelf(61_000), {**same, (1, True): 0.05, (4, False): 0.005}, networks=2)
    assert (threads, shelf.workers) == (4, 1), "one network is left, and may have all threads"
    _, threads, shelf = chosen(Shelf(61_000), {**same, (4, True): 0.005}, networks=2)
    assert (threads, shelf.workers) == (1, 0), "each network has its core"

    notes, _, shelf = chosen(Shelf(61_000, fails="it holds a lock."), {**same, (1, True): 0.05})
    assert shelf.workers == 0
    assert notes["simulator stays"]["error"] == "it holds a lock."
    assert notes["simulator stays"]["times"] == pytest.approx(5)

    notes, threads, shelf = chosen(Shelf(40), same)
    assert (threads, shelf.workers) == (1, 7)
    assert notes["rates"] == {"simulation": 280, "training": 3_200, "workers": 7, "fresh": 280 / 3_200}

    notes, _, shelf = chosen(Shelf(40), same, left=2.0)
    assert shelf.workers == 0
    assert notes["simulator stays"] == {"seconds_left": 2.0}


def test_a_thread_that_gets_no_turn_while_steps_are_taken_is_given_up() -> None:
    shelf = Shelf(61_000)
    shelf.put = lambda *numbers, bad=0: None  # type: ignore[method-assign]
    notes, _, _ = chosen(shelf, {(1, False): 0.01, (1, True): 0.01, (4, True): 0.01, (4, False): 0.01})
    assert notes["simulator moved"]["starved"]
    assert shelf.workers == 1


def test_the_clock_alone_ends_a_timed_run_and_more_rows_to_come_hold_out_more() -> None:
    assert training_for(5_000, timed=True).patience > 10_000
    assert training_for(5_000, timed=False).patience == TrainSettings().patience
    settings = TrainSettings()
    assert held_out_of_start(25_000, 500_000, settings) == 5_000
    assert held_out_of_start(2_000, 2_500, settings) == 250
    assert held_out_of_start(2_000, 50_000, settings) == 500
    assert held_out_of_start(50, 50, settings) == 10


def test_the_number_of_threads_comes_back() -> None:
    before, seen = torch.get_num_threads(), []

    def fail() -> None:
        with torch_threads(before + 1):
            seen.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [before + 1]
    assert torch.get_num_threads() == before
