"""Is a posterior as narrow as the data allow, or does its network limit it? A bet against q.

A network of finite size and training resolves a parameter to about a hundredth or a thousandth of the prior.
Where the data say more, q can be calibrated over the prior and yet far too wide. Other simulations near y
show it. A linear regression on the k nearest of them, in c coordinates x(y),

    theta_j = b_0 + b' (x - x(y)) + e,      R(theta_j | y) = t_{k-c-1}(b_0, s^2 (1 + h)),

has a spread s that is an upper bound, up to its error, on that of p(theta_j | y): the noise of the simulator
and the curvature inside the window both add to it. So where R is much narrower than q, and predicts the truth
well, q is too wide. Let theta_0 be the truth and theta_1, ..., theta_L draws of q. If q is the posterior,
these L + 1 are exchangeable given y, so

    e = (L + 1) R(theta_0 | y) / sum_{l=0}^{L} R(theta_l | y)      has      E[e | y] = 1      exactly,

whatever R is, as long as it was not told which is the truth. The bet is made where R has less than 0.7 times
the spread of the L + 1 values; elsewhere e = 1. Then by Markov's inequality

    P(prod_i e_i >= 1 / alpha) <= alpha     (test by betting: Shafer 2021, doi:10.1111/rssa.12647)

over data sets that R was not fitted to, with no approximation. A regression that predicts badly, as in many
dimensions, is wide and does not bet: it accuses nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import skew
from scipy.stats import t as student

from sbi_flows.arrays import F

NEAREST = 10
LARGE = 3.0
_TUNING_ROWS, _TUNED_OF, _LEAST_KNOWN = 200, 5, 40
_FEW_COLUMNS = 6
_NUMBERS_AT_ONCE = 2_000_000
_NARROWER, _KEPT = 0.7, 0.05
_SKEWED, _LOWEST_SCORES = 1.5, 0.05
_PENALTIES = np.concatenate([[0.0], 10.0 ** np.arange(-8, 2)])
_TINY, _ROUNDING = 1e-300, 1e-9
_ONE_SD = (0.16, 0.84)


class Simulated(NamedTuple):
    """Simulations: theta (m, d), and of their data one or more arrays of features (m, k), all finite."""

    theta: Float[np.ndarray, "m d"]
    features: Sequence[Float[np.ndarray, "m k"]]

    def rows(self, chosen: NDArray[np.bool_]) -> Simulated:
        """Some of them."""
        return Simulated(self.theta[chosen], [x[chosen] for x in self.features])


@dataclass(frozen=True, eq=False)
class Resolution:
    """How well q resolves one parameter.

    log_e (m,): log e of each data set, 0 where there was no bet.
    evidence: the log of an e-value of all, in nats; q is the posterior with p <= exp(-evidence).
    bets: the fraction of data sets where R bets.
    factor: how many times as wide q is there as the errors of R (the half-width that holds 68%, of both); 1
        where it never bets.
    """

    quantity: str
    log_e: Float[np.ndarray, " m"]
    evidence: float
    bets: float
    factor: float

    @property
    def p(self) -> float:
        """If q is the posterior, so much evidence has at most this probability."""
        return float(np.exp(-max(self.evidence, 0.0)))


def resolution(
    known: Simulated, tested: Simulated, draws: Float[np.ndarray, "m n d"], names: Sequence[str]
) -> list[Resolution]:
    """Bets of R, fitted to `known`, on `tested`, for each parameter. draws: of q, for each tested row."""
    known, tested = _that_vary(known, tested)
    pool = np.concatenate([tested.theta[:, None], draws], axis=1)
    theta = known.theta.copy()
    for j in _better_as_logarithms(known.theta, pool):
        theta[:, j], pool[..., j] = np.log(theta[:, j]), np.log(pool[..., j])
    predicted = _regressions(known._replace(theta=theta), tested.features)
    if not predicted:
        nothing = np.zeros(len(tested.theta))
        return [Resolution(name, nothing, 0.0, 0.0, 1.0) for name in names]
    return [
        _bets(name, one, pool[..., j]) for j, (name, one) in enumerate(zip(names, predicted, strict=True))
    ]


def crossed_resolution(
    simulated: Simulated, draws: Float[np.ndarray, "m n d"], names: Sequence[str]
) -> list[Resolution]:
    """The same where there are no other simulations: R of either half bets on the other, and the mean of two
    e-values is one.
    """
    first = np.arange(len(draws)) < len(draws) // 2
    folds = [
        resolution(simulated.rows(~tested), simulated.rows(tested), draws[tested], names)
        for tested in (first, ~first)
    ]
    return [_joined(*both) for both in zip(*folds, strict=True)]


def evidence_near(
    log_e: Float[np.ndarray, "m d"], places: Float[np.ndarray, "m k"], at: Float[np.ndarray, "n k"]
) -> Float[np.ndarray, "n d"]:
    """The sum of log e over the 10 data sets nearest to each of `at`; an e-value of the part of q there."""
    mean, sd = places.mean(axis=0), places.std(axis=0)
    scale = np.where(sd > 0, sd, 1.0)
    near = cKDTree((places - mean) / scale).query((at - mean) / scale, k=min(NEAREST, len(places)))[1]
    return np.asarray(log_e[near.reshape(len(at), -1)].sum(axis=1))


def _joined(one: Resolution, other: Resolution) -> Resolution:
    evidence = float(np.logaddexp(one.evidence, other.evidence) - np.log(2))
    bets = one.bets, other.bets
    factor = np.average([one.factor, other.factor], weights=bets) if sum(bets) > 0 else 1.0
    log_e = np.concatenate([one.log_e, other.log_e])
    share = float(np.average(bets, weights=[len(one.log_e), len(other.log_e)]))
    return Resolution(one.quantity, log_e, evidence, share, float(factor))


def _that_vary(known: Simulated, tested: Simulated) -> tuple[Simulated, Simulated]:
    """Both without columns of features, and arrays of them, that are constant in `known`."""
    keep = [np.ptp(x, axis=0) > 0 for x in known.features]
    arrays = [i for i, columns in enumerate(keep) if columns.any()]

    def of(rows: Simulated) -> Simulated:
        return rows._replace(features=[rows.features[i][:, keep[i]] for i in arrays])

    return of(known), of(tested)


def _better_as_logarithms(theta: F, pool: F) -> Iterator[int]:
    """The parameters that are positive and skewed, less so as logarithms."""
    for j, column in enumerate(theta.T):
        positive = column.min() > 0 and pool[..., j].min() > 0
        if positive and skew(column) > max(_SKEWED, abs(skew(np.log(column)))):
            yield j


class _Predicted(NamedTuple):
    """Centre and scale of R for each row, and its degrees of freedom."""

    centre: F
    scale: F
    degrees: int

    def log_density(self, theta: F) -> F:
        standard = (theta - self.centre) / self.scale
        return np.asarray(student.logpdf(standard, self.degrees) - np.log(self.scale))

    def of(self, j: int) -> _Predicted:
        return _Predicted(self.centre[:, j, None], self.scale[:, j, None], self.degrees)


def _bets(name: str, predicted: _Predicted, pool: F) -> Resolution:
    """log e of each row, where R is narrow enough. pool (m, 1 + L): the truth, then the draws."""
    pool = np.where(np.isfinite(pool), pool, np.nan)
    low, high = np.quantile(pool, _ONE_SD, axis=1)
    width = (high - low) / 2
    of_r = predicted.scale[:, 0] * student.ppf(_ONE_SD[1], predicted.degrees)
    betting = of_r < _NARROWER * width
    log_r = predicted.log_density(pool)
    log_r -= log_r.max(axis=1, keepdims=True)
    share = np.exp(log_r[:, 0]) / np.exp(log_r).mean(axis=1)
    log_e = np.where(betting, np.log(_KEPT + (1 - _KEPT) * share), 0.0)
    factor = 1.0
    if betting.any():
        errors = np.abs(pool[:, 0] - predicted.centre[:, 0])[betting] / width[betting]
        factor = 1 / max(float(np.quantile(errors, _ONE_SD[1] - _ONE_SD[0])), _ROUNDING)
    return Resolution(name, log_e, float(log_e.sum()), float(betting.mean()), factor)


class _Window(NamedTuple):
    """k neighbours in coordinates that are columns of one array of features, or linear indexes of them."""

    features: int
    indexes: bool
    k: int


def _windows(known: Simulated) -> Iterator[_Window]:
    """Those that are tried: few neighbours, more, a quarter and all, in few coordinates."""
    n, d = known.theta.shape
    for i, x in enumerate(known.features):
        for indexes in (False, True):
            c = min(x.shape[1], d) if indexes else x.shape[1]
            if indexes or c <= _FEW_COLUMNS:
                for k in sorted({3 * (c + 1) + 4, 10 * (c + 1), n // 4, n}):
                    if c + 3 < k <= n:
                        yield _Window(i, indexes, k)


def _regressions(known: Simulated, at: Sequence[F]) -> list[_Predicted]:
    """R of each parameter at the features `at`, from the window that best predicts a fifth of the known rows
    (200 at most), to which it is not fitted; none where there are too few rows.
    """
    if len(known.theta) < _LEAST_KNOWN:
        return []
    tuning = np.zeros(len(known.theta), dtype=bool)
    tuning[:: max(_TUNED_OF, -(-len(tuning) // _TUNING_ROWS))] = True
    fitted, left_out = known.rows(~tuning), known.rows(tuning)
    windows = list(_windows(fitted))
    maps = {(w.features, w.indexes): _coordinates(fitted, w) for w in windows}
    windows = [w for w in windows if maps[w.features, w.indexes].shape[1]]
    if not windows:
        return []

    def predicted(window: _Window, features: Sequence[F]) -> _Predicted:
        slope = maps[window.features, window.indexes]
        x = fitted.features[window.features] @ slope
        return _local(features[window.features] @ slope, x, fitted.theta, window.k)

    scores = np.full((len(windows), known.theta.shape[1]), -np.inf)
    for i, window in enumerate(windows):
        found = predicted(window, left_out.features).log_density(left_out.theta)
        scores[i] = np.maximum(found, np.quantile(found, _LOWEST_SCORES, axis=0)).mean(axis=0)
    chosen = [windows[i] for i in scores.argmax(axis=0)]
    made = {window: predicted(window, at) for window in dict.fromkeys(chosen)}
    return [made[window].of(j) for j, window in enumerate(chosen)]


def _coordinates(known: Simulated, window: _Window) -> F:
    """The linear map from features to coordinates of unit variance, (k, c)."""
    x = known.features[window.features]
    sd = x.std(axis=0)
    slope = np.diag(1 / np.where(sd > 0, sd, np.inf))
    if window.indexes:
        slope = slope @ _indexes((x - x.mean(axis=0)) @ slope, known.theta)
    spread = (x @ slope).std(axis=0)
    return np.asarray(slope[:, spread > 0] / spread[spread > 0])


def _indexes(x: F, theta: F) -> F:
    """Slopes of least squares with the penalty of least generalised cross-validation error, (k, d)."""
    n = len(x)
    left, singular, right = np.linalg.svd(x, full_matrices=False)
    usable = singular > _ROUNDING * max(singular[0], _TINY)
    left, singular, right = left[:, usable], singular[usable], right[usable]
    centred = theta - theta.mean(axis=0)
    onto = left.T @ centred
    shrunk = singular**2 / (singular**2 + n * _PENALTIES[:, None])
    explained = (2 * shrunk - shrunk**2) @ np.square(onto)
    free = np.maximum(n - 1 - shrunk.sum(axis=1), 1.0)
    errors = (np.square(centred).sum(axis=0) - explained) / np.square(free)[:, None]
    best = errors.argmin(axis=0)
    return np.asarray(right.T @ (shrunk[best].T * onto / singular[:, None]))


def _local(at: F, x: F, theta: F, k: int) -> _Predicted:
    """R at each of the coordinates `at`, centre and scale (m, d), from the k rows of x nearest to it."""
    c = x.shape[1]
    near = cKDTree(x).query(at, k=k)[1]
    centre, scale = np.empty((2, len(at), theta.shape[1]))
    rows = max(1, _NUMBERS_AT_ONCE // (k * (c + 1)))
    floor = _ROUNDING * theta.std(axis=0) + _TINY
    for start in range(0, len(at), rows):
        part = slice(start, start + rows)
        design = np.concatenate([np.ones((*near[part].shape, 1)), x[near[part]] - at[part, None]], axis=2)
        reach = np.abs(design).max(axis=1, keepdims=True)
        design /= np.where(reach > 0, reach, 1.0)
        values = theta[near[part]]
        middle = values.mean(axis=1, keepdims=True)
        inverse = np.linalg.inv(design.transpose(0, 2, 1) @ design + 1e-12 * k * np.eye(c + 1))
        slopes = inverse @ (design.transpose(0, 2, 1) @ (values - middle))
        left = np.square(values - middle - design @ slopes).sum(axis=1)
        centre[part] = slopes[:, 0] + middle[:, 0]
        scale[part] = np.sqrt(left / (k - c - 1) * (1 + inverse[:, 0, 0, None]))
    return _Predicted(centre, np.maximum(scale, floor), k - c - 1)
