"""Training rows from simulations that are larger than memory: a seeded shuffle buffer over their blocks.

A pass takes the blocks in a seeded order. While one buffer is trained on, a thread reads, verifies, converts
and permutes the blocks of the next, so two buffers are in memory besides the held-out rows, which are read
once. The order is a function of the seed and the pass, so a run resumes from a checkpoint as if nothing had
happened.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
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
from sbi_flows.npe.design import Convert
from sbi_flows.rng import stream
from sbi_flows.simulation.failures import OK
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.training.checkpoint import recorded_rows
from sbi_flows.training.rows import Batch, Passes, digest, held_out_count
from sbi_flows.training.settings import TrainSettings

BUFFER_BYTES = 64_000_000
SAMPLE_ROWS = 20_000
FREE_SHARE = 0.25
_STREAMED = "read in buffers of "
_ROWS_AT_ONCE = 1024
_CHUNKS = 64

_Converted = tuple[NDArray[np.int64], tuple[NDArray[np.float32], ...]]


def read_in_buffers(
    simulations: Simulations, dim: int, checkpoint: str | None, declared: int = 0
) -> tuple[bool, dict[str, Any]]:
    """Whether to train on `simulations`, with parameters in R^dim and `declared` declared summaries, from
    buffers; and the values of the note that says why: their size, or what the checkpoint began with.
    """
    values = dim + int(np.prod(simulations.event_shape, dtype=np.int64)) + declared
    needed = simulations.n_bytes * (1 if simulations.ok.all() else 2) + 4 * len(simulations) * values
    free, begun = free_memory(), recorded_rows(checkpoint)
    streamed = FREE_SHARE * free < needed if begun is None else begun.startswith(_STREAMED)
    return streamed, {"buffers": streamed, "needed": needed, "free": free, "checkpoint": begun is not None}


class Split:
    """A seeded choice of held-out rows, made without a list of all rows; the other usable rows are for
    training.

    valid_rows: the held-out rows, in order. counts: training rows per block. Raises `TooFewSimulationsError`
    below 50 usable rows.
    """

    def __init__(self, simulations: Simulations, settings: TrainSettings, seed: int) -> None:
        self.simulations = simulations
        size, blocks = simulations.block_size, simulations.n_blocks
        usable = np.add.reduceat(simulations.codes == OK, size * np.arange(blocks), dtype=np.int64)
        n = int(usable.sum())
        places = np.sort(
            stream(seed, "split").choice(n, held_out_count(n, settings), replace=False, shuffle=False)
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
        """theta, y and numbers of 20,000 training rows from blocks chosen by seed, or as many as fill a
        quarter of a buffer.
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
    """A `Rows` that reads blocks as they are needed. Use it as a context: its thread ends with it.

    convert: convert(theta, y) gives the numbers to train on, one row per simulation; the reading thread calls
    it. `batches` raises what `Simulations.read_block` raises.
    """

    def __init__(self, split: Split, convert: Convert, settings: TrainSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self._split, self._convert, self._simulations = split, convert, split.simulations
        self.valid_rows = split.valid_rows
        parts = [convert(*self._simulations.gather(rows)) for rows in _pieces(self.valid_rows)]
        self.valid = tuple(torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
        self._passes = Passes.of(len(split), settings)
        self.steps = self._passes.steps
        self._row_bytes = 8 + sum(part[0].nbytes for part in self.valid)
        blocks_per_buffer = max(BUFFER_BYTES // (self._row_bytes * self._simulations.block_size), 1)
        self._buffers = -(-self._simulations.n_blocks // blocks_per_buffer)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="sbi_flows reader")
        self._closing = threading.Event()
        self._now: _Buffer | None = None
        self._ahead: tuple[tuple[int, int], Future[_Buffer]] | None = None

    def __enter__(self) -> StreamedRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._reader.shutdown(cancel_futures=True)
        self._now = self._ahead = None

    def batches(self, epoch: int) -> Iterator[Batch]:
        number, piece = divmod(epoch, self._passes.pieces)
        first, size = piece * (len(self._split) // self._passes.pieces), self._passes.batch_size
        _, ends = self._order(number)
        for i in range(self.steps):
            yield self._rows(number, ends, first + i * size, first + (i + 1) * size)

    def fingerprint(self) -> str:
        campaign = {
            "simulator": self._simulations.simulator_name,
            "prior": self._simulations.prior.to_json(maps=True),
            "seed": self._simulations.seed,
            "block_size": self._simulations.block_size,
            "codes": digest([torch.from_numpy(self._simulations.codes)]),
            "valid": digest(self.valid),
        }
        return f"{_STREAMED}{BUFFER_BYTES} bytes: {fingerprint(campaign)}"

    def state(self) -> dict[str, Any]:
        return {}

    def resume(self, state: dict[str, Any]) -> None:
        """Nothing to do: the order is a function of the epoch."""

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
            if self._ahead is None or self._ahead[0] != (number, index):
                self._ahead = (number, index), self._reader.submit(self._read, number, index)
            ahead, self._now, self._ahead = self._ahead[1], None, None
            self._now = ahead.result()
            following = (number, index + 1) if index + 1 < self._buffers else (number + 1, 0)
            if following[0] * self._passes.pieces < self.settings.epochs:
                self._ahead = following, self._reader.submit(self._read, *following)
        return self._now

    def _read(self, number: int, index: int) -> _Buffer:
        blocks, ends = self._order(number)
        rows = int(self._split.counts[blocks[index]].sum())
        places = stream(self.seed, "buffer", number * self._buffers + index).permutation(rows)
        numbers = np.empty(rows, dtype=np.int64)
        arrays = [np.empty((rows, *part.shape[1:]), dtype=part.numpy().dtype) for part in self.valid]
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

        As many blocks are converted together as fill a part of the buffer.
        """
        held: list[tuple[NDArray[Any], ...]] = []
        rows = 0
        for k in map(int, blocks):
            if self._closing.is_set():
                return
            if held and rows * self._row_bytes >= BUFFER_BYTES // _CHUNKS:
                yield self._converted(held)
                held, rows = [], 0
            chosen, block = self._split.train_rows(k), self._simulations.read_block(k)
            whole = len(chosen) == len(block)
            parts = ((part if whole else part[chosen]) for part in (block.theta, block.y))
            held.append((*parts, block.start + chosen))
            rows += len(chosen)
        if held:
            yield self._converted(held)

    def _converted(self, held: list[tuple[NDArray[Any], ...]]) -> _Converted:
        theta, y, numbers = (np.concatenate(part) for part in zip(*held, strict=True))
        return numbers, self._convert(theta, y)


def _pieces(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[i : i + _ROWS_AT_ONCE] for i in range(0, len(rows), _ROWS_AT_ONCE)]
