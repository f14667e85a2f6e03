"""A simulator of sets of replicates: events that share theta.

y = (y_1, ..., y_n),   y_i ~ p(y | theta) independent given theta,   log p(y | theta) = sum_i log p(y_i |
theta)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F, integer
from sbi_flows.errors import SettingsError
from sbi_flows.problem.data import Grid, Kind, Series, Set, Vector
from sbi_flows.problem.patterns import lengths
from sbi_flows.problem.simulator import Parts, Simulator, ThetaMap


def replicates(simulator: Simulator, least: int, most: int) -> Simulator:
    """The simulator of sets of `least` to `most` events of `simulator` that share theta. One fit answers for
    any number in that range; theta that differ between replicates belong in a hierarchical prior (`sf.iid`).

        plots = sf.replicates(sim, 1, 20)
        posterior = sf.fit(plots)
        posterior.sample([plot_1, plot_2, plot_3])

    Each simulation makes `most` events, of which training uses a number that is drawn anew each time. A
    `log_likelihood` of `simulator` becomes that of the set. Raises `SettingsError`.
    """
    if not isinstance(simulator, Simulator):
        raise SettingsError(
            f"replicates takes a simulator made with @sf.simulator(prior), got {type(simulator).__name__}."
        )
    least = integer("least", least)
    most = integer("most", most, least)
    events = simulator.events
    if events.named:
        raise SettingsError(
            f"{simulator.name}: replicates are of one array; here y is a mapping of {events.describe()}."
        )
    of: Kind = events.tables[0].kind or Vector()
    if not isinstance(of, Vector | Series | Grid):
        raise SettingsError(f"{simulator.name} already makes sets; replicates of sets are not known.")
    likelihood = None if simulator.log_likelihood is None else _Likelihood(simulator)
    parts = Parts(
        data=Set(of=of),
        missing=True,
        observe=lengths(least, most),
        event_shape=(most, *events.shape),
        log_likelihood=likelihood,
    )
    return Simulator(_Repeated(simulator, most), simulator.prior, vectorized=True, **parts)


class _Repeated:
    """(theta, rng) -> y (n, most, *event), all from one run of n x most rows."""

    def __init__(self, simulator: Simulator, most: int) -> None:
        self._simulator, self._most = simulator, most
        self.__name__ = f"replicates of {simulator.name}"
        self.__doc__ = f"{most} events of {simulator.name} that share theta."

    def __call__(self, theta: ThetaMap, rng: np.random.Generator) -> NDArray[Any]:
        rows = self._simulator.prior.as_array(dict(theta))
        y = self._simulator.run(np.repeat(rows, self._most, axis=0), rng)
        return y.reshape(len(rows), self._most, *y.shape[1:])


class _Likelihood:
    """log p(y | theta) of a set: the sum over the members that are there."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def __call__(self, theta: ThetaMap, y: F, rng: np.random.Generator) -> F:
        likelihood = self._simulator.log_likelihood
        if likelihood is None:
            raise SettingsError(f"{self._simulator.name} has no log_likelihood.")
        there = ~np.isnan(y.reshape(len(y), -1)).all(axis=1)
        return np.asarray(sum(np.asarray(likelihood(theta, one, rng), dtype=np.float64) for one in y[there]))
