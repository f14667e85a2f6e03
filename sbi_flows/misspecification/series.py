"""Statistics of a series that no model was asked for: what a stuck detector, a drift or a wrong noise level
would change.

Of u_1, ..., u_T, in each channel: quantiles, moments, autocorrelations, differences u_{t+1} - u_t, the
longest run of equal values against the second longest and against log T(1 - p) / log(1 / p), which is
expected where each value repeats the last with probability p, trend and halves, and the extremes over windows
of T / 8 of the mean and the standard deviation.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from sbi_flows.arrays import F

SHORTEST = 16
_TINY = 1e-9
_LOWEST_SD = 1e-3


def series_statistics(u: Float[np.ndarray, "rows t channels"]) -> Float[np.ndarray, "rows k"]:
    """All of them, channel by channel, for series of at least 16 steps."""
    return np.concatenate([_of_channel(u[:, :, channel]) for channel in range(u.shape[2])], axis=1)


def _of_channel(u: F) -> F:
    steps = u.shape[1]
    mean, sd = u.mean(axis=1), u.std(axis=1) + _TINY
    centred = (u - mean[:, None]) / sd[:, None]
    differences = np.diff(u, axis=1)
    longest, second = _runs(differences == 0)
    repeats = np.clip((differences == 0).mean(axis=1), 1 / steps, 1 - 1 / steps)
    expected = np.log(steps * (1 - repeats)) / -np.log(repeats)
    window_mean, window_sd = _windows(u, max(steps // 8, 2))
    half = steps // 2
    first, last = u[:, :half], u[:, half:]
    quarters = [part.mean(axis=1) for part in np.array_split(u, 4, axis=1)]
    quarter_sds = [part.std(axis=1) for part in np.array_split(u, 4, axis=1)]
    return np.column_stack(
        [
            *(mean, sd, *np.quantile(u, [0.05, 0.25, 0.5, 0.75, 0.95], axis=1)),
            *((centred**3).mean(axis=1), (centred**4).mean(axis=1)),
            *((centred[:, lag:] * centred[:, :-lag]).mean(axis=1) for lag in (1, 2, 3)),
            *(np.abs(differences).mean(axis=1), differences.std(axis=1), np.abs(differences).max(axis=1)),
            *(
                repeats,
                np.log1p(longest),
                np.log1p(longest) - np.log1p(second),
                np.log1p(longest) - np.log1p(expected),
            ),
            *((centred * np.linspace(-1, 1, steps)).mean(axis=1), first.mean(axis=1) - last.mean(axis=1)),
            np.log((first.std(axis=1) + _LOWEST_SD) / (last.std(axis=1) + _LOWEST_SD)),
            *(np.ptp(quarters, axis=0), np.ptp(quarter_sds, axis=0)),
            *(window_mean.min(axis=1), window_mean.max(axis=1), window_sd.min(axis=1), window_sd.max(axis=1)),
        ]
    )


def _runs(same: NDArray[np.bool_]) -> tuple[F, F]:
    """The lengths of the longest and the second longest run of True in each row."""
    run, longest, second = (np.zeros(len(same)) for _ in range(3))
    for column in [*same.T, np.zeros(len(same), dtype=np.bool_)]:
        ended = np.where(column, 0, run)
        run = np.where(column, run + 1, 0)
        second = np.maximum(second, np.minimum(ended, longest))
        longest = np.maximum(longest, ended)
    return longest, second


def _windows(u: F, width: int) -> tuple[F, F]:
    sums, squares = (np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1) for values in (u, np.square(u)))
    mean = (sums[:, width:] - sums[:, :-width]) / width
    return mean, np.sqrt(np.maximum((squares[:, width:] - squares[:, :-width]) / width - np.square(mean), 0))
