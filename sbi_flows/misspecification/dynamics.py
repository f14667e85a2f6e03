"""Statistics of how a series goes on from each value to the next: noise of the process is carried on, noise
of the measurement is not.

Of the standardised series z_1, ..., z_T, in each channel, a polynomial f of degree 5 is fitted by least
squares,

    z_{t+1} = f(z_t) + e_{t+1},    f(z) = sum_k c_k z^k

and the statistics are its coefficients; the size of e, and of the error two steps ahead, z_{t+2} - f(f(z_t));
the correlation of e_{t+1} with f'(z_t) e_t, which is -1 where an error at one time is undone at the next, and
0 where the process goes on from it; the size of e where z_t and where f(z_t) is low and high; its moments and
autocorrelations; and the shape of the ordered values and of the ordered differences (after Wood 2010, Nature
466:1102).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from sbi_flows.arrays import F

_DEGREE, _RIDGE, _FURTHEST = 5, 1e-2, 4.0
_TINY, _LOWEST = 1e-9, 1e-3
_QUARTERS = 4
_LEVELS = np.linspace(0.05, 0.95, 7)
_ROWS_AT_ONCE = 500


def dynamics_statistics(u: Float[np.ndarray, "rows t channels"]) -> Float[np.ndarray, "rows k"]:
    """All of them, channel by channel, for series of at least 16 steps."""
    starts = range(0, len(u), _ROWS_AT_ONCE)
    blocks = [
        [_of_channel(u[i : i + _ROWS_AT_ONCE, :, channel]) for channel in range(u.shape[2])] for i in starts
    ]
    return np.concatenate([np.concatenate(block, axis=1) for block in blocks])


def _of_channel(u: F) -> F:
    z = (u - u.mean(axis=1, keepdims=True)) / (u.std(axis=1, keepdims=True) + _TINY)
    x = np.clip(z, -_FURTHEST, _FURTHEST)
    now, later = x[:, :-1], z[:, 1:]
    design = now[..., None] ** np.arange(_DEGREE + 1)
    gram = design.transpose(0, 2, 1) @ design + _RIDGE * np.eye(_DEGREE + 1)
    coefficients = np.linalg.solve(gram, design.transpose(0, 2, 1) @ later[..., None])[..., 0]
    fitted = (design @ coefficients[..., None])[..., 0]
    error = later - fitted
    powers = coefficients * np.arange(_DEGREE + 1)
    carried = (design[:, 1:, :-1] @ powers[:, 1:, None])[..., 0] * error[:, :-1]
    ahead = z[:, 2:] - _polynomial(np.clip(fitted[:, :-1], -_FURTHEST, _FURTHEST), coefficients)
    size = error.std(axis=1) + _TINY
    scaled = error / size[:, None]
    logs = np.log(np.abs(error) + 0.05)
    differences = np.diff(z, axis=1)
    return np.column_stack(
        [
            coefficients,
            *(np.log(size + _LOWEST), np.log(ahead.std(axis=1) + _LOWEST)),
            *(
                _correlation(carried, error[:, 1:]),
                (carried * error[:, 1:]).sum(axis=1) / (np.square(carried).sum(axis=1) + _LOWEST),
            ),
            *((scaled[:, lag:] * scaled[:, :-lag]).mean(axis=1) for lag in (1, 2, 3)),
            *((scaled**3).mean(axis=1), np.log((scaled**4).mean(axis=1) + _LOWEST)),
            *(value for level in (now, fitted) for value in _by_level(error, logs, level)),
            *np.quantile(z, _LEVELS, axis=1),
            *np.quantile(differences, _LEVELS, axis=1),
            *(
                (z == z.min(axis=1, keepdims=True)).mean(axis=1),
                (z > z.max(axis=1, keepdims=True) / 2).mean(axis=1),
            ),
        ]
    )


def _polynomial(x: F, coefficients: F) -> F:
    value = np.zeros_like(x)
    for column in coefficients.T[::-1]:
        value = value * x + column[:, None]
    return value


def _by_level(error: F, logs: F, level: F) -> list[F]:
    """The size of the errors in each quarter of the levels, and its slope and bend."""
    order = np.argsort(level, axis=1)
    parts = np.array_split(np.take_along_axis(error, order, axis=1), _QUARTERS, axis=1)
    standard = (level - level.mean(axis=1, keepdims=True)) / (level.std(axis=1, keepdims=True) + _TINY)
    return [
        *(np.log(part.std(axis=1) + _LOWEST) for part in parts),
        (logs * standard).mean(axis=1),
        (logs * (np.square(standard) - 1)).mean(axis=1),
    ]


def _correlation(a: F, b: F) -> F:
    return np.asarray(
        (a * b).mean(axis=1) / np.sqrt(np.square(a).mean(axis=1) * np.square(b).mean(axis=1) + _TINY)
    )
