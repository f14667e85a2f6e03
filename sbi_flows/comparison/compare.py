"""Methods side by side on one observation: neural | ABC | exact."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from sbi_flows.baselines.rejection import rejection_abc
from sbi_flows.comparison.agreement import Agreement, agreement
from sbi_flows.comparison.exact import exact_draws
from sbi_flows.comparison.verdict import believe
from sbi_flows.diagnostics.distances import c2st, sliced_wasserstein
from sbi_flows.diagnostics.predictive import PredictiveCheck, check_predictive
from sbi_flows.diagnostics.tests import FALSE_ALARM
from sbi_flows.draws import Draws, weighted_quantile
from sbi_flows.errors import ObservationError, SettingsError, ShapeError, TooFewSimulationsError
from sbi_flows.posterior.posterior import Posterior, check_pair
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed, stream
from sbi_flows.simulation.engine import simulate
from sbi_flows.simulation.settings import SimulateSettings
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.verdict import Verdict

if TYPE_CHECKING:
    import pandas

NEURAL, ABC, ADJUSTED, EXACT = "neural posterior", "rejection ABC", "ABC, linear adjustment", "exact"
_ABC_SIMULATIONS = 100_000
_ABC_QUANTILE = 0.01
_EXACT_DRAWS = 2000
_DISTANCE_DRAWS = 2000
_PREDICTIVE_DRAWS, _CHECKED_DRAWS, _LEAST_DRAWS = 300, 1000, 20


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` found. draws: method -> Draws; predictive: method -> simulated data sets (n, *event);
    seconds: method -> seconds.

    truth: theta by column where it is known. left_out: what could not be run, and why. predictive_check: of
    the neural posterior;
    agreement: of an ensemble's members, here and on simulated data; None without an ensemble.
    """

    simulator: Simulator
    posterior: Posterior
    y_obs: NDArray[np.float64]
    draws: Mapping[str, Draws]
    predictive: Mapping[str, NDArray[np.float64]]
    seconds: Mapping[str, float]
    truth: NDArray[np.float64] | None
    left_out: tuple[str, ...]
    seed: int
    predictive_check: PredictiveCheck | None = None
    agreement: Agreement | None = None

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict on the neural posterior here: on the observation, its predictions, its members, its
        distance from the exact one.
        """
        score = (
            None
            if EXACT not in self.draws
            else self._beyond_chance(self.distances.set_index("b").loc[NEURAL])
        )
        reference = None if EXACT not in self.draws else self.draws[EXACT].verdict
        believed = believe(
            self.draws[NEURAL].verdict, self.predictive_check, self.agreement, score, reference
        )
        if self.predictive_check is not None:
            return believed
        return Verdict(
            believed.level,
            f"{believed.text} It was not held against predictions: they could not be made.",
            believed.quantile,
        )

    @staticmethod
    def _beyond_chance(row: pandas.Series) -> float | None:
        """The C2ST, where it lies beyond chance: of equal laws it is about N(1/2, 1 / (8 n)); exceeded in one
        of 10,000.
        """
        return (
            float(row["c2st"]) if row["c2st"] > 0.5 + norm.isf(FALSE_ALARM) / np.sqrt(8 * row["n"]) else None
        )

    @property
    def table(self) -> pandas.DataFrame:
        """Mean, sd, 90% interval, effective sample size, seconds and simulations of each method and
        parameter.
        """
        import pandas

        rows = []
        for method, draws in self.draws.items():
            weights = np.full(len(draws), 1 / len(draws)) if draws.weights is None else draws.weights
            summary = draws.summary()
            for j, name in enumerate(draws.names):
                rows.append(
                    {
                        "method": method,
                        "parameter": name,
                        "mean": float(summary["mean"].iloc[j]),
                        "sd": float(summary["sd"].iloc[j]),
                        "q05": weighted_quantile(draws.values[:, j], weights, 0.05),
                        "q95": weighted_quantile(draws.values[:, j], weights, 0.95),
                        "truth": None if self.truth is None else float(self.truth[j]),
                        "ess": draws.ess,
                        "seconds": self.seconds[method],
                        "simulations": draws.facts["simulations"],
                    }
                )
        return pandas.DataFrame(rows)

    @cached_property
    def distances(self) -> pandas.DataFrame:
        """C2ST (0.5 alike, 1 disjoint) and sliced Wasserstein distance (in sd) of each method from a
        reference, on equally many draws.

        The reference, column `a`, is the exact posterior where there is one, else the neural posterior; it
        sets the scale.
        """
        import pandas

        rows = []
        a = EXACT if EXACT in self.draws else NEURAL
        for b in (method for method in self.draws if method != a):
            n = min(len(self.draws[a]), len(self.draws[b]), _DISTANCE_DRAWS)
            rng = stream(self.seed, "distances")
            first, second = (rng.permutation(self.draws[method].to_numpy())[:n] for method in (a, b))
            rows.append(
                {
                    "a": a,
                    "b": b,
                    "c2st": c2st(first, second),
                    "sliced_wasserstein": sliced_wasserstein(first, second, rng=rng),
                    "n": n,
                }
            )
        return pandas.DataFrame(rows)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the report: one HTML file that needs nothing else."""
        from sbi_flows.comparison.report import write_report

        write_report([self], path)


def compare(
    posterior: Posterior,
    y_obs: ArrayLike,
    simulator: Simulator,
    *,
    simulations: Simulations | None = None,
    truth: ArrayLike | Mapping[str, ArrayLike] | None = None,
    n: int = 4_000,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> Comparison:
    """Hold the neural posterior beside rejection ABC, plain and adjusted, and the exact posterior where the
    simulator allows it.

    simulations: for ABC; None repeats those that the posterior was trained on (at most 100,000). truth:
    theta, where it is known. Raises `SettingsError` for a simulator that is not the posterior's, and what the
    methods raise.
    """
    tell = say or (lambda text: None)
    check_pair(posterior, simulator, "compare")
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < _LEAST_DRAWS:
        raise SettingsError(
            f"n must be an integer of at least {_LEAST_DRAWS}, the draws that distances need, got {n!r}."
        )
    if simulations is not None and not isinstance(simulations, Simulations):
        raise SettingsError(
            f"simulations must come from sf.simulate or sf.read_bank(path), got {type(simulations).__name__}."
        )
    known = None if truth is None else _one_truth(simulator, truth)
    seed = check_seed(seed)
    y = simulator.check_observation(y_obs)
    draws: dict[str, Draws] = {}
    seconds: dict[str, float] = {}
    left_out: list[str] = []

    def run(method: str, make: Callable[[], Draws | None]) -> None:
        tell(f"{method} ...")
        began = time.monotonic()
        found = make()
        if found is not None:
            draws[method], seconds[method] = found, time.monotonic() - began

    run(NEURAL, lambda: posterior.sample(y, n, seed=seed))
    if simulations is None:
        total = posterior.facts["simulations"] + posterior.facts["failed"]
        tell(f"simulating {min(total, _ABC_SIMULATIONS):,} for ABC ...")
        same_rows = SimulateSettings(block_size=posterior.facts.get("block_size"))
        simulations = simulate(
            simulator,
            min(total, _ABC_SIMULATIONS),
            seed=posterior.facts["simulation_seed"],
            settings=same_rows,
        )
    bank = simulations
    try:
        run(ABC, lambda: rejection_abc(simulator, y, simulations=bank, quantile=_quantile(bank)))
        run(
            ADJUSTED,
            lambda: rejection_abc(simulator, y, simulations=bank, quantile=_quantile(bank), adjust="linear"),
        )
    except (TooFewSimulationsError, ObservationError) as error:
        left_out.append(f"ABC: {error}")
    try:
        run(EXACT, lambda: exact_draws(simulator, posterior, y, min(n, _EXACT_DRAWS), seed=seed))
        if EXACT not in draws:
            left_out.append("exact: the simulator declares neither log_likelihood nor exact_posterior.")
    except Exception as error:  # of the user's function: what was computed before is not lost
        left_out.append(
            f"exact: log_likelihood or exact_posterior of the simulator failed with {type(error).__name__}: "
            f"{error}"
        )
    predictive = {}
    for method, found in draws.items():
        try:
            predictive[method] = _predict(
                simulator, found, seed, _CHECKED_DRAWS if method == NEURAL else _PREDICTIVE_DRAWS
            )
        except Exception as error:
            left_out.append(
                f"posterior predictive of {method}: the simulator raised {type(error).__name__}: {error}"
            )
    checked, lost = None, 0
    if NEURAL in predictive:
        try:
            checked = check_predictive(y, predictive[NEURAL], simulator.declared_summaries)
            lost = int((~np.isfinite(predictive[NEURAL].reshape(_CHECKED_DRAWS, -1)).all(axis=1)).sum())
        except ShapeError as error:
            left_out.append(f"posterior predictive check: {error}")
    if lost:
        left_out.append(
            f"{lost:,} of {_CHECKED_DRAWS:,} predicted data sets are not finite and not in the predictive "
            f"check: the simulator fails "
            f"at {lost / _CHECKED_DRAWS:.1%} of the neural posterior's draws"
        )
    for text in left_out:
        tell(f"left out: {text}")
    members = agreement(posterior, simulator, y, seed)
    return Comparison(
        simulator, posterior, y, draws, predictive, seconds, known, tuple(left_out), seed, checked, members
    )


def _quantile(simulations: Simulations) -> float:
    """1%, or more where that would be fewer than 200 simulations."""
    return min(1.0, max(_ABC_QUANTILE, 200 / max(int(simulations.ok.sum()), 1)))


def _one_truth(simulator: Simulator, truth: ArrayLike | Mapping[str, ArrayLike]) -> NDArray[np.float64]:
    """theta (d,) from one row of any leading shape. Raises `ShapeError` for more or none, `SettingsError`
    outside the prior's support.
    """
    d = simulator.prior.d
    values = truth if isinstance(truth, Mapping) or d > 1 or np.ndim(truth) else [truth]
    try:
        rows = simulator.prior.as_array(values)  # type: ignore[arg-type]
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


def _predict(simulator: Simulator, draws: Draws, seed: int, n: int) -> NDArray[np.float64]:
    rng = stream(seed, "predictive")
    chosen = rng.choice(len(draws), n)
    return np.asarray(simulator.run(draws.to_numpy()[chosen], rng), dtype=np.float64)
