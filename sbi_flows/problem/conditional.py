"""A marginal given the earlier parameters: a function of them that returns a frozen scipy distribution.

    p(theta) = prod_j p_j(theta_j | theta_{<j}),      z_j = T_j(theta_j; theta_{<j})

Each T_j is the map of an interval (`support.py`) with bounds, median and scale of its own in each row. The
Jacobian of all of them is triangular, so its log-determinant is the sum of the logs of the slopes, exactly.
What has no bounds is standardised given the earlier parameters, (theta - m) / s: a hierarchical prior,
theta_j ~ N(mu, tau), is thereby in its non-centred form (Papaspiliopoulos, Roberts & Skold 2007, Statistical
Science 22:59).

A file holds no functions. It holds quantiles of the distribution at a few values of the earlier parameters,
which tell it from another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.errors import PriorError
from sbi_flows.problem.earlier import Earlier, UnknownEarlierError
from sbi_flows.problem.families import Rows
from sbi_flows.problem.groups import Iid
from sbi_flows.problem.marginals import check_frozen

_LARGEST, _CLOSE, _SAME = 1e140, 1e-9, 1e-4
# the middle and four around it; with many digits, so that rounded quantiles are no ties
_LEVELS = np.array(
    [0.4971498726941338, 0.0497870683678639, 0.2431167344342142, 0.7568832655657858, 0.9502129316321361]
)
_EXTREME = np.array([1e-9, 1 - 1e-9])
_WRITE = 'It takes one argument, a mapping of names to arrays: lambda p: scipy.stats.uniform(p["{name}"], 1)'


@dataclass(frozen=True)
class Tries:
    """Values of the earlier parameters to make a conditional marginal with.

    draws: from the prior, (n,) or (n, k) each. extreme: far out in the coordinates, where some may have no
    distribution. few: at fixed coordinates, rounded to six digits.
    """

    draws: Mapping[str, F]
    extreme: Mapping[str, F]
    few: Mapping[str, F]


class Conditional:
    """One parameter, or an iid group, whose distribution is a function of the earlier parameters.

    lower, upper: the widest bounds, over draws from the prior and far out in its coordinates; infinite where
        they move without limit. fixed: whether they are the same for all.
    needs: the names that the function reads.
    """

    def __init__(
        self, name: str, function: Callable[[Any], Any], tries: Tries, order: tuple[str, ...]
    ) -> None:
        self.function, self._name, self._order = function, name, order
        self.heavy: bool | None = None
        n_values = len(next(iter(tries.draws.values()))) if tries.draws else 1
        made, earlier = self._made(tries.draws)
        self.needs = tuple(earlier.asked) or tuple(tries.draws)
        self.scalar = not isinstance(made, Iid)
        self.labels = made.labels if isinstance(made, Iid) else None
        self.size = self.unconstrained_size = made.n if isinstance(made, Iid) else 1
        rows = self._rows(made, n_values)
        self._family = str(rows.frozen.dist.name)
        self._check_rows(rows, tries.draws)
        self.heavy = bool(rows.heavy.any())
        ends = np.stack([rows.lower, rows.upper])
        self.fixed = bool(np.isfinite(ends).all() and (ends == ends[:, :1]).all())
        self._check_alone(rows, tries.draws)
        self.lower, self.upper = (np.full(self.size, end) for end in self._widest(rows, tries.extreme))
        self._record = self._fingerprint(tries.few)

    def __repr__(self) -> str:
        group = self._family if self.scalar else f"iid({self._family}, {self.size})"
        return f"{group} given {', '.join(self.needs) or 'nothing'}"

    def given(
        self, earlier: Mapping[str, F], lead: tuple[int, ...], usable: NDArray[np.bool_] | None = None
    ) -> Given:
        """The distribution given values of the earlier parameters, of shape `lead`, or (*lead, k) of a block.

        usable: of shape `lead`, the rows whose earlier values lie in their own support; the others have no
            distribution here either. Without it all are, and `PriorError` is raised where one has none.
        """
        flat = {name: value.reshape(-1, *value.shape[len(lead) :]) for name, value in earlier.items()}
        n = int(np.prod(lead, dtype=np.int64))
        held = np.ones(n, dtype=np.bool_) if usable is None else np.array(usable).reshape(-1)
        if not held.all():
            flat = {name: value[held] for name, value in flat.items()}
        m = int(held.sum())
        rows = self._rows(self._made(flat)[0], m) if m else None
        if rows is not None and usable is None and not rows.proper.all():
            raise self._improper(rows, flat)
        return Given(self, rows, held, lead)

    def _made(self, earlier: Mapping[str, F]) -> tuple[Any, Earlier]:
        """What the function returns, checked to be a distribution, and what it has read."""
        mapping = Earlier(earlier, self._refuse)
        try:
            with np.errstate(all="ignore"):
                made = self.function(mapping)
        except PriorError:
            raise
        except Exception as error:
            raise PriorError(f"prior {self._name}: {self._failed(error)}") from error
        check_frozen(self._name, made.distribution if isinstance(made, Iid) else made)
        return made, mapping

    def _failed(self, error: Exception) -> str:
        how = _WRITE.format(name=self._order[0])
        said = f"the function of the earlier parameters failed ({type(error).__name__}: {error}). {how}."
        if isinstance(error, ValueError | TypeError):
            said += (
                " It is called once for all draws: write np.where(condition, a, b) for if, np.maximum for "
                "max."
            )
        return said

    def _refuse(self, asked: str) -> PriorError:
        return UnknownEarlierError(self._name, asked, self._order)

    def _rows(self, made: Any, n: int) -> Rows:
        frozen = made.distribution if isinstance(made, Iid) else made
        try:
            return Rows.of(frozen, n, self.heavy)
        except (ValueError, TypeError) as error:
            if any(isinstance(given, Earlier) for given in (*frozen.args, *frozen.kwds.values())):
                raise PriorError(f"prior {self._name}: {self._failed(error)}") from error
            raise PriorError(
                f"prior {self._name}: the arguments of {frozen.dist.name} must be numbers, or arrays of "
                f"one number for each of the {n} draws ({error}). Columns of a block are p[name][:, i]."
            ) from error

    def _improper(self, rows: Rows, earlier: Mapping[str, F]) -> PriorError:
        i = int(np.flatnonzero(~rows.proper)[0])
        at = ", ".join(f"{name}={_said(value[i])}" for name, value in earlier.items() if name in self.needs)
        loc, scale = (f"{values[i]:g}" for values in (rows.loc, rows.spread))
        return PriorError(
            f"prior {self._name}: {rows.frozen.dist.name} with loc {loc} and scale {scale} is not a proper "
            f"distribution, and the earlier parameters can give it: {at}. Keep its scale positive; "
            "scipy's uniform(a, w) is uniform on [a, a + w]."
        )

    def _check_rows(self, rows: Rows, earlier: Mapping[str, F]) -> None:
        """Raise `PriorError` unless each row has a proper distribution whose draws floating point can
        hold.
        """
        with np.errstate(all="ignore"):
            proper = rows.proper & (rows.lower < rows.upper) & (rows.scale > 0) & np.isfinite(rows.centre)
        if not proper.all():
            raise self._improper(rows.where(proper), earlier)
        farthest = float(np.nanmax(np.abs(rows.quantiles(_EXTREME)), initial=0.0))
        if farthest >= _LARGEST:
            raise PriorError(
                f"prior {self._name}: {rows.frozen.dist.name} reaches {farthest:.3g} in one draw of a "
                "thousand million; floating point cannot hold what is computed with numbers from "
                f"{_LARGEST:g}."
            )

    def _check_alone(self, rows: Rows, earlier: Mapping[str, F]) -> None:
        """Raise `PriorError` unless a draw has the same distribution among other draws."""
        some = slice(None, None, -3)
        fewer = {name: value[some] for name, value in earlier.items()}
        n = len(rows.lower[some])
        made, _ = self._made(fewer)
        again = self._rows(made, n)
        pairs = [(rows.lower, again.lower), (rows.upper, again.upper)]
        pairs.append((rows.quantiles(_LEVELS), again.quantiles(_LEVELS)))
        same = (made.n if isinstance(made, Iid) else 1) == self.size and all(
            np.allclose(one[some], other, rtol=_CLOSE, atol=0) for one, other in pairs
        )
        if not same:
            raise PriorError(
                f"prior {self._name}: the distribution of a draw depends on which other draws are asked "
                "for with it. The function must treat each entry of the arrays on its own, without "
                "random numbers; columns of a block are p[name][:, i]."
            )

    def _widest(self, rows: Rows, extreme: Mapping[str, F]) -> tuple[float, float]:
        low, high = float(rows.lower.min()), float(rows.upper.max())
        n = len(next(iter(extreme.values()))) if extreme else 1
        try:
            out = self._rows(self._made(extreme)[0], n)
        except PriorError:
            return low, high
        if not out.proper.any():
            return low, high
        lowest, highest = float(out.lower[out.proper].min()), float(out.upper[out.proper].max())
        with np.errstate(all="ignore"):
            ranges = float(np.ptp(rows.lower)), float(np.ptp(rows.upper))
            moves = max((width for width in ranges if np.isfinite(width)), default=0.0)
            lower = -np.inf if not lowest >= low - moves else min(low, lowest)
            upper = np.inf if not highest <= high + moves else max(high, highest)
        return lower, upper

    def to_json(self) -> dict[str, Any]:
        return self._record

    def _fingerprint(self, few: Mapping[str, F]) -> dict[str, Any]:
        n = len(next(iter(few.values()))) if few else 1
        rows = self._rows(self._made(few)[0], n)
        kept = rows.proper & (rows.scale > 0)
        record: dict[str, Any] = {"source": "conditional", "text": repr(self), "needs": list(self.needs)}
        if not self.scalar:
            record["n"] = self.size
            record |= {} if self.labels is None else {"labels": list(self.labels)}
        given = {name: value[kept].tolist() for name, value in few.items() if name in self.needs}
        return {**record, "given": given, "quantiles": _rounded(_spread_out(rows)[kept]).tolist()}

    def differs(self, record: Mapping[str, Any]) -> str:
        """How the stored distribution differs from this one, in words; empty where it does not."""
        try:
            there = np.array(record["quantiles"], dtype=np.float64).reshape(-1, len(_LEVELS))
            given = {name: np.array(values, dtype=np.float64) for name, values in record["given"].items()}
            size = int(record.get("n", 1))
        except (KeyError, TypeError, ValueError):
            return f"it was {record.get('text', record)!r}"
        if size != self.size:
            return f"it had {size} columns, and has {self.size}"
        if not len(there):
            return ""
        here = _spread_out(self._rows(self._made(given)[0], len(there)))
        width = np.abs(there[:, 1:]).max(axis=1, keepdims=True)
        wrong = ~(np.abs(here - there) <= _SAME * (width + np.abs(there) * np.r_[0.1, np.zeros(4)])).all(
            axis=1
        )
        if not wrong.any():
            return ""
        i = int(np.flatnonzero(wrong)[0])
        at = ", ".join(f"{name}={_said(value[i])}" for name, value in given.items())
        ranges = [f"{row[0] + row[1]:.4g} to {row[0] + row[4]:.4g}" for row in (there[i], here[i])]
        return f"given {at}, the stored 90% range is {ranges[0]}, and here it is {ranges[1]}"


class Given:
    """The distribution of a `Conditional` in rows of given earlier values: a marginal for these rows.

    rows: the distribution in the rows that are held; all the others have none.
    """

    def __init__(
        self, of: Conditional, rows: Rows | None, held: NDArray[np.bool_], lead: tuple[int, ...]
    ) -> None:
        self._of, self._rows, self._held, self._lead = of, rows, held, lead
        self._map = None if rows is None else rows.intervals(of.size, heavy=bool(of.heavy))

    def sample(self, n: int, rng: np.random.Generator) -> F:
        """(n, k), one draw for each of n rows."""
        if self._rows is None or self._map is None:
            return np.empty((n, self._of.size))
        draws = self._rows.frozen.rvs(size=(self._of.size, n), random_state=rng)
        return self._map.interior(np.asarray(draws, dtype=np.float64).T.ravel()).reshape(n, -1)

    def log_prob(self, x: F) -> F:
        if self._rows is None:
            return np.full(self._lead, -np.inf)
        held, inside = self._of_held(x), self._inside(x)
        with np.errstate(all="ignore"):
            found = np.asarray(self._rows.frozen.logpdf(held.T), dtype=np.float64)
        found = np.broadcast_to(found, held.T.shape).sum(axis=0)
        return self._to_all(np.where(inside & ~np.isnan(found), found, -np.inf), -np.inf)

    def inside(self, x: F) -> NDArray[np.bool_]:
        if self._rows is None:
            return np.zeros(self._lead, dtype=np.bool_)
        return self._to_all(self._inside(x), 0.0) > 0

    def to_unconstrained(self, x: F) -> tuple[F, F]:
        if self._rows is None or self._map is None:
            return np.full(x.shape, np.nan), np.full(self._lead, np.nan)
        held, proper = self._of_held(x), self._rows.proper
        z, log_slope = (part.reshape(held.shape) for part in self._map.each_to_line(held.ravel()))
        z = np.where(proper[:, None], z, np.nan)
        return self._to_all(z, np.nan), self._to_all(log_slope.sum(axis=-1), np.nan)

    def from_unconstrained(self, z: F) -> F:
        if self._map is None:
            return np.empty(z.shape)
        return self._map.from_unconstrained(z.ravel()).reshape(z.shape)

    def _of_held(self, x: F) -> F:
        flat = x.reshape(-1, self._of.size)
        return flat if self._held.all() else flat[self._held]

    def _inside(self, x: F) -> NDArray[np.bool_]:
        if self._rows is None or self._map is None:
            return np.zeros(0, dtype=np.bool_)
        held = self._of_held(x)
        within = self._map.each_inside(held.ravel()).reshape(held.shape).all(axis=-1)
        return np.asarray(within & self._rows.proper)

    def _to_all(self, values: Any, fill: float) -> F:
        """Values of the rows that are held as those of all rows."""
        found = np.full((len(self._held), *values.shape[1:]), fill)
        found[self._held] = values
        return found.reshape((*self._lead, *values.shape[1:]))


def _spread_out(rows: Rows) -> F:
    """The median, and how far the other quantiles lie from it."""
    quantiles = rows.quantiles(_LEVELS)
    return np.concatenate([quantiles[:, :1], quantiles[:, 1:] - quantiles[:, :1]], axis=1)


def _rounded(values: F) -> F:
    """Six significant digits: the same from any process."""
    return np.array([float(f"{value:.6g}") for value in np.ravel(values)]).reshape(np.shape(values))


def rounded(values: Mapping[str, F]) -> dict[str, F]:
    """Each array to six significant digits."""
    return {name: _rounded(value) for name, value in values.items()}


def _said(value: Any) -> str:
    return f"{value:.4g}" if np.ndim(value) == 0 else np.array2string(np.asarray(value), precision=4)
