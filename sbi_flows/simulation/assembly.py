"""Blocks, in whatever order they come in, put together as `Simulations`: in memory, or of a bank on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.problem.events import Events
from sbi_flows.problem.prior import Prior
from sbi_flows.simulation.failures import Failure
from sbi_flows.simulation.simulations import Block, Simulations

_MOST_RECORDS = 100


class Assembly:
    """The codes of each block, and a sample of the failures. theta and y stay where the blocks are."""

    def __init__(self) -> None:
        self._codes: dict[int, NDArray[np.uint8]] = {}
        self._records: dict[int, tuple[Failure, ...]] = {}
        self._kept = 0
        self._dtype: np.dtype[Any] = np.dtype(np.float32)

    @property
    def count(self) -> int:
        """How many blocks have come in."""
        return len(self._codes)

    def add(self, k: int, block: Block) -> None:
        """Note block k."""
        self._codes[k] = block.codes.copy()
        self._dtype = np.result_type(self._dtype, block.y.dtype)
        if block.failures:
            self._records[k] = block.failures
            self._kept += len(block.failures)
            while self._kept - len(self._records[last := max(self._records)]) >= _MOST_RECORDS:
                self._kept -= len(self._records.pop(last))

    def simulations(
        self,
        prior: Prior,
        campaign: dict[str, Any],
        source: Callable[[int], Block],
        n: int | None = None,
        arrays: tuple[F, NDArray[Any]] | None = None,
    ) -> Simulations:
        """The first n rows of blocks 0, 1, ..., all of which must have come in.

        source: gives block k. arrays: theta and y, where they are in memory.
        """
        codes = np.concatenate([self._codes[k] for k in range(self.count)])[:n]
        failures = [failure for k in sorted(self._records) for failure in self._records[k]]
        records = [failure for failure in failures if failure.row < len(codes)]
        return Simulations(
            prior=prior,
            codes=codes,
            event_shape=tuple(campaign["event_shape"]),
            dtype=self._dtype,
            seed=campaign["seed"],
            block_size=campaign["block_size"],
            simulator_name=campaign["simulator"],
            source=source,
            records=tuple(records[:_MOST_RECORDS]),
            arrays=arrays,
            made_of=Events.from_json(campaign["events"]) if "events" in campaign else None,
        )


class AssemblyInMemory(Assembly):
    """All of it: n rows in arrays that are made once, of which the blocks are then views."""

    def __init__(self, n: int, d: int, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self._theta = np.empty((n, d))
        self._y = np.empty((n, *event_shape), dtype=np.float32)
        self._blocks: dict[int, tuple[slice, tuple[str, ...], tuple[Failure, ...]]] = {}

    def add(self, k: int, block: Block) -> None:
        """Copy block k to its rows."""
        block = block.first(len(self._theta) - block.start)
        super().add(k, block)
        if self._y.dtype != self._dtype:
            self._y = self._y.astype(self._dtype) if self._blocks else np.empty(self._y.shape, self._dtype)
        rows = slice(block.start, block.start + len(block))
        self._theta[rows], self._y[rows] = block.theta, block.y
        self._blocks[k] = rows, block.kinds, block.failures

    def finished(self, prior: Prior, campaign: dict[str, Any]) -> Simulations:
        """The rows as `Simulations`."""
        theta, y, blocks, codes = self._theta, self._y, self._blocks, self._codes

        def source(k: int) -> Block:
            rows, kinds, failures = blocks[k]
            return Block(rows.start, theta[rows], y[rows], codes[k], kinds, failures)

        return self.simulations(prior, campaign, source, arrays=(theta, y))
