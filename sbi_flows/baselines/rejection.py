"""Rejection ABC: keep the simulations whose summaries are nearest to the observed ones.

    p_eps(theta | y)  proportional to  p(theta) P( d(s(y'), s(y)) <= eps | theta )

(Beaumont, Zhang & Balding 2002, Genetics 162:2025), eps given, or a quantile of the distances, or that of the
m-th nearest. The distance is that of `baselines.distance`, and `baselines.adjustment` moves the draws to the
observed summaries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F, integer, real
from sbi_flows.baselines.adjustment import (
    Adjustment,
    adjusted,
    check_adjustment,
    epanechnikov,
    least_accepted,
)
from sbi_flows.baselines.distance import Distance
from sbi_flows.baselines.likeness import likeness
from sbi_flows.baselines.nearest import Nearest, absolute_deviations, nearest_share, sample, within
from sbi_flows.baselines.semiautomatic import SEMI_AUTOMATIC, learn_posterior_mean, rows_to_learn_from
from sbi_flows.baselines.target import Target
from sbi_flows.baselines.verdict import rejection_verdict, with_failures, with_filled
from sbi_flows.baselines.width import never_better, of_accepted, of_adjusted
from sbi_flows.draws import Draws
from sbi_flows.errors import ObservationError, SettingsError, SimulatorContractError, TooFewSimulationsError
from sbi_flows.notes import Note
from sbi_flows.problem.simulator import Simulator
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.verdict import Verdict

_LEAST_ACCEPTED, _QUANTILE = 20, 0.01
_SAMPLE = 2500  # simulations that give the units of the distance, and its null


def rejection_abc(
    simulator: Simulator | None = None,
    y_obs: Any = None,
    *,
    simulations: Simulations,
    quantile: float | None = None,
    epsilon: float | None = None,
    nearest: int | None = None,
    adjust: Adjustment | None = None,
    summaries: Any = None,
) -> Draws:
    """Approximate posterior draws for one observation, from existing simulations.

    Distances are Euclidean on summaries, each divided by its median absolute deviation over the simulations
    (over 2,500 of them at random where there are more). Summaries that do not vary are left out of the
    distance. What is missing in the observation is left out of the simulations too. A bank on disk is read
    twice, a block at a time: for the units, and for the nearest.

    simulator: None for pairs that were made elsewhere.
    quantile: the share of simulations to accept, in (0, 1]; 0.01 where nothing else is said.
    epsilon: accept those within this distance. nearest: accept that number. Pass one of the three.
    adjust: "linear", "ridge" or "neural" for regression adjustment; the draws then carry weights.
    summaries: None or "declared" for those that the simulator declares, and y itself where it declares none;
        "data" for y itself; "semi-automatic" for the posterior mean, learned from a quarter of the
        simulations (at most 20,000), which are then not accepted; a posterior, for what its networks learned;
        or a function of events (n, *event) to (n, k).

    `facts` holds the tolerance and the numbers of summaries used and simulations accepted. The verdict says
    whether the observation looks like the simulations (`baselines.likeness`), whether too many were accepted,
    and whether the draws are too wide (`baselines.width`). Raises `SettingsError`, `ShapeError`,
    `ObservationError`, `TooFewSimulationsError`, and `SimulatorContractError` where nothing varies.
    """
    _check_given(simulations)
    rule = Acceptance(quantile, epsilon, nearest)
    check_adjustment(adjust)
    learn = isinstance(summaries, str) and summaries == SEMI_AUTOMATIC
    target = Target.of(simulator, y_obs, simulations, "rejection_abc", None if learn else summaries)
    search = _Search.of(target, simulations, learn=learn)
    found = search.accept(rule, least_accepted(adjust, int(search.distance.used.sum())))
    tolerance = float(found.distances[-1]) if epsilon is None else float(epsilon)
    values, weights = found.theta, None
    prior, offsets = target.simulator.prior, search.distance.offsets(found.summaries)
    if adjust is not None:
        kernel = epanechnikov(found.distances, tolerance)
        values = adjusted(prior, values, offsets, kernel, adjust, simulations.seed)
        weights = kernel / kernel.sum()
    z = prior.to_unconstrained(values)[0]
    wide = of_accepted(z, offsets) if adjust is None else of_adjusted(z)
    verdict = with_filled(never_better(search.verdict(found), wide), search.target.filled)
    origin = "rejection ABC" if adjust is None else f"rejection ABC, {adjust} adjustment"
    return Draws.of(prior, values, verdict, origin, weights, search.facts(found, tolerance))


def _check_given(simulations: object) -> None:
    if simulations is None:
        raise SettingsError(
            "rejection_abc takes its draws from simulations: pass simulations=sf.simulate(...), or let "
            "sf.abc make them."
        )


@dataclass(frozen=True)
class Acceptance:
    """Which simulations to accept: one of three rules. Raises `SettingsError`."""

    quantile: float | None = None
    epsilon: float | None = None
    nearest: int | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("quantile", "epsilon", "nearest") if getattr(self, name) is not None]
        if len(given) > 1:
            raise SettingsError(f"pass one of quantile, epsilon and nearest, got {' and '.join(given)}.")
        if self.quantile is not None:
            real("quantile", self.quantile, positive=True, most=1)
        if self.epsilon is not None:
            real("epsilon", self.epsilon, positive=True)
        if self.nearest is not None:
            integer("nearest", self.nearest)

    def share(self, usable: int) -> float:
        """The share to accept of `usable` simulations, unless epsilon says it."""
        if self.nearest is not None:
            return min(self.nearest / usable, 1.0)
        return _QUANTILE if self.quantile is None else self.quantile

    def count(self, usable: int) -> int:
        """The number to accept of `usable` simulations, unless epsilon says it.

        Raises `TooFewSimulationsError`.
        """
        if self.nearest is None:
            return int(np.ceil(self.share(usable) * usable))
        if self.nearest > usable:
            raise TooFewSimulationsError(
                f"nearest={self.nearest:,} asks for more than the {usable:,} simulations that can be "
                "accepted. Ask for fewer, or simulate more."
            )
        return self.nearest


@dataclass(frozen=True, eq=False)
class _Search:
    """What is looked for, and where. sampled: y (p, *event) of simulations at random; distances (p,): theirs.
    learned_from: rows that are not accepted. note: what was learned.
    """

    target: Target
    simulations: Simulations
    distance: Distance
    sampled: NDArray[Any]
    distances: F
    learned_from: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    note: Note | None = None

    @classmethod
    def of(cls, target: Target, simulations: Simulations, *, learn: bool) -> _Search:
        rows, note = np.zeros(0, dtype=np.int64), None
        if learn:
            count = rows_to_learn_from(int(simulations.ok.sum()))
            learning = sample(simulations, count, "abc learning")
            found = learn_posterior_mean(target, learning, simulations.seed)
            target, rows, note = target.seen_by(found), learning.rows, found.note
        part = sample(simulations, _SAMPLE, "abc sample", rows)
        target = target.filled_from(part.y)
        if not np.isfinite(target.summaries).all():
            raise ObservationError(
                f"{int((~np.isfinite(target.summaries)).sum())} of the {len(target.summaries)} summaries of "
                "the observation are not finite: ABC needs them. Check the data, or the summaries."
            )
        values = target.summarise(part.y)
        distance = absolute_deviations(Distance.of(values, target.summaries), values, target, simulations)
        if not distance.used.any():
            raise SimulatorContractError(
                "none of the summaries varies between simulations: they carry no information on theta. Check "
                "the simulator and its summaries."
            )
        return cls(target, simulations, distance, part.y, distance(values), rows, note)

    def accept(self, rule: Acceptance, needed: int) -> Nearest:
        """Raises `TooFewSimulationsError` where fewer than `needed`, or 20, are accepted."""
        usable = int(self.simulations.ok.sum()) - len(self.learned_from)
        least = max(_LEAST_ACCEPTED, needed)
        if rule.epsilon is not None:
            found = within(rule.epsilon, self.target, self.distance, self.simulations, self.learned_from)
            accepted = len(found.distances)
        else:
            share = rule.share(usable)
            if rule.nearest is None and int(np.ceil(share * usable)) < least:
                raise _too_few(rule, int(np.ceil(share * usable)), usable, least, self)
            found = nearest_share(
                share, self.target, self.distance, self.simulations, self.distances, self.learned_from
            )
            accepted = rule.count(found.usable)
        if accepted < least:
            raise _too_few(rule, accepted, found.usable, least, self)
        return found.first(accepted)

    def verdict(self, found: Nearest) -> Verdict:
        share = len(found.distances) / found.usable
        alike = likeness(self.target, self.distance, self.sampled, share)
        on_draws = rejection_verdict(alike, len(found.distances), found.usable)
        made = len(self.simulations)
        return with_failures(on_draws, made - int(self.simulations.ok.sum()), made)

    def facts(self, found: Nearest, tolerance: float) -> dict[str, Any]:
        counts = {
            "simulations that failed": len(self.simulations) - int(self.simulations.ok.sum()),
            "simulations with summaries that are not finite": found.lost,
            "values that were not observed": int(np.isnan(self.target.observed).sum()),
            "summaries that do not vary": int((~self.distance.used).sum()),
            "simulations that the summaries were learned from": len(self.learned_from),
        }
        learned = {} if self.note is None else {"learned": self.note}
        return {
            "simulations": len(self.simulations),
            "simulator": self.target.simulator.name,
            "accepted": len(found.distances),
            "tolerance": tolerance,
            "summaries": int(self.distance.used.sum()),
            "left_out": " and ".join(f"{count} {what}" for what, count in counts.items() if count),
            **learned,
        }


def _too_few(
    rule: Acceptance, accepted: int, usable: int, least: int, search: _Search
) -> TooFewSimulationsError:
    if rule.epsilon is not None:
        near = np.sort(search.distances)
        at = near[min(int(np.ceil(least / usable * len(near))), len(near) - 1)]
        return TooFewSimulationsError(
            f"an epsilon of {rule.epsilon:g} accepts {accepted} of {usable:,} simulations, but {least} are "
            f"needed. Raise it (about {at:.3g} accepts as many) or simulate more."
        )
    what = f"nearest={rule.nearest}" if rule.nearest is not None else f"a quantile of {rule.share(usable):g}"
    return TooFewSimulationsError(
        f"{what} accepts {accepted} of {usable:,} simulations, but {least} are needed. Raise it or simulate "
        "more."
    )
