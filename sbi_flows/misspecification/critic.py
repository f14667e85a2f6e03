"""The critic: a small classifier between simulated data sets and corrupted ones, of the kinds in
`corruptions`.

    p_0, ..., p_K = softmax(W_3 tanh(W_2 tanh(W_1 x + b_1) + b_2) + b_3)
    x = asinh((v(y) - median) / spread)

p_0 is the class of clean data. log (1 - p_0) / p_0 is the statistic: the log of the Bayes factor for
"corrupted, in one of K ways" up to a constant. Its distribution under the model is found on held-out
simulations, so a poorly trained critic costs power, never false alarms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import Tensor, nn

from sbi_flows.arrays import F
from sbi_flows.rng import stream, torch_scope
from sbi_flows.training.loop import TrainOptions, train
from sbi_flows.training.rows import TensorRows
from sbi_flows.training.settings import TrainSettings

_WIDTH = 64
_SETTINGS = TrainSettings(
    epochs=10, batch_size=512, learning_rate=1e-2, weight_decay=0.05, patience=4, averaging=0.99
)


@dataclass(frozen=True)
class Critic:
    """median, spread (k,): of v; weights: W_1, b_1, W_2, b_2, W_3, b_3."""

    median: F
    spread: F
    weights: tuple[F, ...]

    @classmethod
    def of(
        cls,
        clean: Float[np.ndarray, "n k"],
        corrupted: Float[np.ndarray, "m k"],
        kinds: Int[np.ndarray, " m"],
        seed: int,
        limit_seconds: float | None = None,
    ) -> Critic:
        """Train it on features v of simulations and of corrupted ones, of kinds 0, 1, ..."""
        low, median, high = np.quantile(clean, [0.1, 0.5, 0.9], axis=0)
        sd = clean.std(axis=0)
        spread = np.where(high > low, high - low, np.where(sd > 0, sd, 1.0))
        untrained = cls(median, spread, ())
        x = torch.from_numpy(untrained._inputs(np.concatenate([clean, corrupted])).astype(np.float32))
        labels = torch.from_numpy(np.concatenate([np.zeros(len(clean), dtype=np.int64), 1 + kinds]))
        classes = int(labels.max()) + 1
        with torch_scope(stream(seed, "critic")):
            first, second, last = (
                nn.Linear(x.shape[1], _WIDTH),
                nn.Linear(_WIDTH, _WIDTH),
                nn.Linear(_WIDTH, classes),
            )
            network = nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), last)
        rows = TensorRows((x, labels), _SETTINGS, seed)
        train(network, _cross_entropy, rows, TrainOptions(limit_seconds=limit_seconds))
        return cls(median, spread, tuple(p.detach().numpy().astype(np.float64) for p in network.parameters()))

    def log_odds(self, v: Float[np.ndarray, "rows k"]) -> Float[np.ndarray, " rows"]:
        """The statistic of each row of v."""
        logits = self._logits(v)
        return np.asarray(logsumexp(logits[:, 1:], axis=1) - logits[:, 0])

    def kind(self, v: Float[np.ndarray, " k"]) -> int:
        """The kind of corruption that one data set looks most like."""
        return int(np.argmax(self._logits(v[None])[0, 1:]))

    def _inputs(self, v: F) -> F:
        return np.asarray(np.arcsinh((v - self.median) / self.spread))

    def _logits(self, v: F) -> F:
        x = self._inputs(v)
        for i in range(0, len(self.weights), 2):
            x = x @ self.weights[i].T + self.weights[i + 1]
            x = np.tanh(x) if i + 2 < len(self.weights) else x
        return x

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The numbers, for a file."""
        weights = {f"weight_{i}": value for i, value in enumerate(self.weights)}
        return {"median": self.median, "spread": self.spread, **weights}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Critic:
        """What `arrays` gave."""
        weights = tuple(arrays[f"weight_{i}"] for i in range(len(arrays) - 2))
        return cls(arrays["median"], arrays["spread"], weights)


def _cross_entropy(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    x, labels = batch
    return nn.functional.cross_entropy(module(x), labels, reduction="none")
