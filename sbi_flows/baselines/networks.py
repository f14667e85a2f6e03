"""Regression by networks, of unconstrained parameters z (n, d) on summaries x (n, k), with weights K. Of what
ridge leaves, r: a mean m(x) and, where asked, a standard deviation s(x), by

    argmin sum_i K_i (log s(x_i) + (r_i - m(x_i))^2 / (2 s(x_i)^2))

(Blum & Francois 2010, Statistics and Computing 20:63), both averaged over networks that begin at, and hold
out, different random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.arrays import F
from sbi_flows.baselines.regression import Linear, fit_ridge
from sbi_flows.machine import torch_defaults, torch_threads
from sbi_flows.rng import stream, torch_scope
from sbi_flows.training.loop import train
from sbi_flows.training.rows import TensorRows
from sbi_flows.training.settings import TrainSettings

_HIDDEN, _STEPS, _BATCH, _MOST_EPOCHS = 32, 1500, 128, 100
_MOST_LOG_SD = 5.0


class _Network(nn.Module):
    """x -> (m(x), log s(x)), both 0 at first."""

    def __init__(self, k: int, d: int, layers: int) -> None:
        super().__init__()
        widths = [k, *[_HIDDEN] * layers]
        steps: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            steps += [nn.Linear(narrow, wide), nn.SiLU()]
        self.body, self.last = nn.Sequential(*steps), nn.Linear(_HIDDEN, 2 * d)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_sd = self.last(self.body(x)).chunk(2, dim=-1)
        return mean, _MOST_LOG_SD * torch.tanh(log_sd / _MOST_LOG_SD)


@dataclass(frozen=True, eq=False)
class Networks:
    """The mean of z, and how much wider it is at one x than at another.

    first: the linear part. unit (d,): the sd of what it leaves. centre, spread (k,): of x.
    """

    first: Linear
    unit: F
    centre: F
    spread: F
    members: tuple[_Network, ...]

    def __call__(
        self, x: Float[np.ndarray, "n k"]
    ) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
        """The mean and log s of each row."""
        scaled = torch.from_numpy((x - self.centre) / self.spread).float()
        with torch_defaults(), torch_threads(1), torch.inference_mode():
            found = [member(scaled) for member in self.members]
            mean, log_sd = (
                torch.stack(part).mean(dim=0).double().numpy() for part in zip(*found, strict=True)
            )
        return self.first(x) + mean * self.unit, log_sd + np.log(self.unit)

    def mean(self, x: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n d"]:
        """The mean of each row."""
        return self(x)[0]


def fit_networks(
    x: F, z: F, weights: F, seed: int, *, members: int, spreads: bool, layers: int = 1
) -> Networks:
    """seed: of the weights of the networks, and of what they hold out. spreads: whether s(x) is learned, or
    one.

    Raises `TooFewSimulationsError` below 50 rows.
    """
    first = fit_ridge(x, z, weights)
    share = weights / weights.sum()
    left = z - first(x)
    unit = np.sqrt(share @ np.square(left))
    unit = np.where(unit > 0, unit, 1.0)
    centre = share @ x
    spread = np.sqrt(share @ np.square(x - centre))
    spread = np.where(spread > 0, spread, 1.0)
    arrays = ((x - centre) / spread, left / unit, (share * len(share))[:, None])
    with torch_defaults(), torch_threads(1):
        rows = tuple(torch.from_numpy(part).float() for part in arrays)
        networks = tuple(_trained(rows, seed, i, spreads, layers) for i in range(members))
    return Networks(first, unit, centre, spread, networks)


def _trained(rows: tuple[Tensor, ...], seed: int, member: int, spreads: bool, layers: int) -> _Network:
    rng = stream(seed, "regression", member)
    with torch_scope(rng):
        network = _Network(rows[0].shape[1], rows[1].shape[1], layers)
    epochs = int(np.clip(_STEPS * _BATCH // len(rows[0]), 10, _MOST_EPOCHS))
    settings = TrainSettings(
        epochs=epochs, batch_size=_BATCH, optimiser="adamw", averaging=0.98, patience=15, weight_decay=1e-3
    )

    def loss(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        inputs, wanted, weight = batch
        mean, log_sd = module(inputs)
        if spreads:
            each = log_sd + 0.5 * torch.square((wanted - mean) * torch.exp(-log_sd))
        else:
            each = 0.5 * torch.square(wanted - mean)
        total: Tensor = (weight * each).sum(dim=-1)
        return total

    train(network, loss, TensorRows(rows, settings, int(rng.integers(2**31))))
    return network
