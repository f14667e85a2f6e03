"""`sf.compare`: methods side by side on one observation: neural | ABC | exact."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from sbi_flows.arrays import F, integer
from sbi_flows.baselines.rejection import rejection_abc
from sbi_flows.comparison.agreement import agreement
from sbi_flows.comparison.result import ABC, ADJUSTED, EXACT, NEURAL, Comparison
from sbi_flows.diagnostics.predictive import PredictiveCheck, check_predictive
from sbi_flows.draws import Draws
from sbi_flows.errors import ObservationError, SettingsError, ShapeError, TooFewSimulationsError
from sbi_flows.notes import Notes, Say
from sbi_flows.posterior.posterior import Posterior, check_pair
from sbi_flows.posterior.refine import exact_draws
from sbi_flows.posterior.request import RefineRequest, RefineSettings
from sbi_flows.problem.observation import as_observation, as_observed
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed, stream
from sbi_flows.simulation.engine import simulate
from sbi_flows.simulation.settings import SimulateSettings
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.simulation.stand_in import simulator_or_stand_in

_ABC_SIMULATIONS = 100_000
_ABC_QUANTILE, _LEAST_ACCEPTED = 0.01, 200
_EXACT_DRAWS = 2000
_PREDICTIVE_DRAWS, _CHECKED_DRAWS = 300, 1000
_LEAST_DRAWS = 20  # that a distance between two sets needs


def compare(
    posterior: Posterior,
    y_obs: ArrayLike,
    simulator: Simulator | None = None,
    *,
    simulations: Simulations | None = None,
    truth: ArrayLike | Mapping[str, ArrayLike] | None = None,
    n: int = 4_000,
    seed: int = 0,
    say: Say | None = None,
) -> Comparison:
    """Compare the neural posterior with rejection ABC, plain and adjusted, and with the exact posterior.

    The last needs a simulator that has a `log_likelihood` or an `exact_posterior`. This compares methods for
    one simulator; which of several simulators made the data, `sf.compare_models` answers.

    simulations: for ABC; None repeats those that the posterior was trained on (at most 100,000). With those
        that were made elsewhere no simulator is needed; what would be simulated is then left out.
    truth: theta, where it is known.
    n: the number of neural draws.
    say: called with a line of text before each step.

    Raises `SettingsError` for a simulator that is not the posterior's, and what the methods raise. What a
    user's likelihood or simulator raises is not lost: `Comparison.left_out` says it.
    """
    simulator = simulator_or_stand_in(simulator, simulations, "compare")
    check_pair(posterior, simulator, "compare")
    n = integer("n", n, _LEAST_DRAWS)
    if simulations is not None and not isinstance(simulations, Simulations):
        raise SettingsError(
            f"simulations must come from sf.simulate or sf.read_bank(path), got {type(simulations).__name__}."
        )
    known = None if truth is None else _one_truth(simulator, truth)
    seed = check_seed(seed)
    y = as_observation(y_obs, posterior.events)
    results = _Results(simulator, y, seed, say)
    results.run(NEURAL, lambda: posterior.sample(posterior.events.unpack(y), n, seed=seed))
    results.run_abc(_repeated(posterior, simulator, results.tell) if simulations is None else simulations)
    results.run_exact(posterior, min(n, _EXACT_DRAWS))
    predictive = results.predict()
    checked = results.checked(predictive.get(NEURAL))
    return Comparison(
        simulator=simulator,
        posterior=posterior,
        y_obs=y,
        draws=results.draws,
        predictive=predictive,
        seconds=results.seconds,
        truth=known,
        left_out=tuple(results.left_out),
        seed=seed,
        predictive_check=checked,
        agreement=agreement(posterior, simulator, y, seed),
    )


def _repeated(posterior: Posterior, simulator: Simulator, tell: Say) -> Simulations:
    """The simulations that the posterior was trained on, made again."""
    facts = posterior.facts
    total = min(facts["simulations"] + facts["failed"], _ABC_SIMULATIONS)
    tell(f"simulating {total:,} for ABC ...")
    same_rows = SimulateSettings(block_size=facts.get("block_size"))
    return simulate(simulator, total, seed=facts["simulation_seed"], settings=same_rows)


class _Results:
    """The draws of each method as they are made, and notes on what could not be."""

    def __init__(self, simulator: Simulator, y: F, seed: int, say: Say | None) -> None:
        self.simulator, self.y, self.seed = simulator, y, seed
        self.tell = say or (lambda text: None)
        self.draws: dict[str, Draws] = {}
        self.seconds: dict[str, float] = {}
        self.left_out = Notes(lambda text: self.tell(f"left out: {text}"))

    def run(self, method: str, make: Callable[[], Draws]) -> None:
        self.tell(f"{method} ...")
        began = time.monotonic()
        self.draws[method] = make()
        self.seconds[method] = time.monotonic() - began

    def run_abc(self, bank: Simulations) -> None:
        quantile = min(1.0, max(_ABC_QUANTILE, _LEAST_ACCEPTED / max(int(bank.ok.sum()), 1)))

        given = self.simulator.events.unpack(self.y)

        def draws(adjust: Literal["linear"] | None) -> Draws:
            return rejection_abc(self.simulator, given, simulations=bank, quantile=quantile, adjust=adjust)

        try:
            self.run(ABC, lambda: draws(None))
            self.run(ADJUSTED, lambda: draws("linear"))
        except (TooFewSimulationsError, ObservationError) as error:
            self.left_out.note("ABC left out", reason=str(error))

    def run_exact(self, posterior: Posterior, n: int) -> None:
        if self.simulator.log_likelihood is None and self.simulator.exact_posterior is None:
            self.left_out.note("no exact method")
            return
        asked = RefineRequest(n=n, seed=self.seed, settings=RefineSettings(ess=n))
        try:
            self.run(EXACT, lambda: exact_draws(posterior, self.y, self.simulator, asked))
        except Exception as error:  # of the user's function: what was computed before is not lost
            self.left_out.note("exact left out", reason=_reason(error))

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
