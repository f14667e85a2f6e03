"""`posterior.refine`: the posterior of one observation, better than amortised: by the likelihood where there
is one, else by further simulations.
"""

from __future__ import annotations

from typing import Any

from sbi_flows.arrays import F
from sbi_flows.draws import Draws
from sbi_flows.errors import SettingsError
from sbi_flows.posterior.amortised import Amortised
from sbi_flows.posterior.request import METHODS, Method, RefineRequest
from sbi_flows.posterior.rounds import refine_by_rounds
from sbi_flows.problem.observation import as_observation
from sbi_flows.problem.plugins import find_plugin
from sbi_flows.problem.simulator import Simulator


def refine(posterior: Amortised, y_obs: Any, simulator: Simulator, request: RefineRequest) -> Draws:
    """`Posterior.refine`, of a simulator that is the posterior's."""
    y = _one(posterior, y_obs)
    method = _method(simulator, request.method)
    if method == "rounds":
        return refine_by_rounds(posterior, y, simulator, request)
    return refine_by_likelihood(posterior, y, simulator, request)


def refine_by_likelihood(posterior: Amortised, y: F, simulator: Simulator, request: RefineRequest) -> Draws:
    """Draws from the exact posterior at y (*event,)."""
    raise SettingsError("refining by the likelihood is not there yet.")


def found_simulator(posterior: Amortised, simulator: Simulator | None) -> Simulator:
    """The simulator, or the installed plug-in by the name of that which the posterior was trained on.

    Raises `SettingsError`, and `PluginError` for a plug-in that cannot be loaded.
    """
    if simulator is not None:
        return simulator
    name = posterior.facts["simulator"]
    found = find_plugin(name)
    if found is None:
        raise SettingsError(
            f"refine needs the simulator that the posterior was trained on, {name!r}, which is not an "
            "installed plug-in: pass it, as posterior.refine(y_obs, my_simulator)."
        )
    return found


def _one(posterior: Amortised, y_obs: Any) -> F:
    """One observation. Raises `SettingsError` for a stack, `ShapeError` and `ObservationError`."""
    y = as_observation(y_obs, posterior.events, stack=True)
    if y.ndim > len(posterior.event_shape):
        raise SettingsError(
            f"refine takes one observation at a time, and these are {len(y)}: call it for each of them."
        )
    return y


def _method(simulator: Simulator, asked: Method | None) -> Method:
    """What was asked for, or the best that the simulator allows. Raises `SettingsError`."""
    has = {
        "closed form": simulator.exact_posterior is not None,
        "likelihood": simulator.log_likelihood is not None,
        "rounds": True,
    }
    if asked is None:
        return next(method for method in METHODS if has[method])
    if not has[asked]:
        part = {"closed form": "exact_posterior", "likelihood": "log_likelihood"}[asked]
        raise SettingsError(
            f"method={asked!r} needs the {part} of the simulator, and {simulator.name} declares none. "
            f"Give @sf.simulator(prior, {part}=...), or take method='rounds'."
        )
    return asked
