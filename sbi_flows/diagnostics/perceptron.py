"""The classifier of the two-sample test: perceptrons with two hidden layers, one per fold, trained together.

    p(1 | x) = logistic(w3 relu(W2 relu(W1 x + b1) + b2) + b3)
    loss     = mean over a batch of m rows of -log p(label | x), + alpha / (2 m) (|W1|^2 + |W2|^2 + |w3|^2)

This is the `MLPClassifier` of scikit-learn with its default settings, which Lueckmann et al. (2021,
2101.04653) use: Adam (Kingma & Ba 2015) at a rate of 0.001, batches of 200, alpha = 1e-4, uniform starting
values (Glorot & Bengio 2010), a new order of the rows each epoch, and the same random numbers for both. A
fold stops once more than 10 epochs in a row have a mean loss that is not 1e-4 below the best before. In
float64 the weights equal those of scikit-learn up to rounding. In float32, with all folds in one product, an
epoch takes a third of the time or less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbi_flows.arrays import F

Rows = NDArray[np.int64]
_BATCH, _RATE, _BETA_1, _BETA_2, _EPSILON = 200, 1e-3, 0.9, 0.999, 1e-8
_ALPHA, _TOLERANCE, _PATIENCE = 1e-4, 1e-4, 10

_FAR = 1e6  # beyond it the squares of gradients can overflow in float32

_slope_of_threshold = torch.ops.aten.threshold_backward


@dataclass
class _Weights:
    """Weights, gradients and moments of K perceptrons, each in one vector with a view per layer."""

    flat: Tensor
    gradient: Tensor
    first: Tensor
    second: Tensor
    sizes: tuple[int, ...]
    folds: int

    @classmethod
    def start(
        cls, sizes: tuple[int, ...], folds: int, orders: np.random.RandomState, dtype: torch.dtype
    ) -> _Weights:
        """Every fold starts from the same values: a layer's matrix (in, out), then its offset (out,)."""
        parts = []
        for rows, columns in pairwise(sizes):
            bound = np.sqrt(6 / (rows + columns))
            for shape in ((rows, columns), (1, columns)):
                value = torch.from_numpy(orders.uniform(-bound, bound, shape)).to(dtype)
                parts.append(value.expand(folds, *shape).reshape(-1))
        flat = torch.cat(parts)
        zeros = [torch.zeros_like(flat) for _ in range(3)]
        return cls(flat, zeros[0], zeros[1], zeros[2], sizes, folds)

    def views(self, of: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(matrix (K, in, out), offset (K, 1, out)) of each layer."""
        found, at = [], 0
        for rows, columns in pairwise(self.sizes):
            pair = []
            for height in (rows, 1):
                count = self.folds * height * columns
                pair.append(of[at : at + count].view(self.folds, height, columns))
                at += count
            found.append((pair[0], pair[1]))
        return found

    def keep(self, kept: Tensor) -> _Weights:
        """Those of the folds `kept` (K,) alone."""
        fewer = [
            torch.cat([part[kept].reshape(-1) for pair in self.views(of) for part in pair])
            for of in (self.flat, self.gradient, self.first, self.second)
        ]
        return _Weights(fewer[0], fewer[1], fewer[2], fewer[3], self.sizes, int(kept.sum()))

    def step(self, t: int) -> None:
        """Adam's step t = 1, 2, ... along the gradient."""
        rate = _RATE * np.sqrt(1 - _BETA_2**t) / (1 - _BETA_1**t)
        self.first.lerp_(self.gradient, 1 - _BETA_1)
        self.second.mul_(_BETA_2).addcmul_(self.gradient, self.gradient, value=1 - _BETA_2)
        self.flat.addcdiv_(self.first, self.second.sqrt().add_(_EPSILON), value=-rate)


def held_out_accuracies(
    rows: F, labels: Rows, folds: Sequence[tuple[Rows, Rows]], *, width: int, seed: int
) -> F:
    """The share of right answers on the held-out rows of each fold, (K,).

    rows (n, d); labels (n,), 0 or 1; folds: (rows to train on, rows held out). In float32, and in float64
    where a value exceeds 10^6.
    """
    dtype = torch.float32 if np.abs(rows).max() <= _FAR else torch.float64
    accuracies = np.empty(len(folds))
    sizes = np.array([len(train) for train, _ in folds])
    for size in np.unique(sizes):  # folds of one size are trained together
        chosen = np.flatnonzero(sizes == size).tolist()
        weights = fit(rows, labels, np.stack([folds[k][0] for k in chosen]), width, seed, dtype=dtype)
        for k, layers in zip(chosen, weights, strict=True):
            accuracies[k] = np.mean((_logits(rows[folds[k][1]], layers) > 0) == (labels[folds[k][1]] == 1))
    return accuracies


def fit(
    rows: F,
    labels: Rows,
    chosen: Rows,
    width: int,
    seed: int,
    *,
    dtype: torch.dtype = torch.float32,
    max_epochs: int = 10_000,
) -> list[list[tuple[F, F]]]:
    """(matrix, offset) of each layer of K perceptrons; number k learns from the rows chosen[k]."""
    x = torch.from_numpy(rows[chosen]).to(dtype)
    y = torch.from_numpy(labels[chosen]).to(dtype)[..., None]
    n, orders = chosen.shape[1], np.random.RandomState(seed)
    weights = _Weights.start((rows.shape[1], width, width, 1), len(chosen), orders, dtype)
    finished: dict[int, list[tuple[F, F]]] = {}
    running = np.arange(len(chosen))
    best, stale, order, t = np.full(len(chosen), np.inf), np.zeros(len(chosen), dtype=int), np.arange(n), 0
    for epoch in range(1, max_epochs + 1):
        shuffled = np.arange(n)
        orders.shuffle(shuffled)
        order = order[shuffled]
        places = torch.from_numpy(order)
        losses = _epoch(weights, x.index_select(1, places), y.index_select(1, places), t) / n
        t += -(-n // _BATCH)
        stale = np.where(losses <= best - _TOLERANCE, 0, stale + 1)
        best = np.fmin(best, losses)
        done = (stale > _PATIENCE) | (epoch == max_epochs)
        if done.any():
            layers = weights.views(weights.flat)
            for k in np.flatnonzero(done):
                finished[int(running[k])] = [
                    (w[k].double().numpy(), b[k, 0].double().numpy()) for w, b in layers
                ]
            if done.all():
                break
            kept = torch.from_numpy(~done)
            weights, x, y = weights.keep(kept), x[kept], y[kept]
            running, best, stale = running[~done], best[~done], stale[~done]
    return [finished[k] for k in range(len(chosen))]


def _epoch(weights: _Weights, x: Tensor, y: Tensor, t: int) -> F:
    """One pass over x (K, n, d) and y (K, n, 1); n times the mean loss of each fold, (K,), along the way."""
    (w1, b1), (w2, b2), (w3, b3) = weights.views(weights.flat)
    slopes = weights.views(weights.gradient)
    limit = float(-np.log(torch.finfo(x.dtype).eps))
    total = torch.zeros(len(x), dtype=x.dtype)
    for start in range(0, x.shape[1], _BATCH):
        t += 1
        x_0, label = x[:, start : start + _BATCH], y[:, start : start + _BATCH]
        x_1 = torch.baddbmm(b1, x_0, w1).relu_()
        x_2 = torch.baddbmm(b2, x_1, w2).relu_()
        logit = (x_2 * w3.mT).sum(dim=2, keepdim=True) + b3  # quicker than a product with one column
        right = logit * (2 * label - 1)
        total += torch.nn.functional.softplus(-right.clamp_(-limit, limit)).sum(dim=(1, 2))
        delta = logit.sigmoid_().sub_(label).div_(x_0.shape[1])
        delta_2 = _slope_of_threshold(delta * w3.mT, x_2, 0)
        delta_1 = _slope_of_threshold(torch.bmm(delta_2, w2.mT), x_1, 0)
        decay = _ALPHA / x_0.shape[1]
        torch.baddbmm(w1, x_0.mT, delta_1, beta=decay, out=slopes[0][0])
        torch.baddbmm(w2, x_1.mT, delta_2, beta=decay, out=slopes[1][0])
        torch.sum(x_2 * delta, dim=1, out=slopes[2][0][..., 0]).add_(w3[..., 0], alpha=decay)
        for above, (_, slope) in zip((delta_1, delta_2, delta), slopes, strict=True):
            torch.sum(above, dim=1, keepdim=True, out=slope)
        total += 0.5 * _ALPHA * sum(w.square().sum(dim=(1, 2)) for w in (w1, w2, w3))
        weights.step(t)
    return total.double().numpy()


def _logits(rows: F, layers: list[tuple[F, F]]) -> F:
    """The logit of label 1 for each row, (n,)."""
    values = rows
    for place, (matrix, offset) in enumerate(layers):
        values = values @ matrix + offset
        if place < len(layers) - 1:
            values = np.maximum(values, 0)
    return values[:, 0]
