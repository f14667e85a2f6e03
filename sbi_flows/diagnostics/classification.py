"""Are the class probabilities of a classifier calibrated? Tests on m held-out rows with known classes.

If p_ik is P(class k | row i), the class of row i is drawn from p_i. Three statistics, each with its exact
null distribution or a bound on its tail that holds for any m:

    confidence    sum_i log p_{i, k_i}, against its mean over k_i ~ p_i: low where probabilities are too
                  extreme, high where they are not extreme enough (the score test of a temperature)
    bias          the number of rows of each class, against sum_i p_ik
    reliability   in each bin of p_ik, the number of rows of class k: a sum of independent Bernoulli
                  variables, whose distribution is computed exactly

Tails of the first two are bounded by Chernoff, P(S >= x) <= exp(K(t) - t x) for every t, with K the cumulant
generating function of S: never below the true p-value. The largest size of a fault is the gain in log score
of the best temperature and biases on the same rows (Guo et al. 2017, 1706.04599; Brocker & Smith 2007 for
bands).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp

from sbi_flows.arrays import F
from sbi_flows.verdict import Level

FALSE_ALARM = 1e-4
BAND_LEVEL = 0.99
_EDGES = np.array([0.0, 0.01, 0.05, *np.linspace(0.1, 0.9, 9), 0.95, 0.99, 1.0])
_GROUPS = 3
_SLIGHT, _LARGE = 0.01, 0.05
_STEEPEST = 50.0
_NEWTON_STEPS, _RIDGE, _ENOUGH = 100, 1e-3, 1e-9


@dataclass(frozen=True)
class Reliability:
    """Of one class, in the bins of its probability that hold rows.

    predicted, observed (bins,): the mean probability and the share of rows of the class. low, high (bins,):
    the share lies between them in every bin of every class at once with probability 0.99 or more if the
    probabilities are right. counts (bins,): rows.
    """

    predicted: F
    observed: F
    low: F
    high: F
    counts: Int[np.ndarray, " bins"]

    @property
    def inside(self) -> bool:
        """Whether the curve stays in its band."""
        return bool(((self.observed >= self.low) & (self.observed <= self.high)).all())


@dataclass(frozen=True)
class ClassCalibration:
    """What the tests found.

    p: of all three together. confidence: observed minus expected log score per row, in nats; negative where
    the classifier is overconfident. gain: nats per row that the best temperature and biases gain on these
    rows. temperature: the best one; above 1 where the classifier is overconfident. curves: of each class.
    """

    n: int
    p: float
    confidence: float
    gain: float
    temperature: float
    curves: tuple[Reliability, ...]

    @property
    def level(self) -> Level:
        """At worst "do not trust"; "trust" unless a fault is significant and not slight."""
        if self.p > FALSE_ALARM or self.gain <= _SLIGHT:
            return "trust"
        return "caution" if self.gain <= _LARGE else "do not trust"


@dataclass(frozen=True)
class Scaling:
    """log p = log_softmax(beta l + b), beta = 1 / temperature, b_0 = 0.

    numbers: beta, b_1, ..., b_{K-1}. covariance: of these, from the Fisher information.
    """

    numbers: F
    covariance: F

    @classmethod
    def of(
        cls, logits: Float[np.ndarray, "m k"], labels: Int[np.ndarray, " m"], *, biases: bool = True
    ) -> Scaling:
        """The maximum of the likelihood, by Newton's method. Without biases the temperature alone."""
        logits = logits - logits.mean(axis=1, keepdims=True)
        rows, k = logits.shape
        design = np.concatenate([logits[:, :, None], np.broadcast_to(np.eye(k)[:, 1:], (rows, k, k - 1))], 2)
        free = np.arange(k if biases else 1)
        design, numbers = design[:, :, free], np.eye(k)[0, free]
        for _ in range(_NEWTON_STEPS):
            gradient, information = _derivatives(design, numbers, labels)
            gradient -= _RIDGE * (numbers - np.eye(k)[0, free])
            step = np.linalg.solve(information + _RIDGE * np.eye(len(free)), gradient).astype(np.float64)
            step *= _shortened(design, numbers, labels, step)
            numbers = numbers + step
            if np.abs(step).max() < _ENOUGH:
                break
        whole, covariance = np.zeros(k), np.zeros((k, k))
        _, information = _derivatives(design, numbers, labels)
        whole[free] = numbers
        covariance[np.ix_(free, free)] = np.linalg.inv(information + _RIDGE * np.eye(len(free)))
        return cls(whole, covariance)

    @classmethod
    def none(cls, k: int) -> Scaling:
        """The one that changes nothing."""
        return cls(np.eye(k)[0], np.zeros((k, k)))

    def __call__(self, logits: Float[np.ndarray, "*rows k"]) -> Float[np.ndarray, "*rows k"]:
        """Scaled logits, with mean 0 before the biases."""
        centred = logits - logits.mean(axis=-1, keepdims=True)
        return np.asarray(self.numbers[0] * centred + np.concatenate([[0.0], self.numbers[1:]]))

    def errors(self, logits: Float[np.ndarray, " k"]) -> Float[np.ndarray, "k k"]:
        """The covariance of the scaled logits of one row that comes from that of the numbers."""
        k = len(logits)
        design = np.column_stack([logits - logits.mean(), np.eye(k)[:, 1:]])
        return np.asarray(design @ self.covariance @ design.T)


def _derivatives(design: F, numbers: F, labels: Int[np.ndarray, " m"]) -> tuple[F, F]:
    """Of the log-likelihood: its gradient, and the information."""
    p = np.exp(log_softmax(design @ numbers, axis=1))
    mean = np.einsum("mk,mkd->md", p, design)
    gradient = design[np.arange(len(labels)), labels].sum(axis=0) - mean.sum(axis=0)
    second = np.einsum("mk,mkd,mke->de", p, design, design, optimize=True)
    return gradient, np.asarray(second - mean.T @ mean)


def _shortened(design: F, numbers: F, labels: Int[np.ndarray, " m"], step: F) -> float:
    """The largest of 1, 1/2, 1/4, ... at which the step does not lower the penalised likelihood."""
    rows, start = np.arange(len(labels)), np.eye(len(numbers))[0]

    def value(at: F) -> float:
        penalty = _RIDGE / 2 * float(np.square(at - start).sum())
        return float(log_softmax(design @ at, axis=1)[rows, labels].sum()) - penalty

    now, size = value(numbers), 1.0
    while size > 1e-6 and value(numbers + size * step) < now - 1e-12:
        size /= 2
    return size


def mean_log_score(logits: Float[np.ndarray, "m k"], labels: Int[np.ndarray, " m"]) -> float:
    """Mean log probability of the true classes, in nats."""
    return float(log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def check_classes(logits: Float[np.ndarray, "m k"], labels: Int[np.ndarray, " m"]) -> ClassCalibration:
    """Test the probabilities softmax(logits) of m held-out rows against their classes."""
    log_p = log_softmax(logits, axis=1)
    k = logits.shape[1]
    classes = range(k) if k > 2 else range(1)
    scores = log_p[np.arange(len(labels)), labels].sum()
    expected = float((np.exp(log_p) * log_p).sum())
    groups = [
        _chernoff(log_p, log_p, float(scores)),
        len(classes) * min(_of_bias(log_p, labels, j) for j in classes),
    ]
    counts = sum(len(_bins(np.exp(log_p[:, j]))) for j in classes)
    found = [_reliability(np.exp(log_p[:, j]), labels == j, counts) for j in range(k)]
    groups.append(counts * min(p for _, p in (found[j] for j in classes)))
    best = Scaling.of(logits, labels)
    return ClassCalibration(
        n=len(labels),
        p=float(min(1.0, _GROUPS * min(groups))),
        confidence=float((scores - expected) / len(labels)),
        gain=max(mean_log_score(best(logits), labels) - float(scores) / len(labels), 0.0),
        temperature=float(1 / best.numbers[0]) if best.numbers[0] > 0 else float("inf"),
        curves=tuple(curve for curve, _ in found),
    )


def _of_bias(log_p: F, labels: Int[np.ndarray, " m"], j: int) -> float:
    indicator = np.zeros_like(log_p)
    indicator[:, j] = 1.0
    return _chernoff(log_p, indicator, float((labels == j).sum()))


def _chernoff(log_p: F, values: F, x: float) -> float:
    """A bound on the two-sided p-value of sum_i values[i, k_i] = x under k_i ~ p_i."""
    offset = x - float((np.exp(log_p) * values).sum())
    values = values - (np.exp(log_p) * values).sum(axis=1, keepdims=True)

    def exponent(t: float) -> float:
        return float(logsumexp(log_p + t * values, axis=1).sum() - t * offset)

    ends = (0.0, _STEEPEST) if offset > 0 else (-_STEEPEST, 0.0)
    found = minimize_scalar(exponent, bounds=ends, method="bounded", options={"xatol": 1e-4})
    return float(min(1.0, 2 * np.exp(min(found.fun, 0.0))))


def _bins(p: F) -> list[Int[np.ndarray, " rows"]]:
    """The rows in each bin of p that holds any."""
    place = np.clip(np.searchsorted(_EDGES, p, side="right") - 1, 0, len(_EDGES) - 2)
    return [np.flatnonzero(place == b) for b in range(len(_EDGES) - 1) if (place == b).any()]


def _reliability(p: F, is_class: NDArray[np.bool_], comparisons: int) -> tuple[Reliability, float]:
    """The curve of one class, and the smallest two-sided p-value of a bin. comparisons: bins of all
    classes.
    """
    columns: list[Sequence[float]] = []
    smallest = 1.0
    for rows in _bins(p):
        chances, seen = bernoulli_sum(p[rows]), int(is_class[rows].sum())
        below, above = np.cumsum(chances), np.cumsum(chances[::-1])[::-1]
        smallest = min(smallest, 2 * float(min(below[seen], above[seen])))
        tail = (1 - BAND_LEVEL) / comparisons / 2
        low, high = int(np.argmax(below > tail)), int(len(rows) - np.argmax(above[::-1] > tail))
        n = len(rows)
        columns.append((float(p[rows].mean()), seen / n, low / n, high / n, n))
    predicted, observed, low_, high_, counts = np.array(columns, dtype=np.float64).T
    return Reliability(predicted, observed, low_, high_, counts.astype(np.int64)), smallest


def bernoulli_sum(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " counts"]:
    """The distribution of a sum of independent Bernoulli(p_i), at 0, ..., n."""
    chances = np.zeros(len(p) + 1)
    chances[0] = 1.0
    for i, chance in enumerate(p):
        chances[1 : i + 2] = chances[1 : i + 2] * (1 - chance) + chances[: i + 1] * chance
        chances[0] *= 1 - chance
    return chances
