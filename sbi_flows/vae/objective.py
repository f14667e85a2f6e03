"""What an autoencoder is trained on: rows that carry their own noise and the weight of their KL, and the loss
of such a row.

    loss_i = -(mean_s log p(x_i | z_is) - beta KL_i)
    KL_i in closed form, or mean_s [log q(z_is | x_i) - log p(z_is)]

With `free_bits` f, the KL of each part (a dimension of a diagonal Gaussian; else all d together, then d f),
averaged over the batch, counts as f where it is lower: no latent dimension gains by being switched off.
Kingma et al. (2016), 1606.04934.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sbi_flows.arrays import F
from sbi_flows.errors import TooFewSimulationsError
from sbi_flows.rng import stream
from sbi_flows.training.rows import LEAST_ROWS, Batch, Passes, digest, split_rows
from sbi_flows.training.settings import TrainSettings
from sbi_flows.vae.network import Terms
from sbi_flows.vae.warmup import Warmup


class NoisyRows:
    """Rows of x with noise (rows, draws, d) and a KL weight (rows,): new noise in each epoch, always the same
    for held-out rows.

    valid: held-out rows, whose weight is 1; None takes a share of x.
    noise_shape: (draws, d).
    """

    def __init__(
        self,
        x: Tensor,
        valid: Tensor | None,
        settings: TrainSettings,
        seed: int,
        warmup: Warmup,
        noise_shape: tuple[int, int],
    ) -> None:
        self.settings, self.seed = settings, seed
        self._warmup, self._noise_shape = warmup, noise_shape
        if valid is None:
            train_rows, self.valid_rows = split_rows(len(x), settings, seed)
            x, valid = x[torch.from_numpy(train_rows)], x[torch.from_numpy(self.valid_rows)]
        else:
            self.valid_rows = np.arange(len(valid))
        self._x = x
        self._passes = Passes.of(len(x), settings)
        self.steps = self._passes.steps
        noise = self._noise(len(valid), "validation noise", 0)
        self.valid: tuple[Tensor, ...] = (valid, noise, torch.ones(len(valid)))

    def batches(self, epoch: int) -> Iterator[Batch]:
        number, piece = divmod(epoch, self._passes.pieces)
        whole_pass = stream(self.seed, "pass", number).permutation(len(self._x))
        order: NDArray[np.int64] = np.array_split(whole_pass, self._passes.pieces)[piece]
        size = self._passes.batch_size
        noise = self._noise(self.steps * size, "training noise", epoch)
        for i in range(self.steps):
            chosen = order[i * size : (i + 1) * size]
            weight = torch.full((size,), self._warmup.weight(epoch + i / self.steps))
            yield chosen, (self._x[torch.from_numpy(chosen)], noise[i * size : (i + 1) * size], weight)

    def fingerprint(self) -> str:
        return digest((self._x, *self.valid))

    def state(self) -> dict[str, Any]:
        return {}

    def resume(self, state: dict[str, Any]) -> None:
        """Nothing to do: the order is a function of the epoch."""

    def _noise(self, rows: int, name: str, index: int) -> Tensor:
        return torch.from_numpy(
            stream(self.seed, name, index).standard_normal((rows, *self._noise_shape), dtype=np.float32)
        )


def loss_with(free_bits: float) -> Callable[[nn.Module, tuple[Tensor, ...]], Tensor]:
    """The loss of each row of a batch, in nats. In evaluation the KL counts as it is."""

    def loss(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        x, noise, weight = batch
        terms: Terms = module(x, noise)
        kl = kl_parts(terms)
        if free_bits > 0 and module.training:
            each = free_bits * noise.shape[-1] / kl.shape[1]
            kl = kl.mean(dim=0, keepdim=True).clamp(min=each)
        return weight * kl.sum(dim=1) - terms.log_likelihood.mean(dim=1)

    return loss


def kl_parts(terms: Terms) -> Tensor:
    """KL(q || p) of each row, (rows, parts), in closed form where there is one, else estimated from the
    draws.
    """
    return terms.kl if terms.kl is not None else (terms.log_q - terms.log_prior).mean(dim=1, keepdim=True)


def in_float32(rows: F) -> Tensor:
    """The rows as the networks are trained on them."""
    return torch.from_numpy(rows.astype(np.float32))


def check_enough(n: int, held_out_share: bool) -> None:
    """Raise `TooFewSimulationsError` where n rows are too few to hold out a share of them."""
    if held_out_share and n < LEAST_ROWS:
        raise TooFewSimulationsError(
            f"{n} rows are too few to train on; at least {LEAST_ROWS} are needed, or pass x_valid too."
        )
