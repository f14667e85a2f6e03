"""What stands where a simulator would, for pairs that were made elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sbi_flows.errors import SettingsError
from sbi_flows.problem.simulator import Simulator
from sbi_flows.simulation.simulations import Simulations


class _MadeElsewhere:
    """A function (theta, rng) that says why it cannot be called."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, theta: Any, rng: Any) -> Any:
        raise SettingsError(
            f"{self.__name__!r} are pairs that were made elsewhere: without their simulator no data can be "
            "simulated. Pass it as @sf.simulator(prior)."
        )


def stand_in(simulations: Simulations) -> Simulator:
    """A `Simulator` with the prior, the shape of events and the name of `simulations`, and nothing else: each
    call of it raises `SettingsError`.
    """
    function: Callable[..., Any] = _MadeElsewhere(simulations.simulator_name)
    events = simulations.events
    made = Simulator(function, simulations.prior, missing=events.missing)
    made.know(events)
    return made


def is_stand_in(simulator: Simulator) -> bool:
    """Whether it stands in for a simulator, and cannot be called."""
    return isinstance(simulator.function, _MadeElsewhere)


def simulator_or_stand_in(simulator: object, simulations: object, who: str) -> Simulator:
    """The simulator where one is passed, else what stands in for it. who: the function that asks.

    Raises `SettingsError` for what is not a simulator, and where neither that nor simulations are given.
    """
    if isinstance(simulator, Simulator):
        return simulator
    if simulator is not None:
        got = type(simulator).__name__
        hint = " Pass simulations by name: simulations=..." if isinstance(simulator, Simulations) else ""
        raise SettingsError(f"{who} takes a simulator made with @sf.simulator(prior), got {got}.{hint}")
    if isinstance(simulations, Simulations):
        return stand_in(simulations)
    raise SettingsError(
        f"{who} without a simulator needs simulations=, made by sf.simulate, sf.read_bank(path) or "
        f"sf.Simulations.from_arrays(prior, theta, y); got {type(simulations).__name__}."
    )
