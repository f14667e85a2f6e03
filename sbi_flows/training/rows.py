"""Where training rows come from and in what order, so that the loop need not know where they lie.

An epoch is a pass over the training rows or, where they are many, one of the equal pieces of a pass. Rows
that would not fill the last batch of an epoch wait for another pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbi_flows.errors import TooFewSimulationsError
from sbi_flows.rng import stream
from sbi_flows.training.settings import TrainSettings

Batch = tuple[NDArray[np.int64], tuple[Tensor, ...]]

LEAST_ROWS, LEAST_HELD_OUT = 50, 10


@runtime_checkable
class Rows(Protocol):
    """The rows of one training run.

    settings, seed: of the run; what comes in which order is a function of them and the epoch.
    steps: batches per epoch.
    valid: the held-out tensors, one row per simulation; valid_rows: their numbers.
    """

    settings: TrainSettings
    seed: int
    steps: int
    valid: tuple[Tensor, ...]
    valid_rows: NDArray[np.int64]

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The `steps` batches of an epoch: the numbers of the rows, and their tensors."""
        ...

    def fingerprint(self) -> str:
        """A text that identifies the rows and their order at these settings and seed. A checkpoint is bound
        to it.
        """
        ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold, in JSON, besides the epoch, so that another run can resume."""
        ...

    def resume(self, state: dict[str, Any]) -> None:
        """Resume from what `state` gave."""
        ...


@dataclass(frozen=True)
class Passes:
    """How a pass is cut: `pieces` epochs per pass, `steps` batches of `batch_size` rows per epoch."""

    pieces: int
    batch_size: int
    steps: int

    @classmethod
    def of(cls, n: int, settings: TrainSettings) -> Passes:
        """For n training rows."""
        pieces = -(-n // settings.epoch_rows)
        batch_size = min(settings.batch_size, n // pieces)
        return cls(pieces, batch_size, n // pieces // batch_size)


class TensorRows:
    """Rows in memory: tensors with one row per simulation. Raises `TooFewSimulationsError` below 50 rows."""

    def __init__(self, tensors: Sequence[Tensor], settings: TrainSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.tensors = tuple(tensors)
        self._train_rows, self.valid_rows = split_rows(len(tensors[0]), settings, seed)
        self._passes = Passes.of(len(self._train_rows), settings)
        self.steps = self._passes.steps
        self.valid = tuple(part[torch.from_numpy(self.valid_rows)] for part in tensors)

    def batches(self, epoch: int) -> Iterator[Batch]:
        number, piece = divmod(epoch, self._passes.pieces)
        whole_pass = stream(self.seed, "pass", number).permutation(self._train_rows)
        order = torch.from_numpy(np.array_split(whole_pass, self._passes.pieces)[piece])
        for i in range(self.steps):
            chosen = order[i * self._passes.batch_size : (i + 1) * self._passes.batch_size]
            yield chosen.numpy(), tuple(part[chosen] for part in self.tensors)

    def fingerprint(self) -> str:
        return digest(self.tensors)

    def state(self) -> dict[str, Any]:
        return {}

    def resume(self, state: dict[str, Any]) -> None:
        """Nothing to do: the order is a function of the epoch."""


def digest(tensors: Sequence[Tensor]) -> str:
    """The SHA-256 of the numbers, in hex."""
    sha = hashlib.sha256()
    for part in tensors:
        sha.update(np.ascontiguousarray(part.numpy(force=True)).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def split_rows(n: int, settings: TrainSettings, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A seeded split of n rows into training and held-out rows. Raises `TooFewSimulationsError` below 50
    rows.
    """
    held_out = held_out_count(n, settings)
    order = stream(seed, "split").permutation(n)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def held_out_count(n: int, settings: TrainSettings) -> int:
    """How many of n rows are held out. Raises `TooFewSimulationsError` below 50 rows."""
    if n < LEAST_ROWS:
        raise TooFewSimulationsError(
            f"{n} usable simulations are too few to train on; at least {LEAST_ROWS} are needed, thousands "
            f"are usual."
        )
    return min(max(int(n * settings.validation_share), LEAST_HELD_OUT), settings.validation_most)
