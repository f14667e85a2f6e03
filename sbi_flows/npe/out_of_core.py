"""Training rows from simulations that are larger than memory: a seeded shuffle buffer over their blocks.

A pass takes the blocks in a seeded order. As many as fill a buffer are read, verified, converted and permuted
together by one thread while the buffer before is trained on, so that two buffers are in memory besides the
rows kept apart, which are read once. What was converted in the first pass is read from a file of its own in
later ones (`npe.scratch`). The order is a function of the seed and the pass, so a run goes on from a
checkpoint as if nothing had happened.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor

from sbi_flows.files import fingerprint
from sbi_flows.machine import free_memory
from sbi_flows.npe.scratch import Scratch, place_for
from sbi_flows.rng import stream
from sbi_flows.simulation.failures import OK
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.training.checkpoint import recorded_rows
from sbi_flows.training.rows import Batch, Pace, digest, rows_apart
from sbi_flows.training.settings import TrainSettings

BUFFER_BYTES = 64_000_000
SAMPLE_ROWS = 20_000
FREE_SHARE = 0.25
_STREAMED = "read in buffers of "
_ROWS_AT_ONCE = 1024
_CHUNKS = 64

_Converted = tuple[NDArray[np.int64], tuple[NDArray[np.float32], ...]]
Convert = Callable[
    [Float[np.ndarray, "rows d"], Shaped[np.ndarray, " rows *event"]], tuple[NDArray[np.float32], ...]
]


def read_in_buffers(simulations: Simulations, dim: int, checkpoint: str | None) -> tuple[bool, str]:
    """Whether to train on `simulations`, with parameters in R^dim, from buffers, and why: their size, or what
    the checkpoint began with.
    """
    values = dim + int(np.prod(simulations.event_shape, dtype=np.int64))
    needed = simulations.n_bytes * (1 if simulations.ok.all() else 2) + 4 * len(simulations) * values
    free = free_memory()
    begun = recorded_rows(checkpoint)
    streamed = FREE_SHARE * free < needed if begun is None else begun.startswith(_STREAMED)
    place = place_for(4 * len(simulations) * values) if streamed else None
    kept = "" if place is None else f", their float32 copy kept in a file in {place} while training"
    how = f"{buffers_text()}{kept}" if streamed else "held in memory"
    if begun is not None:
        return streamed, f"simulations: {_size_text(simulations.n_bytes)}, {how}, as in the checkpoint"
    relation = "more" if streamed else "not more"
    whole = f"{_size_text(needed)} in memory with their copy in float32"
    return streamed, f"simulations: {whole}, {relation} than a quarter of the {_size_text(free)} free: {how}"


def buffers_text() -> str:
    """What is done with simulations that are too large."""
    return f"read in buffers of {_size_text(BUFFER_BYTES)}"


def _size_text(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.3g} MB"


class Split:
    """A seeded choice of usable rows to keep apart, made without a list of all rows; the others are for
    training.

    valid_rows: the rows kept apart, in order. counts: training rows of each block. Raises
    `TooFewSimulationsError` below 50 usable rows.
    """

    def __init__(self, simulations: Simulations, settings: TrainSettings, seed: int) -> None:
        self.simulations = simulations
        size, blocks = simulations.block_size, simulations.n_blocks
        usable = np.add.reduceat(simulations.codes == OK, size * np.arange(blocks), dtype=np.int64)
        n = int(usable.sum())
        places = np.sort(
            stream(seed, "split").choice(n, rows_apart(n, settings), replace=False, shuffle=False)
        )
        ends = np.cumsum(usable)
        block_of = np.searchsorted(ends, places, side="right")
        offsets = places - (ends - usable)[block_of]
        parts = [
            size * k + np.flatnonzero(self._codes(k) == OK)[offsets[block_of == k]]
            for k in np.unique(block_of)
        ]
        self.valid_rows: NDArray[np.int64] = np.concatenate(parts)
        self.counts: NDArray[np.int64] = usable - np.bincount(block_of, minlength=blocks)

    def __len__(self) -> int:
        return int(self.counts.sum())

    def train_rows(self, k: int) -> Int[np.ndarray, " rows"]:
        """The places in block k of its training rows."""
        start, codes = k * self.simulations.block_size, self._codes(k)
        chosen = codes == OK
        first, last = np.searchsorted(self.valid_rows, [start, start + len(codes)])
        chosen[self.valid_rows[first:last] - start] = False
        return np.flatnonzero(chosen)

    def sample(
        self, seed: int
    ) -> tuple[Float[np.ndarray, "rows d"], Shaped[np.ndarray, " rows *event"], Int[np.ndarray, " rows"]]:
        """theta, y and numbers of 20,000 training rows from blocks chosen by seed, or as many as a quarter of
        a buffer holds in float64.
        """
        row_bytes = 8 * (
            self.simulations.prior.d + int(np.prod(self.simulations.event_shape, dtype=np.int64))
        )
        wanted = min(SAMPLE_ROWS, max(BUFFER_BYTES // 4 // row_bytes, 1))
        parts: list[tuple[NDArray[Any], ...]] = []
        for k in map(int, stream(seed, "sample").permutation(len(self.counts))):
            if wanted <= 0:
                break
            chosen = self.train_rows(k)[:wanted]
            block = self.simulations.read_block(k)
            parts.append((block.theta[chosen], block.y[chosen], block.start + chosen))
            wanted -= len(chosen)
        theta, y, numbers = (np.concatenate(part) for part in zip(*parts, strict=True))
        return theta, y, numbers

    def _codes(self, k: int) -> NDArray[np.uint8]:
        size = self.simulations.block_size
        return self.simulations.codes[k * size : (k + 1) * size]


@dataclass(frozen=True, eq=False)
class _Buffer:
    """Permuted rows: buffer `index` of pass `number`, the first of which is row `start` of the pass."""

    number: int
    index: int
    start: int
    numbers: NDArray[np.int64]
    tensors: tuple[Tensor, ...]

    def cut(self, start: int, stop: int) -> Batch:
        """Rows start to stop of the pass, as far as they are here."""
        here = slice(start - self.start, stop - self.start)
        return self.numbers[here], tuple(part[here] for part in self.tensors)


class StreamedRows:
    """A `Rows` that reads blocks as it goes. Use it as a context: the thread and the file of converted rows
    end with it.

    convert(theta, y): the numbers to train on, one row a simulation; called by the thread that reads, once a
    block. `batches` raises what `Simulations.read_block` raises.
    """

    def __init__(self, split: Split, convert: Convert, settings: TrainSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self._split, self._convert, self._simulations = split, convert, split.simulations
        self.valid_rows = split.valid_rows
        parts = [convert(*self._simulations.gather(rows)) for rows in _pieces(self.valid_rows)]
        self.valid = tuple(torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
        self._pace = Pace.of(len(split), settings)
        self.steps = self._pace.steps
        self._row_bytes = 8 + sum(part[0].nbytes for part in self.valid)
        blocks_a_buffer = max(BUFFER_BYTES // (self._row_bytes * self._simulations.block_size), 1)
        self._buffers = -(-self._simulations.n_blocks // blocks_a_buffer)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="sbi_flows reader")
        self._closing = threading.Event()
        self._now: _Buffer | None = None
        self._ahead: tuple[tuple[int, int], Future[_Buffer]] | None = None
        self._scratch: Scratch | None = None

    def __enter__(self) -> StreamedRows:
        place = place_for(self._row_bytes * len(self._split))
        if place is not None:
            self._scratch = Scratch(self._split.counts, [part.shape[1:] for part in self.valid], place)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._reader.shutdown(cancel_futures=True)
        self._now = self._ahead = None
        if self._scratch is not None:
            self._scratch.close()

    def batches(self, epoch: int) -> Iterator[Batch]:
        number, piece = divmod(epoch, self._pace.pieces)
        first, size = piece * (len(self._split) // self._pace.pieces), self._pace.batch_size
        _, ends = self._order(number)
        for i in range(self.steps):
            yield self._rows(number, ends, first + i * size, first + (i + 1) * size)

    def fingerprint(self) -> str:
        campaign = {
            "simulator": self._simulations.simulator_name,
            "prior": self._simulations.prior.to_json(),
            "seed": self._simulations.seed,
            "block_size": self._simulations.block_size,
            "codes": digest([torch.from_numpy(self._simulations.codes)]),
            "valid": digest(self.valid),
        }
        return f"{_STREAMED}{BUFFER_BYTES} bytes: {fingerprint(campaign)}"

    def state(self) -> dict[str, Any]:
        return {}

    def go_on(self, state: dict[str, Any]) -> None:
        """The epoch says it all."""

    def _order(self, number: int) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
        """The blocks of each buffer of pass `number`, and the row of the pass with which each buffer ends."""
        blocks = np.array_split(
            stream(self.seed, "pass", number).permutation(self._simulations.n_blocks), self._buffers
        )
        return blocks, np.cumsum([self._split.counts[part].sum() for part in blocks])

    def _rows(self, number: int, ends: NDArray[np.int64], start: int, stop: int) -> Batch:
        """Rows start to stop of pass `number`, from one buffer or more."""
        whole = self._buffer(number, int(np.searchsorted(ends, start, side="right"))).cut(start, stop)
        while (missing := stop - start - len(whole[0])) > 0:
            whole = whole[0].copy(), tuple(part.clone() for part in whole[1])
            index = int(np.searchsorted(ends, stop - missing, side="right"))
            more = self._buffer(number, index).cut(stop - missing, stop)
            whole = (
                np.concatenate([whole[0], more[0]]),
                tuple(torch.cat(pair) for pair in zip(whole[1], more[1], strict=True)),
            )
        return whole

    def _buffer(self, number: int, index: int) -> _Buffer:
        """That buffer; the one after it is then read in the background."""
        if self._now is None or (self._now.number, self._now.index) != (number, index):
            ahead = (
                self._ahead[1]
                if self._ahead and self._ahead[0] == (number, index)
                else self._reader.submit(self._read, number, index)
            )
            self._now = self._ahead = None
            self._now = ahead.result()
            following = (number, index + 1) if index + 1 < self._buffers else (number + 1, 0)
            if following[0] * self._pace.pieces < self.settings.epochs:
                self._ahead = following, self._reader.submit(self._read, *following)
        return self._now

    def _read(self, number: int, index: int) -> _Buffer:
        blocks, ends = self._order(number)
        rows = int(self._split.counts[blocks[index]].sum())
        places = stream(self.seed, "buffer", number * self._buffers + index).permutation(rows)
        numbers = np.empty(rows, dtype=np.int64)
        arrays = [np.empty((rows, *part.shape[1:]), dtype=np.float32) for part in self.valid]
        at = 0
        for read, parts in self._chunks(blocks[index]):
            to = places[at : at + len(read)]
            numbers[to] = read
            for array, part in zip(arrays, parts, strict=True):
                array[to] = part
            at += len(read)
        return _Buffer(number, index, int(ends[index]) - rows, numbers, tuple(map(torch.from_numpy, arrays)))

    def _chunks(self, blocks: NDArray[np.int64]) -> Iterator[_Converted]:
        """Numbers and converted parts of the training rows of `blocks`, in their order; fewer on closing.

        What has to be converted is converted as many blocks together as fill a part of the buffer.
        """
        held: list[tuple[int, tuple[NDArray[Any], ...]]] = []
        rows = 0
        for k in map(int, blocks):
            if self._closing.is_set():
                return
            chosen = self._split.train_rows(k)
            numbers = k * self._simulations.block_size + chosen
            known = None if self._scratch is None else self._scratch.read(k)
            if held and (known is not None or rows * self._row_bytes >= BUFFER_BYTES // _CHUNKS):
                yield self._converted(held)
                held, rows = [], 0
            if known is not None:
                yield numbers, known
                continue
            block = self._simulations.read_block(k)
            whole = len(chosen) == len(block)
            held.append(
                (k, (*((part if whole else part[chosen]) for part in (block.theta, block.y)), numbers))
            )
            rows += len(chosen)
        if held:
            yield self._converted(held)

    def _converted(self, held: list[tuple[int, tuple[NDArray[Any], ...]]]) -> _Converted:
        theta, y, numbers = (np.concatenate(part) for part in zip(*(rows for _, rows in held), strict=True))
        parts = self._convert(theta, y)
        at = 0
        for k, rows in held:
            if self._scratch is not None:
                self._scratch.keep(k, tuple(part[at : at + len(rows[0])] for part in parts))
            at += len(rows[0])
        return numbers, parts


def _pieces(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[i : i + _ROWS_AT_ONCE] for i in range(0, len(rows), _ROWS_AT_ONCE)]
