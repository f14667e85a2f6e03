"""Ordinary differential equations for many rows at once: the classical Runge-Kutta method, fixed steps.

    u' = f(u),   u_{i+1} = u_i + h (k_1 + 2 k_2 + 2 k_3 + k_4) / 6
    k_1 = f(u_i),   k_2 = f(u_i + h k_1 / 2),   k_3 = f(u_i + h k_2 / 2),   k_4 = f(u_i + h k_3)

The step is the same for all rows, so no row depends on the others, and a step is a few array operations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

F = NDArray[np.float64]


def trajectories(slope: Callable[[F], F], start: F, times: F, step: float) -> F:
    """The states (m, k, n) at m rising times, for the state (k, n) at the first, in steps of at most `step`.

    A row whose state overflows anywhere on its way is NaN at all times.
    """
    state, kept = start, [start]
    with np.errstate(over="ignore", invalid="ignore"):
        for gap in np.diff(times):
            steps = int(np.ceil(gap / step - 1e-9))
            h = gap / steps
            for _ in range(steps):
                k_1 = slope(state)
                k_2 = slope(state + h / 2 * k_1)
                k_3 = slope(state + h / 2 * k_2)
                k_4 = slope(state + h * k_3)
                k_2 += k_3
                k_1 += k_4 + 2 * k_2
                state = state + h / 6 * k_1
            kept.append(state)
    path = np.stack(kept)
    path[:, :, ~np.isfinite(path).all(axis=(0, 1))] = np.nan
    return path
