"""Two Gaussian models whose evidence is known: a constant, and a line.

y_i = m + e_i                 m ~ N(0, 1), e_i ~ N(0, 1)                      y ~ N(0, I + 1 1')
y_i = m + b x_i + e_i         b ~ N(0, 1) too, x_i from -1 to 1               y ~ N(0, I + 1 1' + x x')
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, norm

import sbi_flows as sf

F = NDArray[np.float64]
POINTS = 8
X = np.linspace(-1, 1, POINTS)


def _log_likelihood(mean: F, y: F) -> F:
    return np.asarray(norm.logpdf(y, mean).sum(axis=1))


def _of_constant(theta: dict[str, F], y: F, rng: np.random.Generator) -> F:
    return _log_likelihood(np.atleast_1d(theta["m"])[:, None] + 0 * X, y)


def _of_line(theta: dict[str, F], y: F, rng: np.random.Generator) -> F:
    return _log_likelihood(np.atleast_1d(theta["m"])[:, None] + np.outer(theta["b"], X), y)


@sf.simulator(sf.Prior(m=norm(0, 1)), event_shape=(POINTS,), log_likelihood=_of_constant)
def constant(theta: dict[str, Any], rng: np.random.Generator) -> F:
    """A constant with noise."""
    return theta["m"][:, None] + rng.standard_normal((len(theta["m"]), POINTS))


@sf.simulator(sf.Prior(m=norm(0, 1), b=norm(0, 1)), event_shape=(POINTS,), log_likelihood=_of_line)
def line(theta: dict[str, Any], rng: np.random.Generator) -> F:
    """A line with noise."""
    mean = theta["m"][:, None] + np.outer(theta["b"], X)
    return mean + rng.standard_normal(mean.shape)


MODELS = {"constant": constant, "line": line}


def log_evidence(y: F) -> F:
    """(n, 2), exact."""
    flat = np.eye(POINTS) + np.ones((POINTS, POINTS))
    return np.column_stack(
        [multivariate_normal(cov=one).logpdf(np.atleast_2d(y)) for one in (flat, flat + np.outer(X, X))]
    )
