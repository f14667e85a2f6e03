"""`sf.compare`: methods side by side on one observation: neural | ABC | exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike

from sbi_flows.arrays import F, integer
from sbi_flows.comparison.agreement import agreement
from sbi_flows.comparison.methods import LABELS, NEURAL, Bench, Budget, Methods, chosen
from sbi_flows.comparison.result import Comparison
from sbi_flows.diagnostics.predictive import PredictiveCheck, check_predictive
from sbi_flows.draws import Draws
from sbi_flows.errors import (
    NonFiniteLossError,
    ObservationError,
    SettingsError,
    ShapeError,
    SimulatorContractError,
    TooFewSimulationsError,
    TooManyFailuresError,
)
from sbi_flows.notes import Notes, Say, check_say
from sbi_flows.posterior.posterior import Posterior, check_pair
from sbi_flows.problem.observation import as_observation, as_observed
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed, stream
from sbi_flows.simulation.at import check_where
from sbi_flows.simulation.settings import Place
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.simulation.stand_in import simulator_or_stand_in

_PREDICTIVE_DRAWS, _CHECKED_DRAWS = 300, 1000
_LEAST_DRAWS = 20  # that a distance between two sets needs


def compare(
    posterior: Posterior,
    y_obs: ArrayLike,
    simulator: Simulator | None = None,
    *,
    methods: Methods = None,
    simulations: Simulations | None = None,
    n_simulations: int | None = None,
    minutes: float | None = None,
    truth: ArrayLike | Mapping[str, ArrayLike] | None = None,
    n: int = 4_000,
    seed: int = 0,
    say: Say | None = None,
    **where: Unpack[Place],
) -> Comparison:
    """Compare the neural posterior with other methods on one observation. To ask which of several models made
    the data, see `sf.compare_models`.

    methods: "neural", "refined" (rounds of simulation, `Posterior.refine`), "rejection" and "linear" (ABC),
        "smc", "synthetic_likelihood" (`sf.abc`) and "exact", in any choice, or "all". None: neural,
        rejection, linear and exact. The last needs a simulator that has a `log_likelihood` or an
        `exact_posterior`.
    simulations: for rejection ABC; None repeats those that the posterior was trained on (at most 100,000).
        With those that were made elsewhere no simulator is needed; what would be simulated is then left out.
    n_simulations, minutes: what each method that simulates for this observation may spend, the same for all;
        of both, the tighter one. None: 10,000 simulations. The bank of rejection ABC has as many, or takes
        as long, unless `simulations` are given.
    truth: theta, where it is known.
    n: the number of neural draws.
    say: called with text before each step. where: `workers`, `executor`, ..., as for `sf.simulate`.

    Raises `SettingsError` for a simulator that is not the posterior's, and what the methods raise. What a
    user's likelihood or simulator raises is not lost: `Comparison.left_out` says it.
    """
    simulator = simulator_or_stand_in(simulator, simulations, "compare")
    check_pair(posterior, simulator, "compare")
    check_where(where)
    n, names = integer("n", n, _LEAST_DRAWS), chosen(methods)
    _check_kinds(simulations, say)
    known = None if truth is None else _one_truth(simulator, truth)
    seed, y = check_seed(seed), as_observation(y_obs, posterior.events)
    budget = Budget(n_simulations=n_simulations, minutes=minutes)
    bench = Bench(posterior, simulator, budget, simulations, where, say or _silent)
    results = _Results(bench, y, seed).filled(names, n)
    predictive = results.predict()
    checked = results.checked(predictive.get(NEURAL))
    return Comparison(
        simulator=simulator,
        posterior=posterior,
        y_obs=y,
        draws=results.draws,
        predictive=predictive,
        seconds=results.seconds,
        before=results.before,
        truth=known,
        left_out=tuple(results.left_out),
        seed=seed,
        predictive_check=checked,
        agreement=agreement(posterior, simulator, y, seed),
    )


def _silent(text: str) -> None:
    """Say nothing."""


def _check_kinds(simulations: object, say: object) -> None:
    check_say(say)
    if simulations is not None and not isinstance(simulations, Simulations):
        raise SettingsError(
            f"simulations must come from sf.simulate or sf.read_bank(path), got {type(simulations).__name__}."
        )


class _Results:
    """The draws of each method as they are made, and notes on what could not be."""

    def __init__(self, bench: Bench, y: F, seed: int) -> None:
        self.bench, self.simulator, self.y, self.seed = bench, bench.simulator, y, seed
        self.draws: dict[str, Draws] = {}
        self.seconds: dict[str, float] = {}
        self.before: dict[str, float] = {}
        self.left_out = Notes(lambda text: bench.tell(f"left out: {text}"))

    def filled(self, names: tuple[str, ...], n: int) -> _Results:
        """The same, with the draws of each method."""
        for name in names:
            self.run(name, n)
        return self

    def run(self, name: str, n: int) -> None:
        """Add the draws of a method, or why there are none. What the neural posterior raises is raised."""
        label = LABELS[name]
        self.bench.tell(f"{label} ...")
        try:
            found = self.bench.answer(name, self.y, n, self.seed)
        except _NOTED.get(name, _OF_ABC) as error:  # what was computed before is not lost
            self._note(name, error)
            return
        if found is None:
            self.left_out.note("no exact method")
            return
        self.draws[label], self.seconds[label], self.before[label] = found

    def _note(self, name: str, error: Exception) -> None:
        if name == "exact":
            self.left_out.note("exact left out", reason=_reason(error))
        elif name in ("rejection", "linear"):
            if "ABC left out" not in {note.kind for note in self.left_out}:
                self.left_out.note("ABC left out", reason=str(error))
        else:
            self.left_out.note("method left out", method=LABELS[name], reason=_reason(error))

    def predict(self) -> dict[str, F]:
        """Data simulated at draws of each method."""
        predictive = {}
        for method, found in self.draws.items():
            n = _CHECKED_DRAWS if method == NEURAL else _PREDICTIVE_DRAWS
            rng = stream(self.seed, "predictive")
            theta = found.to_numpy()[rng.choice(len(found), n)]
            try:
                predictive[method] = np.asarray(self.simulator.run(theta, rng), dtype=np.float64)
            except Exception as error:  # of the user's simulator
                self.left_out.note("predictions left out", method=method, reason=_reason(error))
        return predictive

    def checked(self, predicted: F | None) -> PredictiveCheck | None:
        if predicted is None:
            return None
        predicted = as_observed(predicted, self.y)
        gaps = self.simulator.missing
        there = np.isfinite(predicted) | np.isnan(self.y) | (gaps & np.isnan(predicted))
        failed = int((~there.reshape(len(predicted), -1).all(axis=1)).sum())
        try:
            declared = self.simulator.declared_summaries
            found = check_predictive(self.y, predicted, declared, missing=gaps)
        except ShapeError as error:
            self.left_out.note("predictive check left out", reason=str(error))
            return None
        if failed:
            self.left_out.note("predictions not finite", failed=failed, n=len(predicted))
        return found


_OF_ABC: tuple[type[Exception], ...] = (TooFewSimulationsError, ObservationError, SimulatorContractError)
_NOTED: dict[str, tuple[type[Exception], ...]] = {
    "neural": (),
    "exact": (Exception,),  # of the user's function
    "smc": (*_OF_ABC, SettingsError, TooManyFailuresError),  # a budget that is too small is a SettingsError
    "synthetic_likelihood": (*_OF_ABC, SettingsError, TooManyFailuresError),
    "refined": (*_OF_ABC, SettingsError, TooManyFailuresError, NonFiniteLossError),
}


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _one_truth(simulator: Simulator, truth: ArrayLike | Mapping[str, ArrayLike]) -> F:
    """theta (d,) from one row. Raises `ShapeError`, and `SettingsError` outside the prior's support."""
    d = simulator.prior.d
    values = truth if isinstance(truth, Mapping) or d > 1 else np.atleast_1d(truth)
    try:
        rows = simulator.prior.as_array(values)
    except ShapeError as error:
        raise ShapeError(f"truth: {error}") from error
    if rows.size != d:
        raise ShapeError(
            f"truth must be one theta of {d} numbers ({', '.join(simulator.prior.names)}), got shape "
            f"{rows.shape}."
        )
    row = rows.reshape(d)
    if not simulator.prior.inside(row[None])[0]:
        raise SettingsError(f"truth {row.tolist()} lies outside the prior's support: {simulator.prior}.")
    return row
