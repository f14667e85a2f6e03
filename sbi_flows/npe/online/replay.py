"""Training rows that are simulated while they are trained on.

A batch takes rows that no step has seen, as far as there are any, and replays seen rows for the rest: without
replacement, in a seeded order of those that are kept. With f fresh rows in a batch of b, each row is seen b /
f times: once where simulating is the faster of the two. What is fitted is then the expectation under p(theta,
y) itself, which cannot be overfitted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sbi_flows.errors import NonFiniteLossError
from sbi_flows.files import fingerprint, write_file
from sbi_flows.npe.design import Convert
from sbi_flows.rng import stream
from sbi_flows.simulation.campaign import InProcess, make_block
from sbi_flows.simulation.failures import OK
from sbi_flows.simulation.simulations import Block
from sbi_flows.simulation.supply import Supply
from sbi_flows.training.rows import Batch, digest
from sbi_flows.training.settings import TrainSettings

GROWING = "growing"
_REMAKING_SECONDS = 10.0


@dataclass(frozen=True, eq=False)
class StartRows:
    """The starting set, divided: numbers and tensors of the rows to train on and of those held out.

    count: rows of the starting set, with those that failed. kept_bytes: what rows that have been seen may
    take; the newest are kept.
    """

    train: Batch
    held_out: Batch
    count: int
    kept_bytes: int


class ReplayRows:
    """A `Rows` that never ends: an epoch is the next `steps` batches.

    convert: convert(theta, y) gives the numbers to train on, one row per simulation, as those of the starting
    set.
    used: rows that have been trained on; drawn: rows in all batches; failed: rows left out. `batches` never
    waits, and raises what ended the supply.
    """

    def __init__(self, supply: Supply, convert: Convert, settings: TrainSettings, start: StartRows) -> None:
        self.settings, self.seed = settings, supply.seed
        self.valid_rows, self.valid = start.held_out
        train = start.train
        self.batch_size = min(settings.batch_size, len(train[0]))
        self.steps = max(settings.epoch_rows // self.batch_size, 1)
        self.used = self.drawn = 0
        self.failed = start.count - len(train[0]) - len(self.valid_rows)
        self._supply, self._convert = supply, convert
        self._start = start.count
        self._next = 0
        order = stream(supply.seed, "pass", 0).permutation(len(train[0]))
        self._waiting: deque[Batch] = deque([_chosen(train, order)])
        self._kept = _Kept(train, start.kept_bytes, supply.seed)
        self._campaign = {} if supply.campaign is None else supply.campaign.to_json()

    @property
    def waiting(self) -> int:
        """Fresh rows that are ready."""
        return sum(len(numbers) for numbers, _ in self._waiting)

    def add(self, block: Block) -> None:
        """Queue the usable rows of a block."""
        self._next = max(self._next, self._supply.number(block) + 1)
        ok = np.flatnonzero(block.codes == OK)
        self.failed += len(block) - len(ok)
        if len(ok):
            tensors = tuple(map(torch.from_numpy, self._convert(block.theta[ok], block.y[ok])))
            self._waiting.append((block.start + ok, tensors))

    def pull(self, rows: int) -> int:
        """Get `rows` fresh rows ready, if they have been simulated; return how many there are."""
        while self.waiting < rows and (block := self._supply.take()) is not None:
            self.add(block)
        return self.waiting

    def batches(self, epoch: int) -> Iterator[Batch]:
        for _ in range(self.steps):
            fresh = self._fresh(min(self.batch_size, self.pull(self.batch_size)))
            missing = self.batch_size - sum(len(numbers) for numbers, _ in fresh)
            batch = _joined([*fresh, *self._kept.draw(missing)])
            for part in fresh:
                self._kept.add(part)
            self.used, self.drawn = self.used + self.batch_size - missing, self.drawn + self.batch_size
            yield batch

    def fingerprint(self) -> str:
        return (
            f"{GROWING} from {self._start} rows: "
            f"{fingerprint({**self._campaign, 'valid': digest(self.valid)})}"
        )

    def state(self) -> dict[str, Any]:
        return {
            "start": self._start,
            "held_out": len(self.valid_rows),
            "block_size": self._campaign.get("block_size"),
            "next": self._next,
            "used": self.used,
            "drawn": self.drawn,
            "failed": self.failed,
        }

    def resume(self, state: dict[str, Any]) -> None:
        self.used, self.drawn, self.failed, self._next = (
            int(state[key]) for key in ("used", "drawn", "failed", "next")
        )
        self._supply.skip_to(self._next)
        while len(self._waiting) > 1:
            self._waiting.pop()
        for seen in self._fresh(min(self.used, self.waiting)):
            self._kept.add(seen)

    def _fresh(self, rows: int) -> list[Batch]:
        """The next `rows` of the waiting rows."""
        parts: list[Batch] = []
        while rows > 0:
            numbers, tensors = self._waiting.popleft()
            parts.append((numbers[:rows], tuple(part[:rows] for part in tensors)))
            if len(numbers) > rows:
                self._waiting.appendleft((numbers[rows:], tuple(part[rows:] for part in tensors)))
            rows -= len(numbers)
        return parts


class _Kept:
    """Rows that have been seen. New ones replace the oldest; memory is taken only for what has been
    written.
    """

    def __init__(self, like: Batch, most_bytes: int, seed: int) -> None:
        row_bytes = 8 + sum(part[0].nbytes for part in like[1])
        self._most = max(most_bytes // row_bytes, len(like[0]))
        self._numbers = np.empty(self._most, dtype=np.int64)
        self._tensors = tuple(
            torch.from_numpy(np.empty((self._most, *part.shape[1:]), dtype=part.numpy().dtype))
            for part in like[1]
        )
        self._count, self._at, self._passes, self._seed = 0, 0, 0, seed
        self._order: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def add(self, rows: Batch) -> None:
        numbers, tensors = rows
        places = (self._at + np.arange(len(numbers))) % self._most
        self._numbers[places] = numbers
        for kept, part in zip(self._tensors, tensors, strict=True):
            kept[torch.from_numpy(places)] = part
        self._at = (self._at + len(numbers)) % self._most
        self._count = min(self._count + len(numbers), self._most)

    def draw(self, rows: int) -> list[Batch]:
        """The next rows of the order; when it is used up, a new one is drawn from all that are kept."""
        parts: list[Batch] = []
        while rows > 0:
            if not len(self._order):
                self._order = stream(self._seed, "replay", self._passes).permutation(self._count)
                self._passes += 1
            places, self._order = self._order[:rows], self._order[rows:]
            parts.append(_chosen((self._numbers, self._tensors), places))
            rows -= len(places)
        return parts


def save_rows(path: str, error: NonFiniteLossError, supply: Supply) -> None:
    """Write theta and y of the offending rows, simulated again, as many as a few seconds allow."""
    campaign = supply.campaign
    if campaign is None:
        return
    parts: list[tuple[NDArray[Any], ...]] = []
    began = time.monotonic()
    for k in np.unique(error.rows // campaign.block_size).tolist():
        if time.monotonic() - began > _REMAKING_SECONDS:
            break
        block = make_block(campaign, k, campaign.block_size, InProcess(campaign.simulator))
        places = error.rows[error.rows // campaign.block_size == k] - block.start
        parts.append((block.start + places, block.theta[places], block.y[places]))
    rows, theta, y = map(np.concatenate, zip(*parts, strict=True))
    write_file(path, {"rows": rows, "theta": theta, "y": y}, {"kind": "offending rows"})
    error.add_note(f"theta and y of those rows are in {path}.")


def _chosen(rows: Batch, places: NDArray[np.int64]) -> Batch:
    numbers, tensors = rows
    chosen = torch.from_numpy(places)
    return numbers[places], tuple(part[chosen] for part in tensors)


def _joined(parts: Sequence[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([numbers for numbers, _ in parts]), tuple(
        map(torch.cat, zip(*(tensors for _, tensors in parts), strict=True))
    )
