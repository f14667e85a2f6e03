"""ABC model choice: the shares of the models among the simulations nearest to the data.

The number of the model is one more parameter (Grelaud et al. 2009; Toni & Stumpf 2010). With c_k of N
accepted simulations, from n_k of model k,

    P(k | y)  proportional to  P(k) (c_k + 1/2) / n_k              (Jeffreys' prior on the shares)

and by regression (Beaumont 2008): k is regressed on the summaries of the accepted simulations by multinomial
logistic regression with Epanechnikov weights, and the probabilities are read at the observed summaries.
Distances are those of rejection ABC. Summaries that suffice within each model need not suffice between them
(Robert et al. 2011, PNAS 108:15112): then no number of simulations makes these probabilities right.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax

from sbi_flows.arrays import F
from sbi_flows.baselines.target import Target
from sbi_flows.comparison.models.choice import ModelChoice
from sbi_flows.comparison.models.pool import Pool
from sbi_flows.errors import ObservationError, TooFewSimulationsError

_LEAST_ACCEPTED, _FEW_NEAREST = 200, 200
_RIDGE, _STEPS, _ENOUGH = 1.0, 50, 1e-8


class Nearest:
    """The simulations of a pool nearest to the data.

    rows: their places, nearest first. distances: theirs, in median absolute deviations. summaries (N, k) less
    the observed ones.
    """

    def __init__(self, pool: Pool, target: Target, quantile: float) -> None:
        """Raises `TooFewSimulationsError`, and `ObservationError` for summaries that are not finite."""
        summaries, observed = target.summarise(pool.y), target.summaries
        finite = np.isfinite(summaries).all(axis=1)
        if not np.isfinite(observed).all() or not finite.any():
            raise ObservationError("the summaries of the observation, or of all simulations, are not finite.")
        n = int(finite.sum())
        accepted = max(int(np.ceil(quantile * n)), _LEAST_ACCEPTED)
        if accepted > n // 2:
            raise TooFewSimulationsError(f"{n:,} simulations are too few to accept {accepted} of them.")
        used = summaries[finite]
        deviations = np.abs(used - np.median(used, axis=0))
        mad = np.median(deviations, axis=0)
        mad = np.where(mad > 0, mad, deviations.mean(axis=0))
        offsets = (used - observed)[:, mad > 0] / mad[mad > 0]
        with np.errstate(over="ignore"):
            distances = np.sqrt(np.square(offsets).sum(axis=1))
        order = np.argsort(distances, kind="stable")
        chosen = order[:accepted]
        self.ranked = np.flatnonzero(finite)[order]
        self.rows, self.distances, self.summaries = self.ranked[:accepted], distances[chosen], offsets[chosen]
        self.labels, self.counts = pool.labels[self.rows], pool.counts

    def shares(self, prior: F) -> ModelChoice:
        """By counting."""
        accepted = np.bincount(self.labels, minlength=len(self.counts))
        covariance = np.diag(1 / (accepted + 0.5))
        facts = {"accepted": accepted.tolist(), "tolerance": float(self.distances[-1])}
        return ModelChoice(np.log((accepted + 0.5) / self.counts), covariance, prior, facts)

    def regressed(self, prior: F) -> ModelChoice:
        """By multinomial logistic regression. Raises `ObservationError` where no simulation is near."""
        tolerance = self.distances[-1]
        if not 0 < tolerance < np.inf:
            raise ObservationError("the nearest simulations are all equally far; nothing can be regressed.")
        kernel = 1 - np.square(self.distances / tolerance)
        logits, covariance = _logistic(self.summaries, self.labels, kernel, len(self.counts))
        return ModelChoice(logits - np.log(self.counts), covariance, prior, {"accepted": len(self.rows)})

    def nearest_of(self, pool: Pool, k: int) -> F:
        """y of the 200 simulations of model k that are nearest to the data."""
        rows = self.ranked[pool.labels[self.ranked] == k][:_FEW_NEAREST]
        return np.asarray(pool.y[rows], dtype=np.float64)


def _logistic(
    x: Float[np.ndarray, "n p"], labels: Int[np.ndarray, " n"], weights: Float[np.ndarray, " n"], k: int
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "k k"]]:
    """Logits at x = 0 of a regression on (1, x), the last class as reference, and their covariance.

    Slopes of standardised x have a normal prior of sd 1, which keeps them finite where classes are separated.
    """
    scale = x.std(axis=0)
    design = np.column_stack([np.ones(len(x)), (x / np.where(scale > 0, scale, 1.0))[:, scale > 0]])
    p = design.shape[1]
    penalty = np.tile([1e-2, *[_RIDGE] * (p - 1)], k - 1)
    is_class = np.eye(k)[labels]
    coefficients = np.zeros((k - 1, p))

    def value(at: F) -> float:
        logits = np.column_stack([design @ at.T, np.zeros(len(x))])
        log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        return float(weights @ (is_class * log_p).sum(axis=1)) - float(penalty @ np.square(at.ravel())) / 2

    hessian = np.diag(penalty)
    for _ in range(_STEPS):
        probabilities = softmax(np.column_stack([design @ coefficients.T, np.zeros(len(x))]), axis=1)
        residual = weights[:, None] * (is_class - probabilities)[:, :-1]
        gradient = (residual.T @ design).ravel() - penalty * coefficients.ravel()
        hessian = _information(design, probabilities[:, :-1], weights) + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient).reshape(k - 1, p)
        size = 1.0
        while size > 1e-6 and value(coefficients + size * step) < value(coefficients) - 1e-12:
            size /= 2
        coefficients = coefficients + size * step
        if np.abs(step).max() < _ENOUGH:
            break
    covariance = np.zeros((k, k))
    at_observation = np.arange(k - 1) * p
    covariance[:-1, :-1] = np.linalg.inv(hessian)[np.ix_(at_observation, at_observation)]
    return np.append(coefficients[:, 0], 0.0), covariance


def _information(design: F, probabilities: F, weights: F) -> F:
    """The information of all coefficients, class by class."""
    k, p = probabilities.shape[1], design.shape[1]
    found = np.empty((k * p, k * p))
    for a in range(k):
        for b in range(k):
            both = probabilities[:, a] * ((a == b) - probabilities[:, b]) * weights
            found[a * p : (a + 1) * p, b * p : (b + 1) * p] = design.T @ (both[:, None] * design)
    return found
