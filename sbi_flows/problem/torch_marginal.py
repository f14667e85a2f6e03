"""The marginal of a `torch.distributions` object. The only module of `problem` that imports torch."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributions import constraints

from sbi_flows.arrays import F
from sbi_flows.errors import PriorError
from sbi_flows.problem.support import HEAVY_TAIL, TAIL, Intervals, Simplex, Support, Whitened, light_tail
from sbi_flows.rng import torch_scope

_KINDS = (
    *("Beta", "Cauchy", "Chi2", "Dirichlet", "Exponential", "Gamma", "Gumbel", "HalfCauchy", "HalfNormal"),
    *("InverseGamma", "Laplace", "LogNormal", "MultivariateNormal", "Normal", "Pareto", "StudentT"),
    *("Uniform", "Weibull"),
)


class TorchMarginal:
    """One parameter, or a block of k, with a `torch.distributions` object, evaluated in float64.

    whitened: whether the map decorrelates a block whose components depend on one another; files of before
        have it column by column.
    """

    def __init__(
        self, name: str, distribution: torch.distributions.Distribution, *, whitened: bool = True
    ) -> None:
        self.distribution = _in_double(name, distribution)
        dist = self.distribution
        if tuple(dist.batch_shape) != () or len(dist.event_shape) > 1:
            raise PriorError(
                f"prior {name}: batch shape {tuple(dist.batch_shape)}, event shape "
                f"{tuple(dist.event_shape)}; wanted batch shape () and an event of rank 0 or 1. Wrap a batch "
                "of independent components in torch.distributions.Independent(..., 1)."
            )
        self.scalar = len(dist.event_shape) == 0
        self.size = self.unconstrained_size = 1 if self.scalar else dist.event_shape[0]
        constraint = dist.support
        while isinstance(constraint, constraints.independent):
            constraint = constraint.base_constraint
        if constraint is constraints.simplex:
            if self.size < 2:
                raise PriorError(
                    f"prior {name}: {self} has a single component, which is always 1: there is nothing to "
                    "infer. Give it two components or more, or leave the parameter out."
                )
            self.unconstrained_size = self.size - 1
            self.lower, self.upper = np.zeros(self.size), np.ones(self.size)
            self._map: Support = Simplex(self.size)
        else:
            ends = (getattr(constraint, "lower_bound", -np.inf), getattr(constraint, "upper_bound", np.inf))
            self.lower, self.upper = (
                np.broadcast_to(np.asarray(end, dtype=np.float64), (self.size,)).copy() for end in ends
            )
            self._map = self._intervals(name)
        if whitened and isinstance(dist, torch.distributions.MultivariateNormal):
            self._map = Whitened(dist.loc.numpy(), dist.scale_tril.numpy())

    def _intervals(self, name: str) -> Intervals:
        draws = self._draw(20_000, np.random.default_rng(0))
        if not (self.lower < self.upper).all() or not np.isfinite(draws).all():
            raise PriorError(
                f"prior {name}: {self} is not a proper distribution (support {self.lower.tolist()} to "
                f"{self.upper.tolist()}). Check its arguments."
            )
        levels = [0.001, 0.25, 0.5, 0.75, 0.999]
        low, quarter, median, three_quarters, high = np.quantile(draws, levels, axis=0)
        scale = three_quarters - quarter
        heavy = np.maximum(high - median, median - low) / scale > 0.7 * HEAVY_TAIL
        below, above = np.isfinite(self.lower), np.isfinite(self.upper)
        if (below != above).any():
            from_below = draws - np.where(below, self.lower, 0.0)
            from_above = np.where(above, self.upper, 0.0) - draws
            distances = np.where(below, from_below, from_above)
            light, length = light_tail(*np.quantile(distances, 1 - TAIL, axis=0))
            heavy = np.where(below != above, ~light, heavy)
            scale = np.where((below != above) & light, length, scale)
        return Intervals(self.lower, self.upper, median, scale, heavy)

    def __repr__(self) -> str:
        return str(self.distribution)

    def sample(self, n: int, rng: np.random.Generator) -> F:
        return self._map.interior(self._draw(n, rng))

    def _draw(self, n: int, rng: np.random.Generator) -> F:
        with torch_scope(rng), torch.no_grad():
            draws = self.distribution.sample((n,)).numpy()
        return np.asarray(draws, dtype=np.float64).reshape(n, self.size)

    def _event(self, x: F) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(x[..., 0] if self.scalar else x))

    def log_prob(self, x: F) -> F:
        inside = self.inside(x)
        safe = np.where(inside[..., None], self._map.interior(x), self.sample(1, np.random.default_rng(0))[0])
        with torch.no_grad():
            log_prob = self.distribution.log_prob(self._event(safe)).numpy()
        return np.where(inside & ~np.isnan(log_prob), log_prob, -np.inf)

    def inside(self, x: F) -> NDArray[np.bool_]:
        return self._map.inside(x)

    def to_unconstrained(self, x: F) -> tuple[F, F]:
        return self._map.to_unconstrained(x)

    def from_unconstrained(self, z: F) -> F:
        return self._map.from_unconstrained(z)

    def to_json(self) -> dict[str, Any]:
        return {"source": "torch", **_torch_json(self.distribution)}

    def map_json(self) -> dict[str, Any]:
        """What `to_json` leaves out: nothing of the distribution, but which map it has."""
        return {"whitened": True} if isinstance(self._map, Whitened) else {}


def _torch_json(dist: torch.distributions.Distribution) -> dict[str, Any]:
    if isinstance(dist, torch.distributions.Independent):
        base, dims = _torch_json(dist.base_dist), dist.reinterpreted_batch_ndims
        return {"kind": "Independent", "base": base, "dims": dims}
    normal = isinstance(dist, torch.distributions.MultivariateNormal)
    names = ["loc", "scale_tril"] if normal else sorted(dist.arg_constraints)
    return {"kind": type(dist).__name__, "params": {key: getattr(dist, key).tolist() for key in names}}


def torch_from_json(record: dict[str, Any]) -> torch.distributions.Distribution:
    """Rebuild a distribution of the fixed list; `ValueError` or `KeyError` for a record that names none."""
    if record["kind"] == "Independent":
        return torch.distributions.Independent(torch_from_json(record["base"]), record["dims"])
    if record["kind"] not in _KINDS:
        raise ValueError(f"unknown kind {record['kind']!r}")
    params = {key: torch.tensor(value, dtype=torch.float64) for key, value in record["params"].items()}
    rebuilt = getattr(torch.distributions, record["kind"])(**params)
    return cast("torch.distributions.Distribution", rebuilt)


def _in_double(name: str, dist: torch.distributions.Distribution) -> torch.distributions.Distribution:
    base = dist
    while isinstance(base, torch.distributions.Independent):
        base = base.base_dist
    if type(base).__name__ not in _KINDS:
        kind, known = type(base).__name__, ", ".join(_KINDS)
        raise PriorError(f"prior {name}: torch's {kind} is not supported; choose one of {known}.")
    try:
        return torch_from_json(_torch_json(dist))
    except ValueError as error:
        why = f"{dist} is not a proper distribution ({error}). Check its arguments."
        raise PriorError(f"prior {name}: {why}") from error
