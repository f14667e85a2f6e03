"""One marginal of a prior: a distribution over one parameter or a block of k, with its map to R^u.

Two sources with one contract: `ScipyMarginal` (one parameter) and `TorchMarginal` (one parameter or a block;
in `torch_marginal.py`, which alone imports torch, when it is first needed). The maps: `support.py`.
"""

from __future__ import annotations

import sys
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.errors import PriorError
from sbi_flows.problem.support import HEAVY_TAIL, TAIL, Intervals, light_tail

_RARE, _LARGEST = 1e-9, 1e140
_WANTED = "a frozen continuous distribution such as scipy.stats.uniform(2, 3), or one of torch.distributions"


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
        with np.errstate(invalid="ignore", over="ignore"):
            low, high = map(float, distribution.support())
            points = (0.5, 0.25, 0.75, 0.9999)
            median, quarter, three_quarters, tail = (float(distribution.ppf(p)) for p in points)
        spread = three_quarters - quarter
        if not np.isfinite(median) or not spread > 0 or not low < high:
            raise PriorError(
                f"prior {name}: {self} is not a proper distribution (support [{low}, {high}], median "
                f"{median}, interquartile range {spread}). Check its arguments: scipy's uniform(a, w) is "
                "uniform on [a, a + w]."
            )
        self.lower, self.upper = np.array([low]), np.array([high])
        farthest = _farthest(distribution)
        if farthest >= _LARGEST:
            raise PriorError(
                f"prior {name}: {describe(distribution)} reaches {farthest:.3g} in one draw of a thousand "
                f"million; floating point cannot hold what is computed with numbers from {_LARGEST:g}. Check "
                "its arguments: those of scipy's lognorm are of the logarithm."
            )
        below = median - float(distribution.ppf(0.0001))
        heavy = (tail - median) / spread > HEAVY_TAIL or below / spread > HEAVY_TAIL
        scale = np.array([spread])
        if np.isfinite(low) != np.isfinite(high):
            distances = distribution.isf(TAIL) - low if np.isfinite(low) else high - distribution.ppf(TAIL)
            light, length = light_tail(*np.asarray(distances, dtype=np.float64)[:, None])
            heavy, scale = not light[0], np.where(light, length, scale)
        self.intervals = Intervals(self.lower, self.upper, np.array([median]), scale, np.array([heavy]))

    def __repr__(self) -> str:
        return describe(self.distribution)

    def sample(self, n: int, rng: np.random.Generator) -> F:
        draws = self.distribution.rvs(size=(n, 1), random_state=rng)
        return self.intervals.interior(np.asarray(draws, dtype=np.float64))

    def log_prob(self, x: F) -> F:
        return np.asarray(self.distribution.logpdf(x[..., 0]), dtype=np.float64)

    def inside(self, x: F) -> NDArray[np.bool_]:
        return self.intervals.inside(x)

    def to_unconstrained(self, x: F) -> tuple[F, F]:
        return self.intervals.to_unconstrained(x)

    def from_unconstrained(self, z: F) -> F:
        return self.intervals.from_unconstrained(z)

    def to_json(self) -> dict[str, Any]:
        dist = self.distribution
        if not isinstance(getattr(scipy.stats, dist.dist.name, None), type(dist.dist)):
            return {"source": "custom", "text": describe(dist)}
        return {
            "source": "scipy",
            "kind": dist.dist.name,
            "args": [_number(a) for a in dist.args],
            "kwds": {key: _number(value) for key, value in dist.kwds.items()},
        }


def _farthest(distribution: Any) -> float:
    """The largest size of one draw of a thousand million; of the finite bounds where it cannot be found."""
    with np.errstate(over="ignore"):
        try:
            return max(abs(float(distribution.ppf(_RARE))), abs(float(distribution.isf(_RARE))))
        except (ValueError, RuntimeError):  # its quantiles are found by a search
            return max((abs(float(end)) for end in distribution.support() if np.isfinite(end)), default=0.0)


def marginal_from(name: str, distribution: Any) -> Marginal:
    """Wrap a frozen scipy or a torch distribution; `PriorError` for anything else."""
    if not _is_torch(distribution):
        return scipy_marginal(name, distribution)
    from sbi_flows.problem.torch_marginal import TorchMarginal

    return TorchMarginal(name, distribution)


def _is_torch(distribution: Any) -> bool:
    family: Any = getattr(sys.modules.get("torch.distributions"), "Distribution", ())
    return isinstance(distribution, family)


def scipy_marginal(name: str, distribution: Any) -> ScipyMarginal:
    """Wrap a frozen scipy distribution with numbers as arguments; `PriorError` for anything else."""
    check_frozen(name, distribution)
    if not all(map(_is_number, (*distribution.args, *distribution.kwds.values()))):
        raise PriorError(
            f"prior {name}: {describe(distribution)} has arguments that are not one number each; give "
            "each parameter a name and a marginal of its own, or write several of the same marginal as "
            "sf.iid."
        )
    return ScipyMarginal(name, distribution)


def check_frozen(name: str, distribution: Any) -> None:
    """Raise `PriorError` unless this is a frozen continuous scipy distribution."""
    generator = getattr(distribution, "dist", None)
    if isinstance(generator, scipy.stats.rv_continuous):
        return
    if isinstance(generator, scipy.stats.rv_discrete):
        raise PriorError(f"prior {name}: {generator.name} is discrete; wanted {_WANTED}.")
    if isinstance(distribution, scipy.stats.rv_continuous):
        family = distribution.name or type(distribution).__name__
        known = isinstance(getattr(scipy.stats, family, None), scipy.stats.rv_continuous)
        called = "it with its arguments" if known else "it, with () behind it"
        raise PriorError(f"prior {name}: {family} is not frozen; call {called}.")
    kind = type(distribution).__name__
    raise PriorError(f"prior {name}: got {distribution!r} of type {kind}; wanted {_WANTED}.")


def marginal_from_json(record: dict[str, Any], *, stored_map: bool = False) -> Marginal:
    """Rebuild a marginal. A file can name the families of scipy.stats and a fixed list of torch's only.

    stored_map: take the map that the record names, instead of today's.
    """
    source, name = record.get("source"), record.get("name", "?")
    try:
        if source == "scipy":
            family = getattr(scipy.stats, record["kind"], None)
            if isinstance(family, scipy.stats.rv_continuous):
                kwds = {key: float(a) for key, a in record["kwds"].items()}
                return ScipyMarginal(name, family(*map(float, record["args"]), **kwds))
        if source == "torch":
            from sbi_flows.problem.torch_marginal import TorchMarginal, torch_from_json

            whitened = not stored_map or record.get("whitened") is True
            return TorchMarginal(name, torch_from_json(record), whitened=whitened)
    except (KeyError, TypeError, ValueError) as error:
        why = f"the stored marginal {record!r} cannot be rebuilt ({error})."
        raise PriorError(f"prior {name}: {why}") from error
    raise PriorError(
        f"prior {name}: {record.get('text', record)!r} cannot be rebuilt from a file. Pass the prior itself: "
        "sf.load(path, prior=prior)."
    )


def describe(distribution: Any) -> str:
    """A frozen scipy distribution as it is written."""

    def said(a: Any) -> str:
        return f"{a:g}" if _is_number(a) else repr(a)

    named = [f"{key}={said(a)}" for key, a in distribution.kwds.items()]
    arguments = [*map(said, distribution.args), *named]
    return f"{distribution.dist.name}({', '.join(arguments)})"


def _is_number(argument: Any) -> bool:
    if isinstance(argument, np.ndarray):
        return argument.ndim == 0 and argument.dtype.kind in "iuf"
    return isinstance(argument, Real)


def _number(argument: Any) -> float | str:
    """A float as JSON holds it: an infinite one as a word that `float` reads."""
    value = float(argument)
    return value if np.isfinite(value) else str(value)
