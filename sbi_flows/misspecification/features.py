"""What the detector looks at: learned summaries of a data set, and statistics that no model was asked for.

Of a series u_1, ..., u_T, in each channel, its form: quantiles, moments, autocorrelations, differences
u_{t+1} - u_t, the longest run of equal values compared with the second longest and with log T(1 - p) / log(1
/ p), which is expected where each value repeats the last with probability p, trend and halves, and the
extremes over windows of T / 8 of the mean and the standard deviation.

And how it moves from each value to the next: noise of the process persists, noise of the measurement does
not. Of the standardised series z_1, ..., z_T a polynomial f of degree 5 is fitted by least squares,

    z_{t+1} = f(z_t) + e_{t+1},    f(z) = sum_k c_k z^k

The statistics are its coefficients; the size of e, and of the error two steps ahead, z_{t+2} - f(f(z_t)); the
correlation of e_{t+1} with f'(z_t) e_t, which is -1 where an error at one time is undone at the next, and 0
where it persists; the size of e where z_t and where f(z_t) is low and high; its moments and autocorrelations;
and the shape of the ordered values and of the ordered differences (after Wood 2010, Nature 466:1102).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.nets.inputs import Inputs

SHORTEST = 16
_FEW_COLUMNS = 16
_TINY, _LOWEST = 1e-9, 1e-3
_DEGREE, _RIDGE, _FURTHEST = 5, 1e-2, 4.0
_QUARTERS = 4
_LEVELS = np.linspace(0.05, 0.95, 7)
_ROWS_AT_ONCE = 500


def features_of(
    summaries: torch.Tensor, scaled: Float[np.ndarray, "rows *event"], inputs: Inputs
) -> tuple[Float[np.ndarray, "rows k"], int]:
    """Features of each data set, and how many of the columns, the first, the training cloud is of: summaries
    and form.

    Where values are missing, those of a series are filled in between, and what ends early is repeated; the
    others are taken as the mean. How many there are is one more statistic.
    """
    arrays = _arrays(scaled, inputs)
    form = [summaries.numpy().astype(np.float64)]
    form += [_form(values, in_order=in_order, alike=alike) for values, in_order, alike in arrays]
    if inputs.masked:
        form.append(np.isnan(scaled.reshape(len(scaled), -1)).mean(axis=1, keepdims=True))
    moving = [dynamics_statistics(values) for values, in_order, _ in arrays if _long(values, in_order)]
    located = sum(part.shape[1] for part in form)
    return np.concatenate([*form, *moving], axis=1), located


def _arrays(scaled: Float[np.ndarray, "rows *event"], inputs: Inputs) -> list[tuple[F, bool, bool]]:
    """The complete arrays, whether each is a series, and whether its places are alike."""
    if inputs.layout is None:
        shared = inputs.scaler.shared
        return [(scaled, shared, shared)]
    arrays, start, flat = [], 0, scaled.reshape(len(scaled), -1)
    for part in inputs.layout.parts:
        values = flat[:, start : start + part.size]
        start += part.size
        in_order, alike = part.network == "series", part.network != "vector"
        values = values.reshape(len(values), -1, part.channels) if alike else values
        arrays.append((_complete(values, in_order=in_order), in_order, alike))
    return arrays


def _complete(values: F, *, in_order: bool) -> F:
    """Scaled values without gaps: those of a series between their neighbours, and repeated where it ends
    early; 0, the mean, elsewhere.
    """
    missing = np.isnan(values)
    if not missing.any():
        return values
    out = np.where(missing, 0.0, values)
    if not in_order:
        return out
    steps = np.arange(values.shape[1])
    for i, channel in zip(*np.nonzero(missing.any(axis=1)), strict=True):
        there = np.flatnonzero(~missing[i, :, channel])
        if len(there):
            seen = values[i, : there[-1] + 1, channel]
            out[i, :, channel] = np.interp(steps % len(seen), there, values[i, there, channel])
    return out


def _long(values: F, in_order: bool) -> bool:
    return in_order and values.shape[1] >= SHORTEST


def _form(
    scaled: Float[np.ndarray, "rows *event"], *, in_order: bool, alike: bool
) -> Float[np.ndarray, "rows k"]:
    """Statistics of the form: the data themselves, where they are few."""
    if not alike and scaled.shape[1] <= _FEW_COLUMNS:
        return scaled
    if _long(scaled, in_order):
        return series_statistics(scaled)
    parts = [scaled.mean(axis=1), scaled.std(axis=1), scaled.min(axis=1), scaled.max(axis=1)]
    if in_order:
        parts.append(np.abs(np.diff(scaled, axis=1)).mean(axis=1))
    return np.concatenate([part.reshape(len(scaled), -1) for part in parts], axis=1)


def series_statistics(u: Float[np.ndarray, "rows t channels"]) -> Float[np.ndarray, "rows k"]:
    """Statistics of the form, channel by channel, of series of at least 16 steps."""
    return np.concatenate([_form_of_channel(u[:, :, channel]) for channel in range(u.shape[2])], axis=1)


def _form_of_channel(u: F) -> F:
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
            np.log((first.std(axis=1) + _LOWEST) / (last.std(axis=1) + _LOWEST)),
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


def dynamics_statistics(u: Float[np.ndarray, "rows t channels"]) -> Float[np.ndarray, "rows k"]:
    """Statistics of the dynamics, channel by channel, of series of at least 16 steps."""
    starts = range(0, len(u), _ROWS_AT_ONCE)
    blocks = [
        [_dynamics_of_channel(u[i : i + _ROWS_AT_ONCE, :, channel]) for channel in range(u.shape[2])]
        for i in starts
    ]
    return np.concatenate([np.concatenate(block, axis=1) for block in blocks])


def _dynamics_of_channel(u: F) -> F:
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
