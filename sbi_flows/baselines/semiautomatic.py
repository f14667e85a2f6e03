"""Semi-automatic summaries: the posterior mean, by regression on the data (Fearnhead & Prangle 2012, JRSS B
74:419).

    s(y) = E[z | y],   z = T(theta) unconstrained,

the summary that loses least of the mean under quadratic loss. It is learned from simulations that are then
left out, so that no row is both learned from and accepted. Three regressions are tried: ridge on the scaled
data u (and the summaries that are declared), ridge on u, u^2, u^3 and u^4 as in the paper, and networks on u.
The one with the least squared error on the fifth of these rows that none has seen is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.baselines.distance import spreads
from sbi_flows.baselines.nearest import Part
from sbi_flows.baselines.regression import fit_ridge
from sbi_flows.baselines.target import Target
from sbi_flows.errors import TooFewSimulationsError
from sbi_flows.nets.scaling import Scaler
from sbi_flows.notes import Note
from sbi_flows.problem.observation import as_observed
from sbi_flows.rng import stream

SEMI_AUTOMATIC = "semi-automatic"
_MOST_ROWS, _SHARE = 20_000, 0.25
_LEAST_ROWS, _HELD_OUT = 200, 5
_POWERS, _MOST_COLUMNS, _LAYERS, _MEMBERS = 4, 1000, 2, 2


def rows_to_learn_from(usable: int) -> int:
    """How many of the simulations are learned from, and not accepted. Raises `TooFewSimulationsError`."""
    rows = min(int(_SHARE * usable), _MOST_ROWS)
    if rows < _LEAST_ROWS:
        raise TooFewSimulationsError(
            f"semi-automatic summaries are learned from a quarter of the simulations, at least {_LEAST_ROWS} "
            f"of them, and {usable:,} can be used. Simulate more, or declare summaries."
        )
    return rows


@dataclass(frozen=True, eq=False)
class Features:
    """The scaled data u and the declared summaries in units of their spread, of events (n, *event): (n, c).

    there: which values of an event are looked at; 0 stands for what a simulation leaves out.
    """

    there: Bool[np.ndarray, " elements"]
    scaler: Scaler
    declared: Callable[[NDArray[Any]], F] | None
    centre: Float[np.ndarray, " k"]
    spread: Float[np.ndarray, " k"]

    @classmethod
    def of(cls, target: Target, y: NDArray[Any]) -> Features:
        """Of what the target's observation has, scaled by simulations y."""
        there = ~np.isnan(target.observed.reshape(-1))
        scaler = Scaler.from_data(_elements(y, there), shared=False)
        declared = target.simulator.declared_summaries
        values = np.zeros((1, 0)) if declared is None else declared(as_observed(y, target.observed))
        values = values[np.isfinite(values).all(axis=1)]
        if not len(values):
            raise TooFewSimulationsError("the declared summaries of all simulations are not finite.")
        spread = spreads(values)
        return cls(there, scaler, declared, np.median(values, axis=0), spread)

    def __call__(self, y: NDArray[Any]) -> Float[np.ndarray, "n c"]:
        u: F = np.nan_to_num(self.scaler(_elements(y, self.there)), nan=0.0)
        if self.declared is None:
            return u
        values = np.arcsinh((self.declared(y) - self.centre) / self.spread)
        return np.concatenate([u, values], axis=1)


@dataclass(frozen=True, eq=False)
class PosteriorMean:
    """E[z | y] of events y (n, *event), (n, d). regression: on the first `powers` powers of the features."""

    features: Features
    regression: Callable[[F], F]
    powers: int
    note: Note

    def __call__(self, y: NDArray[Any]) -> Float[np.ndarray, "n d"]:
        return np.asarray(self.regression(_powers(self.features(y), self.powers)))


def learn_posterior_mean(target: Target, part: Part, seed: int) -> PosteriorMean:
    """From simulations that are not accepted. seed: of the networks and of what is held out.

    Raises `TooFewSimulationsError` where too few have finite summaries.
    """
    from sbi_flows.baselines.networks import fit_networks

    features = Features.of(target, part.y)
    u = features(as_observed(part.y, target.observed))
    z, _ = target.simulator.prior.to_unconstrained(part.theta)
    finite = np.isfinite(u).all(axis=1)
    u, z = u[finite], z[finite]
    if len(u) < _LEAST_ROWS // 2:
        raise TooFewSimulationsError(
            f"{len(u)} of {len(finite)} simulations have finite summaries: too few to learn from."
        )
    order = stream(seed, "semi-automatic").permutation(len(u))
    out, kept = np.split(order, [len(u) // _HELD_OUT])
    tried: list[tuple[float, str, int, Callable[[F], F]]] = []
    weights = np.ones(len(kept))
    for powers in (1, _POWERS) if _POWERS * u.shape[1] <= min(len(kept) // 2, _MOST_COLUMNS) else (1,):
        linear = fit_ridge(_powers(u[kept], powers), z[kept], weights)
        name = "linear regression" if powers == 1 else f"regression on {powers} powers"
        tried.append((_error(linear(_powers(u[out], powers)), z[out]), name, powers, linear))
    networks = fit_networks(u[kept], z[kept], weights, seed, members=_MEMBERS, spreads=False, layers=_LAYERS)
    tried.append((_error(networks.mean(u[out]), z[out]), "networks", 1, networks.mean))
    error, name, powers, regression = min(tried, key=lambda one: one[0])
    return PosteriorMean(
        features, regression, powers, Note("learned summaries", method=name, rows=len(part.rows), error=error)
    )


def _powers(u: F, powers: int) -> F:
    with np.errstate(over="ignore"):
        return u if powers == 1 else np.concatenate([u**power for power in range(1, powers + 1)], axis=1)


def _error(found: F, z: F) -> float:
    """The mean squared error, in units of the variance of each parameter."""
    return float((np.square(found - z).mean(axis=0) / np.maximum(z.var(axis=0), 1e-300)).mean())


def _elements(y: NDArray[Any], there: NDArray[np.bool_]) -> F:
    return np.asarray(y, dtype=np.float64).reshape(len(y), -1)[:, there]
