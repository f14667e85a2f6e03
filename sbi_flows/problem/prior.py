"""The prior p(theta): named marginals, each of which may depend on the earlier ones, and its map to R^d.

    theta = (theta_1, ..., theta_d),   p(theta) = prod_j p_j(theta_j | theta_1, ..., theta_{j-1}),
    z = T(theta) in R^u,               log p_Z(z) = log p(theta) - log |det dT/dtheta|

A marginal is a frozen continuous `scipy.stats` distribution (one parameter), a `torch.distributions` object
(one parameter, or a vector block with dependent components), `sf.iid` (a block of exchangeable ones), or a
function of the earlier parameters that returns a scipy distribution or `sf.iid`. T works in float64,
marginal by marginal:

    bounded [a, b]            logit of the position in the interval, computed from both ends so that no digits
                              are lost at either
    half-bounded              log of the distance to the bound, or log(exp(t) - 1) of it where the tail is
                              lighter than a log-normal one
    unbounded                 identity, or asinh where the tails are heavy, after centring on the median
    simplex (Dirichlet)       stick-breaking, k components to k - 1 coordinates
    MultivariateNormal        L^-1 (x - mean), decorrelated by its covariance L L'
    given earlier parameters  the same with bounds, centre and scale that they give: T is triangular

so that a flow that lives in R^u can never put mass outside the support, and needs no rejection step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike, NDArray

from sbi_flows.arrays import F, numbers
from sbi_flows.errors import ObservationError, PriorError, ShapeError
from sbi_flows.problem.conditional import Conditional
from sbi_flows.problem.groups import Group
from sbi_flows.problem.product import Conditioned, Marginals, at, marginals_of
from sbi_flows.problem.stored import check_same, marginals_from_json

if TYPE_CHECKING:
    import torch

Theta = Float[np.ndarray, "*rows d"]


class Prior:
    """Named marginals, in the order in which they may depend on one another.

        Prior(log_r=scipy.stats.uniform(2, 3), w=torch.distributions.Dirichlet(torch.ones(3)))
        Prior(young=uniform(0, 1), adult=lambda p: uniform(p["young"], 1 - p["young"]))
        Prior(mu=norm(0, 5), tau=halfcauchy(0, 5), theta=lambda p: sf.iid(norm(p["mu"], p["tau"]), 8))

    A function of earlier parameters is called with all draws at once: p maps each earlier name to an array
    (n,), of a block (n, k), and the arguments of what it returns are numbers or arrays (n,).

    names: one label per column; `w[0]`, `w[1]`, ... for a block.
    d: how many columns.
    unconstrained_dim: u, how many coordinates in R^u.

    Raises `PriorError` for anything that is not a proper continuous distribution, and for a function that
    asks for parameters that are not written before it.
    """

    def __init__(self, /, *unnamed: object, **marginals: Any) -> None:
        if unnamed:
            raise PriorError(
                "every marginal has a name: Prior(rate=scipy.stats.uniform(0, 5)), or Prior(**mapping); got "
                f"{unnamed[0]!r}."
            )
        if not marginals:
            raise PriorError("a prior needs at least one marginal, as Prior(rate=scipy.stats.uniform(0, 5)).")
        self._set(marginals_of(marginals))

    def _set(self, marginals: Marginals) -> None:
        self.marginals = dict(marginals)
        self._dependent = any(isinstance(marginal, Conditional) for marginal in marginals.values())
        self.slices: dict[str, slice] = {}
        self._unconstrained: dict[str, slice] = {}
        names: list[str] = []
        column = coordinate = 0
        for name, marginal in self.marginals.items():
            self.slices[name] = slice(column, column + marginal.size)
            self._unconstrained[name] = slice(coordinate, coordinate + marginal.unconstrained_size)
            column, coordinate = column + marginal.size, coordinate + marginal.unconstrained_size
            names += [name] if marginal.scalar else [f"{name}[{i}]" for i in range(marginal.size)]
        self.names = tuple(names)
        if len(set(names)) != len(names) or "" in self.marginals:
            raise PriorError(
                f"the columns would be called {', '.join(names)}; give the parameters names that differ and "
                "are not empty."
            )
        self.d = column
        self.unconstrained_dim = coordinate

    def __repr__(self) -> str:
        return f"Prior({', '.join(f'{name}={marginal}' for name, marginal in self.marginals.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prior) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.names)

    def sample(self, n: int, rng: np.random.Generator) -> Float[np.ndarray, "n d"]:
        """Draw `n` rows from p(theta); only `rng` is used."""
        earlier: dict[str, F] = {}
        parts = []
        for name, marginal in self.marginals.items():
            parts.append(at(marginal, earlier, (n,)).sample(n, rng))
            earlier[name] = parts[-1][:, 0] if marginal.scalar else parts[-1]
        return np.concatenate(parts, axis=1)

    def log_prob(self, theta: ArrayLike | Mapping[str, ArrayLike]) -> Float[np.ndarray, "*rows"]:
        """log p(theta) in nats, -inf outside the support. theta: (..., d), or one entry per name."""
        return np.asarray(sum(marginal.log_prob(x) for marginal, x in self._parts(theta)))

    def inside(self, theta: ArrayLike | Mapping[str, ArrayLike]) -> NDArray[np.bool_]:
        """Whether each row lies in the (closed) support."""
        return np.asarray(np.logical_and.reduce([m.inside(x) for m, x in self._parts(theta)]))

    def _parts(self, theta: Any) -> list[tuple[Conditioned, F]]:
        """Each marginal, given the earlier columns, with its own columns of theta."""
        values = self.as_array(theta)
        earlier, lead, usable = (
            self.as_mapping(values),
            values.shape[:-1],
            np.ones(values.shape[:-1], np.bool_),
        )
        parts: list[tuple[Conditioned, F]] = []
        before: dict[str, F] = {}
        for name, marginal in self.marginals.items():
            x = values[..., self.slices[name]]
            part = at(marginal, before, lead, usable)
            parts.append((part, x))
            if self._dependent:
                before[name], usable = earlier[name], usable & part.inside(x)
        return parts

    @property
    def lower(self) -> Float[np.ndarray, " d"]:
        """The lower end of each column's support; where it depends on earlier parameters, the lowest found
        over draws of these and far out in their coordinates, -inf where it has no limit.
        """
        return np.concatenate([m.lower for m in self.marginals.values()])

    @property
    def upper(self) -> Float[np.ndarray, " d"]:
        """The upper end of each column's support; where it depends on earlier parameters, the highest,
        as `lower`.
        """
        return np.concatenate([m.upper for m in self.marginals.values()])

    @property
    def bounded(self) -> Bool[np.ndarray, " u"]:
        """Which coordinates in R^u are the logit of the position of one parameter in an interval with
        fixed bounds.
        """
        parts = [
            np.isfinite(m.lower) & np.isfinite(m.upper)
            if m.size == m.unconstrained_size and not (isinstance(m, Conditional) and not m.fixed)
            else np.zeros(m.unconstrained_size, dtype=np.bool_)
            for m in self.marginals.values()
        ]
        return np.concatenate(parts)

    def to_unconstrained(self, theta: ArrayLike) -> tuple[F, F]:
        """z = T(theta), shape (..., u), and log |det dT/dtheta|, shape (...). Bounds map to infinity."""
        z, log_det = zip(*(m.to_unconstrained(x) for m, x in self._parts(theta)), strict=True)
        return np.concatenate(z, axis=-1), np.asarray(sum(log_det))

    def from_unconstrained(self, z: ArrayLike) -> Theta:
        """theta = T^-1(z), shape (..., d), always inside the support (at the nearest float64 that is)."""
        z = np.asarray(z, dtype=np.float64)
        if z.ndim == 0 or z.shape[-1] != self.unconstrained_dim:
            raise ShapeError(f"z must have shape (..., {self.unconstrained_dim}), got {z.shape}.")
        earlier: dict[str, F] = {}
        parts = []
        for name, marginal in self.marginals.items():
            part = at(marginal, earlier, z.shape[:-1])
            parts.append(part.from_unconstrained(z[..., self._unconstrained[name]]))
            earlier[name] = parts[-1][..., 0] if marginal.scalar else parts[-1]
        return np.concatenate(parts, axis=-1)

    def as_array(self, theta: ArrayLike | Mapping[str, ArrayLike] | torch.Tensor) -> Theta:
        """theta as float64 (..., d), from an array of that shape or from one entry per name.

        Raises `ShapeError`.
        """
        if isinstance(theta, Mapping):
            values = self._from_mapping(theta)
        elif hasattr(theta, "columns"):
            if set(theta.columns) != set(self.names):
                there = ", ".join(map(str, theta.columns))
                raise ShapeError(f"theta must have the columns {', '.join(self.names)}, got {there}.")
            frame: Any = theta
            values = np.stack([_floats(frame[name]) for name in self.names], axis=-1)
        else:
            values = _floats(theta)
        if values.ndim == 0 or values.shape[-1] != self.d:
            raise ShapeError(
                f"theta must have shape (..., {self.d}), one column for each of {', '.join(self.names)}; got "
                f"{values.shape}."
            )
        return values

    def _from_mapping(self, theta: Mapping[str, ArrayLike]) -> Theta:
        missing, unknown = set(self.marginals) - set(theta), set(theta) - set(self.marginals)
        if missing or unknown:
            raise ShapeError(
                f"theta must name {', '.join(self.marginals)}; missing {sorted(missing)}, unknown "
                f"{sorted(unknown)}."
            )
        entries = [
            _floats(theta[name])[..., None] if marginal.scalar else _floats(theta[name])
            for name, marginal in self.marginals.items()
        ]
        rows = {entry.shape[:-1] for entry in entries}
        if len(rows) != 1:
            raise ShapeError(f"all entries of theta must have the same number of rows, got {sorted(rows)}.")
        return np.concatenate(entries, axis=-1)

    def as_mapping(self, theta: Theta) -> dict[str, F]:
        """theta (..., d) as one array per name: (...) for a parameter, (..., k) for a block."""
        return {
            name: theta[..., self.slices[name].start] if marginal.scalar else theta[..., self.slices[name]]
            for name, marginal in self.marginals.items()
        }

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """The names of the groups of each `sf.iid` that has them."""
        found = {name: m.labels for name, m in self.marginals.items() if isinstance(m, Group | Conditional)}
        return {name: labels for name, labels in found.items() if labels is not None}

    def to_json(self, *, maps: bool = False) -> list[dict[str, Any]]:
        """The prior as JSON, with nothing in it that names code.

        maps: say also which map each marginal has, where there is a choice.
        """
        records = [{"name": name, **marginal.to_json()} for name, marginal in self.marginals.items()]
        if maps:
            for record, marginal in zip(records, self.marginals.values(), strict=True):
                record.update(marginal.map_json() if hasattr(marginal, "map_json") else {})
        return records

    @classmethod
    def from_json(
        cls, records: list[dict[str, Any]], known: Prior | None = None, *, stored_maps: bool = False
    ) -> Prior:
        """Rebuild a prior from `to_json`.

        known: has the marginals that a file cannot hold: functions, and distributions of a user's own class.
        stored_maps: take the maps that the records name, not today's.

        Raises `PriorError` for a marginal that neither has.
        """
        prior = cls.__new__(cls)
        marginals = {} if known is None else known.marginals
        prior._set(marginals_from_json(records, marginals, stored_maps=stored_maps))
        return prior

    def check_stored(self, records: list[dict[str, Any]]) -> None:
        """Raise `PriorError` unless the stored prior is this one; of a user's own class only the name can be
        compared.
        """
        names = [record["name"] for record in records]
        if names != list(self.marginals):
            raise PriorError(
                f"the stored posterior has parameters {names}, the prior that was passed has "
                f"{list(self.marginals)}."
            )
        for there, here in zip(records, self.to_json(), strict=True):
            check_same(there, here, self.marginals[there["name"]])


def check_prior(prior: object, call: str) -> None:
    """Raise `PriorError` unless `prior` is a `Prior`. call: how to write what was called."""
    if not isinstance(prior, Prior):
        raise PriorError(f"wanted an sf.Prior, got {type(prior).__name__}: write {call}.")


def _floats(theta: Any) -> F:
    try:
        return numbers(theta, "theta", "an array, or one array per name")
    except ObservationError as error:
        raise ShapeError(str(error)) from error
