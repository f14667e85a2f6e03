"""Simple likelihood, complex posterior (Papamakarios et al. 2019, arXiv:1805.07226; Lueckmann et al. 2021,
arXiv:2101.04653, T.3, T.4).

    theta_1, ..., theta_5 ~ U(-3, 3),   x_1, ..., x_4 ~ N(m, S) independent in the plane
    m = (theta_1, theta_2),   S = [[s_1^2, c s_1 s_2], [c s_1 s_2, s_2^2]] + 1e-6 I
    s_1 = theta_3^2,   s_2 = theta_4^2,   c = tanh theta_5

`slcp`: y = (x_1, ..., x_4) flattened, (8,). The signs of theta_3 and theta_4 leave no trace, so the posterior
has four equal modes.

`slcp_distractors`: y is (100,): the same eight numbers and 92 that do not depend on theta, in a fixed order
that mixes them. The 92 are a draw from an even mixture of 20 multivariate Student t distributions with 2
degrees of freedom. Their centres and scale matrices, and the order, come from NumPy's legacy generator with
seed 42. The posterior is that of the eight numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, uniform

from sbi_flows import Prior, simulator
from simulators.public_observations import F, public_observations

NAMES = tuple(f"theta_{i}" for i in range(1, 6))
JITTER = 1e-6
DISTRACTORS, COMPONENTS, DEGREES = 92, 20, 2
PRIOR = Prior(**{name: uniform(-3, 6) for name in NAMES})


def _cholesky(theta: Mapping[str, F]) -> tuple[F, F, F]:
    """The factor [[a, 0], [b, c]] of S for each row; c is written without the cancellation of S_22 - b^2."""
    s_1, s_2, correlation = theta["theta_3"] ** 2, theta["theta_4"] ** 2, np.tanh(theta["theta_5"])
    a = np.sqrt(s_1**2 + JITTER)
    b = correlation * s_1 * s_2 / a
    c = np.sqrt(s_2**2 * (1 - (correlation * s_1 / a) ** 2) + JITTER)
    return a, b, c


def _points(theta: Mapping[str, F], rng: np.random.Generator) -> F:
    """The four points of each row, (n, 8)."""
    a, b, c = (column[:, None] for column in _cholesky(theta))
    z = rng.standard_normal((len(a), 4, 2))
    first = theta["theta_1"][:, None] + a * z[..., 0]
    second = theta["theta_2"][:, None] + b * z[..., 0] + c * z[..., 1]
    return np.stack([first, second], axis=-1).reshape(-1, 8)


def slcp_log_likelihood(theta: Mapping[str, F], y: NDArray[np.floating], rng: np.random.Generator) -> F:
    """log p(y | theta) in nats, (n,), for one y (8,)."""
    a, b, c = (np.asarray(column)[..., None] for column in _cholesky(theta))
    first = (y[0::2] - theta["theta_1"][..., None]) / a
    second = (y[1::2] - theta["theta_2"][..., None] - b * first) / c
    return np.asarray((norm.logpdf(first) - np.log(a) + norm.logpdf(second) - np.log(c)).sum(axis=-1))


@cache
def distractors() -> tuple[F, F, NDArray[np.int64]]:
    """Centres (20, 92), lower triangular scale factors (20, 92, 92), and the order (100,) of the columns."""
    legacy = np.random.RandomState(42)
    centres = np.stack([15 * legacy.normal(size=DISTRACTORS) for _ in range(COMPONENTS)])
    factors = []
    for _ in range(COMPONENTS):
        lower = np.tril(legacy.normal(size=(DISTRACTORS, DISTRACTORS)))
        factors.append(3 * (lower + np.diag(np.exp(legacy.normal(size=DISTRACTORS)))))
    return centres, np.stack(factors), legacy.permutation(8 + DISTRACTORS).astype(np.int64)


def informative_columns() -> NDArray[np.int64]:
    """Where the eight numbers of `slcp` stand among the 100, in their order."""
    return np.argsort(distractors()[2])[:8]


def slcp_distractors_log_likelihood(
    theta: Mapping[str, F], y: NDArray[np.floating], rng: np.random.Generator
) -> F:
    """log p(the eight numbers in y | theta) in nats, (n,), for one y (100,).

    The density of the other 92 is left out: it is the same for every theta, and with scale matrices as near
    to singular as theirs it cannot be computed from rounded data.
    """
    return slcp_log_likelihood(theta, y[informative_columns()], rng)


@simulator(PRIOR, event_shape=(8,), log_likelihood=slcp_log_likelihood, observed=public_observations("slcp"))
def slcp(theta: Mapping[str, F], rng: np.random.Generator) -> F:
    """n sets of four points, (n, 8), for theta name -> (n,)."""
    return _points(theta, rng)


@simulator(
    PRIOR,
    event_shape=(100,),
    log_likelihood=slcp_distractors_log_likelihood,
    observed=public_observations("slcp_distractors"),
)
def slcp_distractors(theta: Mapping[str, F], rng: np.random.Generator) -> F:
    """n sets of four points among 92 other numbers, (n, 100), for theta name -> (n,)."""
    centres, factors, order = distractors()
    points = _points(theta, rng)
    component = rng.integers(0, COMPONENTS, len(points))
    z = rng.standard_normal((len(points), DISTRACTORS))
    z /= np.sqrt(rng.chisquare(DEGREES, (len(points), 1)) / DEGREES)
    noise = centres[component]
    for k, factor in enumerate(factors):
        noise[component == k] += z[component == k] @ factor.T
    return np.concatenate([points, noise], axis=1)[:, order]
