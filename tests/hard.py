"""A simulator whose data are hard to read and whose author knows two good statistics.

    y = (v, frac(64 v + x)),   v ~ U(0, 1)^16,   x_i = theta_(i mod 2) + 0.08 e_i,   theta = (a, b)

A network would have to learn a function that turns round 64 times; the two means of frac(y_{16+i} - 64 y_i)
give theta to 0.03.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import uniform

import sbi_flows as sf

HALF, TURNS, NOISE = 16, 64, 0.08
PRIOR = sf.Prior(a=uniform(0.3, 0.4), b=uniform(0.3, 0.4))


def statistics(y: np.ndarray) -> np.ndarray:
    x = (y[:, HALF:] - TURNS * y[:, :HALF]) % 1
    return np.stack([x[:, ::2].mean(axis=1), x[:, 1::2].mean(axis=1)], axis=1)


def made(summaries: Any = statistics, name: str = "hard") -> sf.Simulator:
    """The simulator, under any name and with any summaries."""

    def hard(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        v = rng.uniform(0, 1, (len(theta["a"]), HALF))
        x = np.where(np.arange(HALF) % 2, theta["b"][:, None], theta["a"][:, None])
        return np.hstack([v, (TURNS * v + x + NOISE * rng.standard_normal(v.shape)) % 1])

    hard.__name__ = name
    return sf.simulator(PRIOR, event_shape=(2 * HALF,), summaries=summaries)(hard)


def with_gaps(y: np.ndarray) -> np.ndarray:
    """The same statistics; of one event in about ten the first does not exist."""
    t = statistics(y)
    t[y[:, 0] < 0.1, 0] = np.nan
    return t
