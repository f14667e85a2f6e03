"""Summary networks s(y): scaled data in, a fixed number of features out; and the rule that chooses one.

    vector     residual perceptron plus a linear path:   s(y) = W y + MLP(y), of all columns or of those that
    passed a screen series     convolutions along time, mean and standard deviation over time, perceptron
    encoder    the summary network of an autoencoder, as it is, and a vector network of what it gives

The series network sees y through local windows and averages over time, so it suits data made by one process
along an axis. The
rule asks the simulations whether they are that: a long first axis whose neighbours depend on one another more
(or less) than distant steps do.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from sbi_flows.errors import SettingsError
from sbi_flows.nets.scaling import Scaler

SummaryKind = Literal["vector", "series", "encoder"]

_SHORTEST_SERIES = 25
_MOST_CHANNELS = 8
_LEAST_DEPENDENCE = 0.1
_ROWS_TO_LOOK_AT = 5000
_CHANNELS = (16, 32, 64)


class VectorSummary(nn.Module):
    """s(y) = W y + MLP(y), two residual blocks; the last layer of the MLP starts at zero. (rows, m) -> (rows,
    features).
    """

    def __init__(self, inputs: int, features: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, features)
        self.first = nn.Linear(inputs, hidden)
        self.blocks = nn.ModuleList([nn.Linear(hidden, hidden) for _ in range(2)])
        self.last = nn.Linear(hidden, features)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, y: Float[Tensor, "rows m"]) -> Float[Tensor, "rows features"]:
        h = nn.functional.silu(self.first(y))
        for block in self.blocks:
            h = h + nn.functional.silu(block(h))
        out: Tensor = self.linear(y) + self.last(h)
        return out


class ScreenedSummary(VectorSummary):
    """A `VectorSummary` of the columns that are `seen` (m,), 1 or 0: at first all of them. (rows, m) ->
    (rows, features).
    """

    seen: Tensor

    def __init__(self, inputs: int, features: int, hidden: int) -> None:
        super().__init__(inputs, features, hidden)
        self.register_buffer("seen", torch.ones(inputs))

    def forward(self, y: Float[Tensor, "rows m"]) -> Float[Tensor, "rows features"]:
        return super().forward(y * self.seen)


class SeriesSummary(nn.Module):
    """Convolution, max-pooling over 2 steps, two convolutions; mean and sd over time; perceptron; plus a
    `VectorSummary` of all values.

    The pooled part is blind to where in the series something happens; the vector part is there for designs
    where that matters. (rows, T, c) -> (rows, features).
    """

    def __init__(self, length: int, channels: int, features: int, hidden: int) -> None:
        super().__init__()
        self.direct = VectorSummary(length * channels, features, hidden)
        narrow, middle, wide = _CHANNELS
        self.convolutions = nn.Sequential(
            nn.Conv1d(channels, narrow, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(narrow, middle, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(middle, wide, 3, padding=1),
            nn.ReLU(),
        )
        self.norm = nn.LayerNorm(2 * wide)
        self.head = nn.Sequential(nn.Linear(2 * wide, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, features))

    def forward(self, y: Float[Tensor, "rows T c"]) -> Float[Tensor, "rows features"]:
        h = self.convolutions(y.transpose(1, 2))
        mean = h.mean(dim=-1)
        sd = (h - mean[..., None]).square().mean(dim=-1).add(1e-6).sqrt()
        out: Tensor = self.head(self.norm(torch.cat([mean, sd], dim=-1))) + self.direct(y.flatten(1))
        return out


class EncodedSummary(nn.Module):
    """s(y) = W e(y) + MLP(e(y)), e an encoder's network whose weights are not trained any more. (rows, m) ->
    (rows, features).
    """

    def __init__(self, encoder: VectorSummary, features: int, hidden: int) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).float().requires_grad_(False)
        self.head = VectorSummary(encoder.linear.out_features, features, hidden)

    def forward(self, y: Float[Tensor, "rows m"]) -> Float[Tensor, "rows features"]:
        out: Tensor = self.head(self.encoder(y))
        return out


@dataclass(frozen=True, eq=False)
class Learned:
    """An encoder's network, trained before and elsewhere, and the scaling of y that it was trained with."""

    encoder: VectorSummary
    scaler: Scaler

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Its numbers in, features and width."""
        return (
            self.encoder.linear.in_features,
            self.encoder.linear.out_features,
            self.encoder.first.out_features,
        )


def choose_summary(y: Shaped[np.ndarray, "n *event"]) -> tuple[SummaryKind, str]:
    """The kind of network for simulations y (n, *event), and the reason in words."""
    event = y.shape[1:]
    length, channels = (event[0] if event else 1), (event[1] if len(event) == 2 else 1)
    if not 1 <= len(event) <= 2 or length < _SHORTEST_SERIES or channels > _MOST_CHANNELS:
        return (
            "vector",
            f"of shape {event}, not a series of at least {_SHORTEST_SERIES} steps and at most "
            f"{_MOST_CHANNELS} channels",
        )
    near, far = _dependence(y[:_ROWS_TO_LOOK_AT].reshape(-1, length, channels))
    numbers = f"largest correlation of powers {near:.2f} between neighbours, {far:.2f} between distant steps"
    if near - far < _LEAST_DEPENDENCE:
        return "vector", f"{length} steps whose order does not show ({numbers})"
    return "series", f"{length} steps in time ({numbers})"


def build_summary(
    kind: str, shape: tuple[int, ...], *, features: int, hidden: int, learned: Learned | None = None
) -> nn.Module:
    """The network called `kind` for scaled events of `shape`, initialised from torch's generator in scope."""
    if learned is not None:
        return EncodedSummary(learned.encoder, features, hidden)
    if kind == "vector":
        return ScreenedSummary(shape[0], features, hidden)
    if kind == "series":
        return SeriesSummary(shape[0], shape[1], features, hidden)
    raise SettingsError(f"summary must be 'auto', 'vector' or 'series', got {kind!r}.")


def _dependence(y: Shaped[np.ndarray, "n T c"]) -> tuple[float, float]:
    """How much neighbouring and distant steps depend on one another beyond what the whole row shares.

    Ranks tame the tails; u is the rank less its mean over the row. The largest absolute mean correlation
    among (u, u), (u^2, u), (u, u^2), (u^2, u^2), because a chaotic map leaves no linear one.
    """
    ranks = rankdata(y, axis=0) / len(y)
    u = ranks - ranks.mean(axis=1, keepdims=True)
    powers = [_standard(u), _standard(np.square(u))]

    def at(lag: int) -> NDArray[np.float64]:
        return np.array([float((a[:, :-lag] * b[:, lag:]).mean()) for a in powers for b in powers])

    length = y.shape[1]
    distant = np.mean([at(lag) for lag in range(length // 3, length // 2)], axis=0)
    return float(np.abs(at(1)).max()), float(np.abs(distant).max())


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((values - values.mean(axis=0)) / (values.std(axis=0) + 1e-12))
