"""The marginals of a prior in their order, each made with values of the earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.stats

from sbi_flows.arrays import F
from sbi_flows.errors import PriorError
from sbi_flows.problem.conditional import Conditional, Given, Tries, rounded
from sbi_flows.problem.earlier import Earlier, UnknownEarlierError
from sbi_flows.problem.groups import Group, Iid
from sbi_flows.problem.marginals import Marginal, marginal_from

Marginals = dict[str, Marginal | Conditional]
Conditioned = Marginal | Given

_DRAWS, _EXTREME, _FEW = 500, 64, 16
_FAR, _NEAR, _GOLDEN = 1e3, 2.0, 0.6180339887498949


def marginals_of(given: Mapping[str, Any]) -> Marginals:
    """Each distribution, group or function of earlier parameters as a marginal. Raises `PriorError`."""
    made: Marginals = {}
    trials = _Trials() if any(_is_function(value) for value in given.values()) else None
    for name, value in given.items():
        if not _is_function(value):
            made[name] = Group(name, value) if isinstance(value, Iid) else marginal_from(name, value)
        else:
            try:
                made[name] = Conditional(
                    name, value, trials.tries if trials else Tries({}, {}, {}), tuple(given)
                )
            except UnknownEarlierError as error:
                raise _with_circle(error, given) from error
        if trials is not None:
            trials.add(name, made[name])
    return made


def at(
    marginal: Marginal | Conditional, earlier: Mapping[str, F], lead: tuple[int, ...], usable: Any = None
) -> Conditioned:
    """The marginal for rows of these earlier values, of shape `lead`."""
    return marginal.given(earlier, lead, usable) if isinstance(marginal, Conditional) else marginal


class _Trials:
    """Values of the parameters so far, to try functions of them with: draws, and places in the
    coordinates.
    """

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self.tries = Tries({}, {}, {})
        self._coordinates = 0

    def add(self, name: str, marginal: Marginal | Conditional) -> None:
        """The values of one more parameter."""
        tries, u = self.tries, marginal.unconstrained_size
        draws = at(marginal, tries.draws, (_DRAWS,)).sample(_DRAWS, self._rng)
        far: F = self._rng.choice([-_FAR, 0.0, _FAR], size=(_EXTREME, u))
        far[:3] = np.array([-_FAR, 0.0, _FAR])[:, None]
        places = self._coordinates + 1 + np.arange(u)
        near = np.asarray(_NEAR * (2 * (np.arange(1, _FEW + 1)[:, None] * places * _GOLDEN % 1) - 1))
        self._coordinates += u
        self.tries = Tries(
            {**tries.draws, name: _column(draws, marginal)},
            {**tries.extreme, name: _column(_value(marginal, tries.extreme, far), marginal)},
            {**tries.few, **rounded({name: _column(_value(marginal, tries.few, near), marginal)})},
        )


def _value(marginal: Marginal | Conditional, earlier: Mapping[str, F], z: F) -> F:
    """theta at z; where the earlier values allow no distribution, the median for all."""
    try:
        return at(marginal, earlier, (len(z),)).from_unconstrained(z)
    except PriorError:
        middle = {name: np.broadcast_to(value[1], value.shape) for name, value in earlier.items()}
        return at(marginal, middle, (len(z),)).from_unconstrained(np.zeros_like(z))


def _column(x: F, marginal: Marginal | Conditional) -> F:
    return x[..., 0] if marginal.scalar else x


def _is_function(value: Any) -> bool:
    """Whether this is a function of earlier parameters, and not something of scipy or torch that can be
    called.
    """
    families = (type, scipy.stats.rv_continuous, scipy.stats.rv_discrete)
    library = type(value).__module__.split(".")[0] in ("scipy", "torch")
    return callable(value) and not isinstance(value, families) and not library


def _with_circle(error: UnknownEarlierError, given: Mapping[str, Any]) -> PriorError:
    """The error, which says where names need one another in a circle."""
    way = [error.name, error.asked]
    while way[-1] in given and way[-1] not in way[:-1]:
        asked = _asked(way[-1], given)
        back = [name for name in asked if name in way]
        later = [name for name in asked if name in given]
        if not (back or later):
            return error
        way.append((back or later)[0])
    if way[-1] not in way[:-1] or way[-1] == way[-2]:
        return error
    circle = way[way.index(way[-1]) :]
    steps = ", and ".join(f"{one} needs {other}" for one, other in pairwise(circle))
    return PriorError(
        f"prior {error.name}: a cycle: {steps}. One of them must have a distribution of its own, or one "
        f"that needs only names before it. The order as written is {', '.join(given)}."
    )


def _asked(name: str, given: Mapping[str, Any]) -> list[str]:
    """Which other names a function asks for, as far as can be seen by calling it with ones."""
    if not _is_function(given[name]):
        return []
    mapping = Earlier(
        {other: np.ones(2) for other in given if other != name}, lambda asked: PriorError(asked)
    )
    function: Callable[[Any], Any] = given[name]
    try:
        with np.errstate(all="ignore"):
            function(mapping)
    except Exception:
        return list(mapping.asked)
    return list(mapping.asked)
