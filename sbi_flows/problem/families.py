"""Frozen scipy distributions whose arguments may be arrays, with one entry per row.

    x_i = loc_i + scale_i u,   u ~ the family with its shapes, at loc 0 and scale 1

so that medians, ranges and the decay of tails of n rows come from those of u: one value where the shapes are
numbers, n where they are arrays too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.problem.support import HEAVY_TAIL, LARGEST, TAIL, Intervals, light_tail

_QUARTILES, _TAILS = np.array([0.5, 0.25, 0.75]), np.array([0.0001, 0.9999])


@dataclass(frozen=True)
class Rows:
    """One distribution per row, of one family. All fields but `frozen` have shape (n,).

    frozen: the scipy distribution. proper: where its arguments are allowed.
    lower, upper: the support; NaN where not proper, and one point where the scale has been rounded to zero.
    loc, spread: the arguments loc and scale. centre, scale: median and interquartile range; middle and width
        where all rows are bounded on both sides.
    length: of a half-bounded tail that is light, over which it falls by a factor of e.
    heavy: whether the tail is heavy, by the rule of one marginal.
    """

    frozen: Any
    proper: NDArray[np.bool_]
    lower: F
    upper: F
    loc: F
    spread: F
    centre: F
    scale: F
    length: F
    heavy: NDArray[np.bool_]

    @classmethod
    def of(cls, frozen: Any, n: int, heavy: bool | None = None) -> Rows:
        """Read n rows of a frozen distribution, whose arguments are numbers or have shape (n,).

        heavy: whether the tail is heavy, where it is known already.

        Raises `ValueError` or `TypeError` for arguments of another shape.
        """
        shapes, loc, scale = _arguments(frozen)
        if not (np.isfinite(loc).all() and np.isfinite(scale).all()):
            loc, scale = (np.where(np.isinf(a), np.sign(a) * LARGEST, a) for a in (loc, scale))
            frozen = frozen.dist(*shapes, loc=loc, scale=scale)
        with np.errstate(all="ignore"):
            low, high = (_as_rows(end, n) for end in frozen.support())
            loc, scale = _as_rows(loc, n), _as_rows(scale, n)
            point = (scale == 0) & np.isfinite(loc)
            low, high = np.where(point, loc, low), np.where(point, loc, high)
            if (np.isfinite(low) & np.isfinite(high)).all():
                unit = _Unit(np.full(1, np.nan), np.full(1, np.nan), np.ones(1), np.zeros(1, np.bool_))
                centre, width = low + (high - low) / 2, high - low
            else:
                half = bool((np.isfinite(low) != np.isfinite(high)).any())
                unit = _Unit.of(frozen.dist(*shapes), half, heavy)
                centre, width = loc + scale * unit.median, scale * unit.spread
            return cls(
                frozen=frozen,
                proper=~(np.isnan(low) | np.isnan(high)) & (low <= high),
                lower=low,
                upper=high,
                loc=loc,
                spread=scale,
                centre=_as_rows(centre, n),
                scale=_as_rows(width, n),
                length=_as_rows(scale * unit.length, n),
                heavy=np.broadcast_to(unit.heavy, (n,)),
            )

    def where(self, proper: NDArray[np.bool_]) -> Rows:
        """The same, with fewer rows that count as proper."""
        return replace(self, proper=proper)

    def intervals(self, columns: int, *, heavy: bool) -> Intervals:
        """The map of n rows of `columns` columns, as one of n x columns columns."""
        half = np.isfinite(self.lower) != np.isfinite(self.upper)
        scale = np.where(half & (not heavy), self.length, self.scale)
        scale = np.where(scale > 0, np.minimum(scale, LARGEST), 1.0)
        centre = np.clip(np.nan_to_num(self.centre), -LARGEST, LARGEST)
        of_rows = self.lower, self.upper, centre, scale, np.full(len(scale), heavy)
        return Intervals(*(np.repeat(values, columns) for values in of_rows))

    def quantiles(self, levels: F) -> F:
        """(n, levels): where the distribution of each row has these levels."""
        with np.errstate(all="ignore"):
            found = np.asarray(self.frozen.ppf(levels[:, None]), dtype=np.float64)
        return np.broadcast_to(found, (len(levels), len(self.lower))).T


@dataclass(frozen=True)
class _Unit:
    """A family at loc 0 and scale 1: median, interquartile range, and of its tail what `Rows` says; (1,)
    or (n,).
    """

    median: F
    spread: F
    length: F
    heavy: NDArray[np.bool_]

    @classmethod
    def of(cls, unit: Any, half: bool, heavy: bool | None) -> _Unit:
        median, quarter, three_quarters = np.asarray(unit.ppf(_QUARTILES[:, None]), dtype=np.float64)
        spread = three_quarters - quarter
        length, is_heavy = np.ones(1), np.full(1, bool(heavy))
        if half and not heavy:
            start, end = (np.asarray(bound, dtype=np.float64) for bound in unit.support())
            from_start = unit.isf(TAIL[:, None]) - start if np.isfinite(start).any() else np.inf
            from_end = end - unit.ppf(TAIL[:, None]) if np.isfinite(end).any() else np.inf
            light, length = light_tail(*np.where(np.isfinite(start), from_start, from_end))
            is_heavy = ~light
        elif heavy is None:
            far_below, far_above = np.asarray(unit.ppf(_TAILS[:, None]), dtype=np.float64)
            is_heavy = np.maximum(far_above - median, median - far_below) / spread > HEAVY_TAIL
        return cls(median, spread, length, is_heavy)


def _arguments(frozen: Any) -> tuple[list[Any], F, F]:
    """Shapes, loc and scale, however they were passed."""
    family = frozen.dist
    names = [*(family.shapes or "").replace(",", " ").split(), "loc", "scale"]
    given = {**dict(zip(names, frozen.args, strict=False)), **frozen.kwds}
    shapes = [given[name] for name in names[:-2]]
    loc, scale = (np.asarray(given.get(name, 0.0 if name == "loc" else 1.0), float) for name in names[-2:])
    return shapes, loc, scale


def _as_rows(values: Any, n: int) -> F:
    return np.broadcast_to(np.asarray(values, dtype=np.float64), (n,))
