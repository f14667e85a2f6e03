"""The likelihood of the Ricker model by quadrature, without Monte Carlo error.

The hidden state z_t = log N_t is one number, z_{t+1} ~ N(log r + z_t - e^{z_t}, sigma^2), so the filter

    a_{t+1}(z') = Poisson(x_{t+1}; rho e^{z'}) ∫ N(z'; log r + z - e^z, sigma^2) a_t(z) dz
    p(y | theta) = ∫ a_T(z) dz

is computed on a grid. Its points are equally spaced in u = (k / sigma) (z + e^z): k points per standard
deviation of the noise, also where the map stretches. For k = 2.5 the error of the trapezoidal rule on a
smooth integrand is then below rounding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

F = NDArray[np.float64]

_REACH, _NEGLIGIBLE = 8.0, 80.0


def log_likelihood(
    log_r: float, sigma: float, rho: float, y: F, per_sd: float = 2.5, dtype: type[np.floating] = np.float64
) -> float:
    """log p(y | theta) in nats for one series of counts y (T,) and N_0 = 1; -inf where the series is out of
    reach. `dtype` is that of the transition densities: at the theta of 300 series from the prior, 1.25 points
    per standard deviation and float32 err by 2e-5 nats at most, and take a fifth of the time.
    """
    scale = per_sd / sigma
    most = (y.max() + 12 * np.sqrt(y.max()) + 40) / rho
    high = min(log_r - 1 + _REACH * sigma, np.log(most))
    low = min(log_r + high - np.exp(high), log_r - 1) - _REACH * sigma
    if low >= high:
        return -np.inf
    z, width = _points(low, high, scale)
    population = np.exp(z)
    standard = ((z - (log_r + z - population)[:, None]) / sigma).astype(dtype)
    into = np.exp(dtype(-0.5) * np.square(standard)) * dtype(1 / (np.sqrt(2 * np.pi) * sigma))
    log_poisson = y[:, None] * (np.log(rho) + z) - rho * population - gammaln(y + 1)[:, None]
    highest = log_poisson.max(axis=1)
    seen = [_span(row) for row in log_poisson > highest[:, None] - _NEGLIGIBLE]
    emitted = np.exp(log_poisson - highest[:, None])
    moved = np.exp(-0.5 * np.square((z - (log_r - 1)) / sigma))[seen[0]] / (np.sqrt(2 * np.pi) * sigma)
    total = 0.0
    for t, here in enumerate(seen):
        new = moved * emitted[t, here]
        mass = new @ width[here]
        if mass == 0:
            return -np.inf
        total += np.log(mass) + highest[t]
        if t + 1 < len(seen):
            kept = _span(new > new.max() * np.exp(-_NEGLIGIBLE))
            there = slice(here.start + kept.start, here.start + kept.stop)
            moved = (new[kept] * width[there] / mass).astype(dtype) @ into[there, seen[t + 1]]
    return float(total)


def _points(low: float, high: float, scale: float) -> tuple[F, F]:
    """The grid and the width that belongs to each point."""
    ends = scale * (np.array([low, high]) + np.exp([low, high]))
    u = np.arange(ends[0], ends[1] + 1)
    rough = np.linspace(low, high, 20_000)
    z = np.interp(u, scale * (rough + np.exp(rough)), rough)
    for _ in range(5):
        z -= (scale * (z + np.exp(z)) - u) / (scale * (1 + np.exp(z)))
    return z, 1 / (scale * (1 + np.exp(z)))


def _span(kept: NDArray[np.bool_]) -> slice:
    rows = np.flatnonzero(kept)
    return slice(int(rows[0]), int(rows[-1]) + 1)
