"""Maps of a support to R^u and back, in float64: intervals elementwise, vectors whitened, and the simplex.

Every map gives z and log |det dz/dx|; its inverse never leaves the open support, however large |z| is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.special
from numpy.typing import NDArray

from sbi_flows.arrays import F

HEAVY_TAIL = 10.0
TAIL = np.array([0.5, 0.1, 0.01, 0.001, 0.0001])

LARGEST = float(np.finfo(np.float64).max)
_TAME = 1e290
_SUM_TOLERANCE = 1e-6
_LOG_NORMAL, _NEAR = 2.2, 1e-9


class Support(Protocol):
    """A support and its map; arrays have the marginal's own columns last."""

    def to_unconstrained(self, x: F) -> tuple[F, F]: ...
    def from_unconstrained(self, z: F) -> F: ...
    def inside(self, x: F) -> NDArray[np.bool_]: ...
    def interior(self, x: F) -> F: ...


@dataclass(frozen=True)
class Intervals:
    """The elementwise map of k intervals to R. All fields have shape (k,).

    Bounded         z = log((x - a)/(b - x))
    Half-bounded    z = log(t) where `heavy`, else log(exp(t) - 1), with t = (x - a)/s; or mirrored, with
                    t = (b - x)/s
    Unbounded       z = (x - m)/s, or asinh of it where `heavy`

    m is the median of the marginal and s its interquartile range; where a half-bounded marginal is not heavy,
    s is the length over which its tail falls by a factor of e.
    """

    lower: F
    upper: F
    centre: F
    scale: F
    heavy: NDArray[np.bool_]

    def to_unconstrained(self, x: F) -> tuple[F, F]:
        z, log_slope = self.each_to_line(x)
        return z, np.asarray(log_slope.sum(axis=-1))

    def each_to_line(self, x: F) -> tuple[F, F]:
        """z, and the log of the slope dz/dx of each column."""
        below, above = np.isfinite(self.lower), np.isfinite(self.upper)
        z, log_slope = np.empty(x.shape), np.empty(x.shape)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            for chosen, to_line in (
                (below & above, _bounded),
                (below & ~above & self.heavy, _bounded_below),
                (below & ~above & ~self.heavy, _light_above),
                (above & ~below & self.heavy, _bounded_above),
                (above & ~below & ~self.heavy, _light_below),
                (~below & ~above & self.heavy, _heavy_tailed),
                (~below & ~above & ~self.heavy, _unbounded),
            ):
                if chosen.any():
                    ends = (self.lower[chosen], self.upper[chosen], self.centre[chosen], self.scale[chosen])
                    z[..., chosen], log_slope[..., chosen] = to_line(x[..., chosen], *ends)
        return z, log_slope

    def from_unconstrained(self, z: F) -> F:
        below, above = np.isfinite(self.lower), np.isfinite(self.upper)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            width = self.upper - self.lower
            small = width * scipy.special.expit(-np.abs(z))
            bounded = np.where(z < 0, self.lower + small, self.upper - small)
            centred = np.where(self.heavy, np.sinh(z), z)
            from_below = self.lower + self.scale * self._distance(z)
            from_above = self.upper - self.scale * self._distance(-z)
            x = np.select(
                [below & above, below, above],
                [bounded, from_below, from_above],
                self.centre + self.scale * centred,
            )
        return self.interior(x)

    def _distance(self, z: F) -> F:
        """t of half-bounded columns."""
        return np.asarray(np.where(self.heavy, np.exp(z), np.logaddexp(0.0, z)))

    def inside(self, x: F) -> NDArray[np.bool_]:
        return np.asarray(self.each_inside(x).all(axis=-1))

    def each_inside(self, x: F) -> NDArray[np.bool_]:
        """Whether each column lies in its own interval."""
        return np.asarray((x >= self.lower) & (x <= self.upper))

    def interior(self, x: F) -> F:
        """x, with what lies on a bound or beyond moved to the nearest float64 inside; NaN stays.

        An interval so narrow that no float64 lies between its ends has the lower one.
        """
        low = np.where(np.isfinite(self.lower), np.nextafter(self.lower, np.inf), -LARGEST)
        high = np.where(np.isfinite(self.upper), np.nextafter(self.upper, -np.inf), LARGEST)
        moved = np.maximum(np.minimum(np.maximum(x, low), high), self.lower)
        return np.asarray(np.where(np.isnan(x), x, moved))


class Whitened:
    """A block without bounds, decorrelated by its own covariance L L'.

    z = L^-1 (x - m),   log |det dz/dx| = -sum_i log L_ii

    Components that nearly determine one another become independent ones of the same size.
    """

    def __init__(self, mean: F, root: F) -> None:
        self._mean, self._root = mean, root

    def to_unconstrained(self, x: F) -> tuple[F, F]:
        rest, z = x - self._mean, np.empty(x.shape)
        for j, column in enumerate(
            self._root.T
        ):  # by columns, so that a row alone has the bytes it has in a batch
            z[..., j] = rest[..., j] / column[j]
            rest[..., j + 1 :] -= z[..., j, None] * column[j + 1 :]
        log_det = -float(np.log(np.diag(self._root)).sum())
        return z, np.full(x.shape[:-1], log_det)

    def from_unconstrained(self, z: F) -> F:
        x = np.broadcast_to(self._mean, z.shape).copy()
        for j, column in enumerate(self._root.T):
            x += z[..., j, None] * column
        return self.interior(x)

    def inside(self, x: F) -> NDArray[np.bool_]:
        return np.asarray((np.abs(x) <= np.inf).all(axis=-1))

    def interior(self, x: F) -> F:
        """x, with what is infinite moved to the nearest float64; NaN stays."""
        return np.asarray(np.clip(x, -LARGEST, LARGEST))


class Simplex:
    """Stick-breaking: k components that sum to one to k - 1 coordinates.

    z_i = log(x_i / (x_{i+1} + ... + x_k)) + log(k - i),   log |det dz/dx_{1..k-1}| = -sum_{i <= k} log x_i

    The rest of the stick is summed from its own components, never as one minus the others, so small ones keep
    their digits.
    """

    def __init__(self, size: int) -> None:
        self._offset = np.log(np.arange(size - 1, 0, -1.0))

    def to_unconstrained(self, x: F) -> tuple[F, F]:
        with np.errstate(divide="ignore", invalid="ignore"):
            rest = np.cumsum(x[..., :0:-1], axis=-1)[..., ::-1]
            logs = np.log(x)
            return logs[..., :-1] - np.log(rest) + self._offset, np.asarray(-logs.sum(axis=-1))

    def from_unconstrained(self, z: F) -> F:
        u = z - self._offset
        none = np.zeros((*z.shape[:-1], 1))
        taken = np.concatenate([scipy.special.log_expit(u), none], axis=-1)
        left = np.concatenate([none, np.cumsum(scipy.special.log_expit(-u), axis=-1)], axis=-1)
        with np.errstate(under="ignore"):
            return self.interior(np.exp(taken + left))

    def inside(self, x: F) -> NDArray[np.bool_]:
        return np.asarray((x >= 0).all(axis=-1) & (np.abs(x.sum(axis=-1) - 1) < _SUM_TOLERANCE))

    def interior(self, x: F) -> F:
        """x, with components of exactly 0 or 1 moved to the nearest float64 between; NaN stays."""
        return np.asarray(np.clip(x, np.nextafter(0.0, 1.0), np.nextafter(1.0, 0.0)))


def light_tail(median: F, upper: F, far: F, further: F, furthest: F) -> tuple[NDArray[np.bool_], F]:
    """Whether tails away from a bound are lighter than a log-normal's, and the lengths over which they fall
    by a factor of e.

    The arguments are distances from the bound: of the median, and of the points with 10%, 1%, 0.1% and 0.01%
    of the mass beyond. In logs, the point at 0.1% is 2.41 times as far from the median as that at 10% for a
    log-normal distribution, 1.9 times for an exponential one, 1.8 times for a half-normal one. A flow on
    log(x), whose tail falls like a normal one, would put draws far beyond what such a distribution allows.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        light = np.log(further / median) < _LOG_NORMAL * np.log(upper / median)
        length = (furthest - far) / np.log(100)
    usable = light & np.isfinite(length) & (length > 0)
    return np.asarray(usable), np.asarray(np.where(usable, length, 1.0))


def _bounded(x: F, lower: F, upper: F, centre: F, scale: F) -> tuple[F, F]:
    from_below, from_above = x - lower, upper - x
    return _log_ratio(from_below, from_above), np.log(upper - lower) - np.log(from_below) - np.log(from_above)


def _bounded_below(x: F, lower: F, upper: F, centre: F, scale: F) -> tuple[F, F]:
    return _log_ratio(x - lower, scale), -np.log(x - lower)


def _bounded_above(x: F, lower: F, upper: F, centre: F, scale: F) -> tuple[F, F]:
    return -_log_ratio(upper - x, scale), -np.log(upper - x)


def _light_above(x: F, lower: F, upper: F, centre: F, scale: F) -> tuple[F, F]:
    # near the bound t itself may underflow: there, the series of log(exp(t) - 1)
    near, near_slope = _bounded_below(x, lower, upper, centre, scale)
    t = (x - lower) / scale
    log_share = np.log(-np.expm1(-t))
    z = np.where(t < _NEAR, near + t / 2, t + log_share)
    return z, np.where(t < _NEAR, near_slope + t / 2, -np.log(scale) - log_share)


def _light_below(x: F, lower: F, upper: F, centre: F, scale: F) -> tuple[F, F]:
    z, log_slope = _light_above(upper - x, 0.0 * upper, upper, centre, scale)
    return -z, log_slope


def _heavy_tailed(x: F, lower: F, upper: F, centre: F, scale: F) -> tuple[F, F]:
    standard = (x - centre) / scale
    return np.arcsinh(standard), -np.log(scale) - np.log(np.hypot(1.0, standard))


def _unbounded(x: F, lower: F, upper: F, centre: F, scale: F) -> tuple[F, F]:
    return (x - centre) / scale, -np.log(scale)


def _log_ratio(a: F, b: F) -> F:
    ratio = a / b
    return np.where((ratio > 1 / _TAME) & (ratio < _TAME), np.log(ratio), np.log(a) - np.log(b))
