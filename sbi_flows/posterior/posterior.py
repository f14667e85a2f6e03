"""The amortised posterior: q(theta | y) for any y, with a verdict on each."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

from sbi_flows.draws import Draws
from sbi_flows.errors import SettingsError
from sbi_flows.posterior import record
from sbi_flows.posterior.amortised import Amortised
from sbi_flows.posterior.refine import found_simulator, refine
from sbi_flows.posterior.request import Method, RefineRequest, RefineSettings
from sbi_flows.problem.events import Events
from sbi_flows.problem.simulator import Simulator
from sbi_flows.simulation.settings import Place


@dataclass(frozen=True, eq=False, repr=False)
class Posterior(Amortised):
    """An amortised posterior. Made by `sf.fit` and `sf.load`.

    notes: what was chosen and why, each a sentence with a `kind` and `values`.
    facts: simulator name, simulations used (trained on or held out), seed, package versions.
    history: the loss per epoch, in nats of the standardised parameters, of the first network: -log q, and for
        flow matching a bound on it.
    seconds: how long simulating and training took, where this process did it.
    """

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the posterior to one file, whole or not at all. The bytes depend on the posterior alone."""
        record.save(self, path)

    def refine(
        self,
        y_obs: Any,
        simulator: Simulator | None = None,
        *,
        method: Method | None = None,
        n: int = 4_000,
        n_simulations: int | None = None,
        minutes: float | None = None,
        seed: int = 0,
        settings: RefineSettings | None = None,
        store: str | os.PathLike[str] | None = None,
        say: Callable[[str], None] | None = None,
        **where: Unpack[Place],
    ) -> Draws:
        """`n` draws for one observation that are better than those of the amortised posterior, which is not
        changed.

        simulator: that of the posterior; None: the installed plug-in of its name.
        method: "closed form" takes the simulator's `exact_posterior`; "likelihood" its `log_likelihood`: the
            draws are exact up to a Monte Carlo error that the verdict states, or the verdict says that they
            are not; "rounds" simulates where the posterior has its mass and trains on. None: the first of
            these that the simulator allows.
        n_simulations, minutes: limits on the work: evaluations of the likelihood, or simulations; not for a
            closed form. Without
            them the likelihood is asked until the effective sample size is that of `settings`, and at most 50
            times as often; rounds make 10,000 simulations.
        store: a folder for the simulations of "rounds", from which the same call resumes.
        say: called with a line of text at each step.
        where: `executor`, `workers`, `time_limit`, `max_failures`, as of `sf.simulate`.

        `facts` of exact draws: log_evidence and log_evidence_error in nats; ess, k_hat, error (of a mean, in
        posterior sd), noise (variance of the log-likelihood's estimate), evaluations, seconds; rhat,
        bulk_ess and tail_ess where Markov chains ran; efficiency and pareto_k of this posterior alone as a
        proposal. The verdict has the worse level of the Monte Carlo error's and of the data's, and says where
        the posterior was trained on a simulator of another name.

        Raises `SettingsError`, also for a stack of observations and for options that the method has no use
        for, `ShapeError`, `ObservationError`, and `SimulatorContractError` for a likelihood or a closed form
        that breaks its contract.
        """
        request = RefineRequest(
            method=method,
            n=n,
            n_simulations=n_simulations,
            minutes=minutes,
            seed=seed,
            settings=settings or RefineSettings(),
            store=store,
            say=say,
            where=where,
        )
        found = found_simulator(self, simulator)
        check_pair(self, found, "refine")
        return refine(self, y_obs, found, request)


def check_pair(posterior: Posterior, simulator: Simulator, who: str) -> None:
    """Raise `SettingsError` unless `posterior` has the face of one, and `simulator` has its prior and shape
    of data.
    """
    if not all(hasattr(posterior, name) for name in ("sample", "log_prob", "prior", "event_shape")):
        hint = f" Load it first: sf.load({posterior!r})." if isinstance(posterior, str | os.PathLike) else ""
        raise SettingsError(
            f"{who} takes a posterior from sf.fit or sf.load, got {type(posterior).__name__}.{hint}"
        )
    if not isinstance(simulator, Simulator):
        raise SettingsError(
            f"{who} takes a simulator made with @sf.simulator(prior), got {type(simulator).__name__}."
        )
    events = getattr(posterior, "events", None) or Events.plain(posterior.event_shape)
    if simulator.prior != posterior.prior or not events.same_arrays(simulator.events):
        raise SettingsError(
            f"the posterior was trained on {posterior.facts['simulator']!r} with {posterior.prior} and "
            f"events {events.describe()}; the simulator passed is {simulator.name!r} with "
            f"{simulator.prior} and events {simulator.events.describe()}. Pass the one it was trained on."
        )
