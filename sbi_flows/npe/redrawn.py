"""Training rows of which another part is observed each time that they are used.

    batch of (u, y)  ->  (u, what the network takes of observe(y))

The rows hold y as it was simulated. Gaps and lengths are drawn from the stream of the seed and the epoch, so
a run that is resumed sees the same ones. Those of the held-out rows are drawn once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbi_flows.files import fingerprint
from sbi_flows.npe.design import Design
from sbi_flows.rng import stream
from sbi_flows.training.rows import Batch, Rows
from sbi_flows.training.settings import TrainSettings


class RedrawnRows:
    """A `Rows` over others, whose tensors are u and y."""

    def __init__(self, rows: Rows, design: Design) -> None:
        self.rows, self._design = rows, design
        self.settings: TrainSettings = rows.settings
        self.seed: int = rows.seed
        self.valid_rows: NDArray[np.int64] = rows.valid_rows
        self.valid: tuple[Tensor, ...] = self._seen(rows.valid, stream(rows.seed, "observed held out"))

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return self.rows.steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self.rows.steps = steps

    def batches(self, epoch: int) -> Iterator[Batch]:
        rng = stream(self.seed, "observed", epoch)
        for numbers, tensors in self.rows.batches(epoch):
            yield numbers, self._seen(tensors, rng)

    def fingerprint(self) -> str:
        observe = self._design.observe
        return f"{self.rows.fingerprint()}; {fingerprint({'observe': observe and observe.to_json()})}"

    def state(self) -> dict[str, Any]:
        return self.rows.state()

    def resume(self, state: dict[str, Any]) -> None:
        self.rows.resume(state)

    def _seen(self, tensors: tuple[Tensor, ...], rng: np.random.Generator) -> tuple[Tensor, ...]:
        u, y = tensors
        return u, *map(torch.from_numpy, self._design.seen_of(y.numpy(), rng))


def as_seen(rows: Rows, design: Design) -> Rows:
    """The rows as the network takes them: with gaps redrawn, where the design has patterns."""
    return rows if design.observe is None else RedrawnRows(rows, design)
