"""`posterior.refine`: the posterior of one observation, better than amortised: by the likelihood where there
is one, else by further simulations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sbi_flows.arrays import F
from sbi_flows.draws import Draws
from sbi_flows.errors import SettingsError
from sbi_flows.exact.closed_form import closed_form, verdict_on
from sbi_flows.exact.exact import sample_exact
from sbi_flows.exact.settings import Wanted
from sbi_flows.notes import Note, Notes
from sbi_flows.posterior.amortised import Amortised, draws_that_fit
from sbi_flows.posterior.proposal import NeuralProposal
from sbi_flows.posterior.request import METHODS, Method, RefineRequest
from sbi_flows.posterior.rounds import refine_by_rounds
from sbi_flows.problem.observation import as_observation
from sbi_flows.problem.plugins import find_plugin
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import stream
from sbi_flows.simulation.from_arrays import GIVEN
from sbi_flows.verdict import Verdict

_EVALUATIONS_A_DRAW, _LEAST_DRAWS = 50, 2000


def refine(posterior: Amortised, y_obs: Any, simulator: Simulator, request: RefineRequest) -> Draws:
    """`Posterior.refine`, of a simulator that is the posterior's."""
    y = _one(posterior, y_obs)
    draws_that_fit(request.n, posterior.prior.d)
    method = _method(simulator, request.method)
    request.check_for(method)
    other = _other(posterior, simulator, Notes(request.say))
    if method == "rounds":
        draws = refine_by_rounds(posterior, y, simulator, request)
        verdict = draws.verdict
    else:
        draws = exact_draws(posterior, y, simulator, replace(request, method=method))
        verdict = _with_data(draws.verdict, posterior.verdict_on_data(y))
    if other is not None:
        verdict = replace(verdict, text=f"{verdict.text} {other}.")
    return replace(draws, verdict=verdict, verdicts=(verdict,))


def _other(posterior: Amortised, simulator: Simulator, notes: Notes) -> Note | None:
    """A note, said at once, where the posterior was trained on a simulator of another name."""
    trained = posterior.facts["simulator"]
    if trained in (GIVEN, simulator.name):
        return None
    notes.note("other simulator", trained=trained, given=simulator.name)
    return notes[0]


def exact_draws(posterior: Amortised, y: F, simulator: Simulator, request: RefineRequest) -> Draws:
    """Draws from the exact posterior at y (*event,), with a verdict on their Monte Carlo error alone.

    `facts`: log_evidence and its log_evidence_error in nats; ess, k_hat of the weights; error, of a posterior
    mean in posterior sd; rhat, bulk_ess, tail_ess where Markov chains were needed; noise, the variance of the
    log-likelihood's estimate; evaluations and seconds; efficiency and pareto_k of q alone as a proposal.
    """
    method = _method(simulator, request.method)
    if method == "rounds":
        raise SettingsError(f"{simulator.name} declares neither log_likelihood nor exact_posterior.")
    if method == "closed form":
        theta = closed_form(simulator, y, request.n, stream(request.seed, "exact"))
        verdict = verdict_on(theta, posterior.prior.names)
        return Draws.of(posterior.prior, theta, verdict, "exact, closed form", facts={"simulations": 0})
    ess = request.settings.ess or 2 * request.n
    wanted = Wanted(
        n=request.n,
        ess=ess,
        evaluations=request.n_simulations or _EVALUATIONS_A_DRAW * max(ess, _LEAST_DRAWS),
        seconds=None if request.minutes is None else 60 * request.minutes,
        chains=request.settings.chains,
        seed=request.seed,
        say=request.say,
        place=request.where,
    )
    q = NeuralProposal(posterior, posterior.events.unpack(y))
    found = sample_exact(simulator, y, q, wanted)
    judged = found.monte_carlo
    facts = {"simulations": 0, **found.facts}
    return Draws.of(posterior.prior, found.theta, judged.verdict, judged.origin, found.weights, facts)


def _with_data(exactness: Verdict, data: Verdict) -> Verdict:
    """The verdict on the draws and that on the data, with the worse level of the two."""
    if data.ok:
        return replace(exactness, quantile=data.quantile)
    found = replace(exactness, text=exactness.text[0].upper() + exactness.text[1:], quantile=data.quantile)
    return found.at_most(data.level, str(Note("data of another model", text=data.text)))


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
