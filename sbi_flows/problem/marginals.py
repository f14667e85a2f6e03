"""One marginal of a prior: a distribution over one parameter or a block of k, with its map to R^u.

Two sources behind one contract: `ScipyMarginal` (one parameter) and `TorchMarginal` (one parameter or a block). The maps are those
of `support.py`.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy.stats
import torch
from numpy.typing import NDArray
from torch.distributions import constraints

from sbi_flows.errors import PriorError
from sbi_flows.problem.support import Intervals, Simplex, Support
from sbi_flows.rng import torch_scope

F = NDArray[np.float64]

_TORCH_KINDS = (
    "Beta",
    "Cauchy",
    "Chi2",
    "Dirichlet",
    "Exponential",
    "Gamma",
    "Gumbel",
    "HalfCauchy",
    "HalfNormal",
    "InverseGamma",
    "Laplace",
    "LogNormal",
    "MultivariateNormal",
    "Normal",
    "Pareto",
    "StudentT",
    "Uniform",
    "Weibull",
)
_HEAVY_TAIL = 10.0
_WANTED = "a frozen continuous scipy.stats distribution such as scipy.stats.uniform(2, 3), or a torch.distributions object"


@runtime_checkable
class Marginal(Protocol):
    """What `Prior` needs of a marginal; arrays are float64 with the marginal's own columns last."""

    scalar: bool
    size: int
    unconstrained_size: int
    lower: F
    upper: F

    def sample(self, n: int, rng: np.random.Generator) -> F: ...
    def log_prob(self, x: F) -> F: ...
    def inside(self, x: F) -> NDArray[np.bool_]: ...
    def to_unconstrained(self, x: F) -> tuple[F, F]: ...
    def from_unconstrained(self, z: F) -> F: ...
    def to_json(self) -> dict[str, Any]: ...


class ScipyMarginal:
    """One parameter with a frozen continuous `scipy.stats` distribution."""

    scalar = True
    size = 1
    unconstrained_size = 1

    def __init__(self, name: str, distribution: Any) -> None:
        self.distribution = distribution
        with np.errstate(invalid="ignore"):
            low, high = (float(end) for end in distribution.support())
            median, quarter, three_quarters, tail = (float(distribution.ppf(p)) for p in (0.5, 0.25, 0.75, 0.9999))
        spread = three_quarters - quarter
        if not np.isfinite(median) or not spread > 0 or not low < high:
            raise PriorError(
                f"prior {name}: {_describe(distribution)} is not a proper distribution (support [{low}, {high}], median {median}, "
                f"interquartile range {spread}). Check its arguments: scipy's uniform(a, w) is uniform on [a, a + w]."
            )
        self.lower, self.upper = np.array([low]), np.array([high])
        heavy = (tail - median) / spread > _HEAVY_TAIL or (median - float(distribution.ppf(0.0001))) / spread > _HEAVY_TAIL
        self._map = Intervals(self.lower, self.upper, np.array([median]), np.array([spread]), np.array([heavy]))

    def __repr__(self) -> str:
        return _describe(self.distribution)

    def sample(self, n: int, rng: np.random.Generator) -> F:
        return self._map.interior(np.asarray(self.distribution.rvs(size=(n, 1), random_state=rng), dtype=np.float64))

    def log_prob(self, x: F) -> F:
        return np.asarray(self.distribution.logpdf(x[..., 0]), dtype=np.float64)

    def inside(self, x: F) -> NDArray[np.bool_]:
        return self._map.inside(x)

    def to_unconstrained(self, x: F) -> tuple[F, F]:
        return self._map.to_unconstrained(x)

    def from_unconstrained(self, z: F) -> F:
        return self._map.from_unconstrained(z)

    def to_json(self) -> dict[str, Any]:
        dist = self.distribution
        if not isinstance(getattr(scipy.stats, dist.dist.name, None), type(dist.dist)):
            return {"source": "custom", "text": _describe(dist)}
        return {
            "source": "scipy",
            "kind": dist.dist.name,
            "args": [_number(a) for a in dist.args],
            "kwds": {key: _number(value) for key, value in dist.kwds.items()},
        }


class TorchMarginal:
    """One parameter, or a block of k, with a `torch.distributions` object, evaluated in float64."""

    def __init__(self, name: str, distribution: torch.distributions.Distribution) -> None:
        self.distribution = _in_double(name, distribution)
        dist = self.distribution
        if tuple(dist.batch_shape) != () or len(dist.event_shape) > 1:
            raise PriorError(
                f"prior {name}: batch shape {tuple(dist.batch_shape)}, event shape {tuple(dist.event_shape)}; wanted batch shape () and an "
                "event of rank 0 or 1. Wrap a batch of independent components in torch.distributions.Independent(..., 1)."
            )
        self.scalar = len(dist.event_shape) == 0
        self.size = self.unconstrained_size = 1 if self.scalar else dist.event_shape[0]
        constraint = dist.support
        while isinstance(constraint, constraints.independent):
            constraint = constraint.base_constraint
        if constraint is constraints.simplex:
            self.unconstrained_size = self.size - 1
            self.lower, self.upper = np.zeros(self.size), np.ones(self.size)
            self._map: Support = Simplex(self.size)
        else:
            ends = (getattr(constraint, "lower_bound", -np.inf), getattr(constraint, "upper_bound", np.inf))
            self.lower, self.upper = (np.broadcast_to(np.asarray(end, dtype=np.float64), (self.size,)).copy() for end in ends)
            self._map = self._intervals(name)

    def _intervals(self, name: str) -> Intervals:
        draws = self._draw(20_000, np.random.default_rng(0))
        if not (self.lower < self.upper).all() or not np.isfinite(draws).all():
            raise PriorError(
                f"prior {name}: {self} is not a proper distribution (support {self.lower.tolist()} to {self.upper.tolist()}). "
                "Check its arguments."
            )
        low, quarter, median, three_quarters, high = np.quantile(draws, [0.001, 0.25, 0.5, 0.75, 0.999], axis=0)
        scale = three_quarters - quarter
        return Intervals(self.lower, self.upper, median, scale, np.maximum(high - median, median - low) / scale > 0.7 * _HEAVY_TAIL)

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


def marginal_from(name: str, distribution: Any) -> Marginal:
    """Wrap a frozen scipy or a torch distribution; `PriorError` for anything else."""
    if isinstance(distribution, torch.distributions.Distribution):
        return TorchMarginal(name, distribution)
    generator = getattr(distribution, "dist", None)
    if isinstance(generator, scipy.stats.rv_continuous):
        if not all(map(_is_number, (*distribution.args, *distribution.kwds.values()))):
            raise PriorError(
                f"prior {name}: {_describe(distribution)} has arguments that are not one number each; "
                "give each parameter a name and a marginal of its own."
            )
        return ScipyMarginal(name, distribution)
    if isinstance(generator, scipy.stats.rv_discrete):
        raise PriorError(f"prior {name}: {generator.name} is discrete; wanted {_WANTED}.")
    if isinstance(distribution, scipy.stats.rv_continuous):
        raise PriorError(f"prior {name}: scipy.stats.{distribution.name} is not frozen; call it with its arguments.")
    raise PriorError(f"prior {name}: got {distribution!r} of type {type(distribution).__name__}; wanted {_WANTED}.")


def marginal_from_json(record: dict[str, Any]) -> Marginal:
    """Rebuild a marginal; only the named families of scipy.stats and a fixed list from torch can be named in a file."""
    source, name = record.get("source"), record.get("name", "?")
    try:
        if source == "scipy":
            family = getattr(scipy.stats, record["kind"], None)
            if isinstance(family, scipy.stats.rv_continuous):
                return ScipyMarginal(name, family(*map(float, record["args"]), **{key: float(a) for key, a in record["kwds"].items()}))
        if source == "torch":
            return TorchMarginal(name, _torch_from_json(record))
    except (KeyError, TypeError, ValueError) as error:
        raise PriorError(f"prior {name}: the stored marginal {record!r} cannot be rebuilt ({error}).") from error
    raise PriorError(
        f"prior {name}: {record.get('text', record)!r} cannot be rebuilt from a file. Pass the prior itself: sf.load(path, prior=prior)."
    )


def _describe(distribution: Any) -> str:
    words = {place: f"{a:g}" if _is_number(a) else repr(a) for place, a in [*enumerate(distribution.args), *distribution.kwds.items()]}
    arguments = [word if isinstance(place, int) else f"{place}={word}" for place, word in words.items()]
    return f"{distribution.dist.name}({', '.join(arguments)})"


def _is_number(argument: Any) -> bool:
    return isinstance(argument, Real) or (isinstance(argument, np.ndarray) and argument.ndim == 0 and argument.dtype.kind in "iuf")


def _number(argument: Any) -> float | str:
    """A float as JSON holds it: an infinite one as a word that `float` reads."""
    value = float(argument)
    return value if np.isfinite(value) else str(value)


def _torch_json(dist: torch.distributions.Distribution) -> dict[str, Any]:
    if isinstance(dist, torch.distributions.Independent):
        return {"kind": "Independent", "base": _torch_json(dist.base_dist), "dims": dist.reinterpreted_batch_ndims}
    names = ["loc", "scale_tril"] if isinstance(dist, torch.distributions.MultivariateNormal) else sorted(dist.arg_constraints)
    return {"kind": type(dist).__name__, "params": {key: getattr(dist, key).tolist() for key in names}}


def _torch_from_json(record: dict[str, Any]) -> torch.distributions.Distribution:
    if record["kind"] == "Independent":
        return torch.distributions.Independent(_torch_from_json(record["base"]), record["dims"])
    if record["kind"] not in _TORCH_KINDS:
        raise ValueError(f"unknown kind {record['kind']!r}")
    family = getattr(torch.distributions, record["kind"])
    rebuilt = family(**{key: torch.tensor(value, dtype=torch.float64) for key, value in record["params"].items()})
    return rebuilt  # type: ignore[no-any-return]


def _in_double(name: str, dist: torch.distributions.Distribution) -> torch.distributions.Distribution:
    base = dist
    while isinstance(base, torch.distributions.Independent):
        base = base.base_dist
    if type(base).__name__ not in _TORCH_KINDS:
        raise PriorError(f"prior {name}: torch's {type(base).__name__} is not supported; choose one of {', '.join(_TORCH_KINDS)}.")
    try:
        return _torch_from_json(_torch_json(dist))
    except ValueError as error:
        raise PriorError(f"prior {name}: {dist} is not a proper distribution ({error}). Check its arguments.") from error
