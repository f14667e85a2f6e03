"""Exchangeable groups: one marginal for each of n parameters that share it.

    x_1, ..., x_n ~ p(x) independently,      or given hyperparameters,   x_1, ..., x_n ~ p(x | mu, tau)

A hierarchical prior has them under hyperparameters, as a function of these (`conditional.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F, integer
from sbi_flows.errors import PriorError
from sbi_flows.problem.marginals import (
    ScipyMarginal,
    check_frozen,
    describe,
    marginal_from_json,
    scipy_marginal,
)
from sbi_flows.problem.support import Intervals


@dataclass(frozen=True)
class Iid:
    """What `iid` returns: n parameters with one marginal, for `Prior`."""

    distribution: Any
    n: int
    labels: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"iid({describe(self.distribution)}, {self.n})"


def iid(marginal: Any, n: int, *, labels: Sequence[str] | None = None) -> Iid:
    """n exchangeable parameters, p(x_1, ..., x_n) = prod_i p(x_i), as one block of a prior.

        Prior(mu=norm(0, 5), tau=halfcauchy(0, 5), theta=lambda p: iid(norm(p["mu"], p["tau"]), 8))

    The block theta has the columns theta[0], ..., theta[n-1].

    marginal: a frozen continuous `scipy.stats` distribution; in a function of earlier parameters its
        arguments may be arrays, one entry per draw.
    labels: names of the n groups, the coordinates of the block in ArviZ.

    Raises `PriorError`, and `SettingsError` for an n that is not a positive integer.
    """
    if callable(marginal) and not hasattr(marginal, "pdf"):
        raise PriorError(
            "sf.iid takes a distribution, and the function goes around it: "
            'theta=lambda p: sf.iid(norm(p["mu"], p["tau"]), 8).'
        )
    if hasattr(marginal, "event_shape"):
        raise PriorError(
            f"sf.iid takes a distribution of scipy.stats, got {marginal} of torch. Write that of scipy, "
            "or in torch torch.distributions.Independent(..., 1) of a batch."
        )
    check_frozen("of sf.iid", marginal)
    n = integer("n", n)
    names = None if labels is None else tuple(map(str, labels))
    if isinstance(labels, str) or (
        names is not None and (len(names) != n or len(set(names)) != n or "" in names)
    ):
        raise PriorError(f"labels must be {n} different names, one for each of the groups, got {labels!r}.")
    return Iid(marginal, n, names)


class Group:
    """n parameters with one and the same scipy distribution."""

    scalar = False

    def __init__(self, name: str, group: Iid) -> None:
        self.of: ScipyMarginal = scipy_marginal(name, group.distribution)
        self.distribution, self.labels = group, group.labels
        self.size = self.unconstrained_size = group.n
        one = self.of.intervals
        ends = np.repeat(one.lower, group.n), np.repeat(one.upper, group.n)
        shape = np.repeat(one.centre, group.n), np.repeat(one.scale, group.n)
        self._map = Intervals(*ends, *shape, np.repeat(one.heavy, group.n))
        self.lower, self.upper = self._map.lower, self._map.upper

    def __repr__(self) -> str:
        return repr(self.distribution)

    def sample(self, n: int, rng: np.random.Generator) -> F:
        draws = self.of.distribution.rvs(size=(n, self.size), random_state=rng)
        return self._map.interior(np.asarray(draws, dtype=np.float64))

    def log_prob(self, x: F) -> F:
        each = np.asarray(self.of.distribution.logpdf(x), dtype=np.float64)
        return np.asarray(each.sum(axis=-1))

    def inside(self, x: F) -> NDArray[np.bool_]:
        return self._map.inside(x)

    def to_unconstrained(self, x: F) -> tuple[F, F]:
        return self._map.to_unconstrained(x)

    def from_unconstrained(self, z: F) -> F:
        return self._map.from_unconstrained(z)

    def to_json(self) -> dict[str, Any]:
        of = self.of.to_json()
        if of["source"] == "custom":
            return {**of, "text": repr(self)}
        labels = {} if self.labels is None else {"labels": list(self.labels)}
        return {"source": "iid", "of": of, "n": self.size, **labels}


def group_from_json(record: dict[str, Any]) -> Group:
    """Rebuild a group. Raises `PriorError`."""
    name = record.get("name", "?")
    try:
        of = marginal_from_json({"name": name, **record["of"]})
        if isinstance(of, ScipyMarginal):
            return Group(name, iid(of.distribution, record["n"], labels=record.get("labels")))
    except (KeyError, TypeError, ValueError) as error:
        why = f"the stored marginal {record!r} cannot be rebuilt ({error})."
        raise PriorError(f"prior {name}: {why}") from error
    raise PriorError(f"prior {name}: the stored marginal {record!r} cannot be rebuilt.")
