"""Refining without a likelihood: rounds of simulations where the present posterior has its mass.

    A_0 = the prior's support,  q_0 the amortised posterior
    A_r = A_{r-1} cut to where q_{r-1}(. | y) has all but 1e-4 of its mass           (`truncated`)
    q_r = trained on simulations at theta ~ p(theta | A_r)                            (`retrained`)

q_r(theta | y) tends to p(theta | y) restricted to A_r. There is no correction, and no mass leaks beyond the
prior. Simulations of earlier rounds that lie in A_r are draws of p(theta | A_r) too, and are used again.
Truncated sequential neural posterior estimation: Deistler, Goncalves & Macke (2022, 2210.04815).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from sbi_flows.arrays import F
from sbi_flows.draws import Draws
from sbi_flows.errors import SettingsError
from sbi_flows.machine import torch_defaults, usable_cores
from sbi_flows.notes import Note, Notes
from sbi_flows.npe.network import stacking_weights
from sbi_flows.npe.settings import members_for
from sbi_flows.posterior.amortised import Amortised
from sbi_flows.posterior.density import Density
from sbi_flows.posterior.pool import Limits, Pool
from sbi_flows.posterior.request import RefineRequest
from sbi_flows.posterior.retrained import Retrained, Rows, request_for, restricted_log_prob, retrain
from sbi_flows.posterior.truncated import Local, Proposal, Truncated, draws_inside, mixed
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import stream
from sbi_flows.verdict import Verdict

_SIMULATIONS, _MOST_BY_THE_CLOCK = 10_000, 50_000
_CUT = 1e-4
_LEAST_ROWS, _ROWS_PER_PARAMETER = 200, 50
_LOOKED_AT = 1_000
_LEAST_WEIGHT, _ERRORS = 0.05, 2.0
_SHRINKS = 0.8
_COMPARED = 2_000
_UNSETTLED, _LEAST_INSIDE = 0.3, 0.5
_SAID = ("simulations", "rows", "gain", "gain_error", "moved", "weight")

Reason = Literal["rounds", "stays", "region", "time"]


def refine_by_rounds(posterior: Amortised, y: F, simulator: Simulator, request: RefineRequest) -> Draws:
    """Draws from a posterior that was trained again for y (*event,), and is good for no other.

    `facts`: simulations, and simulations_in_all with those of the fit; failed, by cause; apart, the KL
    divergence of the amortised posterior from the draws, in nats; ended, why there were no more rounds:
    "rounds", all were made, "stays", the region no longer shrank, "region", too little of the prior is in it
    to be drawn from, "time"; rounds, a record of each:
        simulations, failed, rows         made, lost, and trained on
        share_of_prior, drawn_by, lost    the region: its prior mass, how it was drawn from, and how much of
                                          the posterior before lies outside
        leak, weight, gain, gain_error    the new network: its mass outside at y, its mixture weight, and what
                                          the round added to the held-out log density in the region, in nats
        moved                             KL divergence of the posterior before from that after, in nats
        epochs, seconds_simulating, seconds_training

    Raises `SettingsError` for too few simulations, and what simulating and training raise.
    """
    began, notes = time.monotonic(), Notes(request.say)
    sizes = planned(simulator.prior.d, request)
    with torch_defaults():
        start = _State(Local.of([posterior.density], [1.0], y), Truncated(simulator.prior))
        rounds = _Rounds(posterior, y, simulator, request, notes, start, Pool.of(simulator, request), began)
        reason = rounds.run(sizes)
        values, leak = draws_inside(rounds.state.local, rounds.state.truncated, request.n, request.seed)
    notes.note("rounds ended", reason=reason, rounds=len(rounds.table), simulations=rounds.pool.made)
    return rounds.draws(values, leak, reason)


def planned(d: int, request: RefineRequest) -> list[int]:
    """The simulations of each round, equally many. By the clock, the most of each.

    Raises `SettingsError`.
    """
    n, least = request.n_simulations, least_rows(d)
    if n is None:
        if request.minutes is not None:
            return [_MOST_BY_THE_CLOCK] * request.settings.rounds
        n = _SIMULATIONS
    if n < least:
        raise SettingsError(
            f"n_simulations={n:,} are too few for a round of {d} parameters, which needs at least {least:,}."
        )
    rounds = min(request.settings.rounds, n // least)
    return [int(size) for size in np.diff([n * k // rounds for k in range(rounds + 1)])]


def least_rows(d: int) -> int:
    """How many rows a round trains on, at least, for d parameters."""
    return max(_LEAST_ROWS, _ROWS_PER_PARAMETER * d)


def _clearly_above(one: F, other: F) -> bool:
    """Whether the mean difference of paired log densities is more than two standard errors above 0."""
    apart = one - other
    return bool(apart.mean() > _ERRORS * apart.std(ddof=1) / np.sqrt(len(apart)))


class Mixture(NamedTuple):
    """q(. | y) after a round, and what is said of it."""

    local: Local
    facts: dict[str, Any]


class _State(NamedTuple):
    """Where the rounds stand: q(. | y), and the region of the round that trained it."""

    local: Local
    truncated: Truncated
    share: float = 1.0


@dataclass
class _Rounds:
    """table: what each round did."""

    posterior: Amortised
    y: F
    simulator: Simulator
    request: RefineRequest
    notes: Notes
    state: _State
    pool: Pool
    began: float
    table: list[dict[str, Any]] = field(default_factory=list)

    def run(self, sizes: list[int]) -> Reason:
        """Make rounds of these sizes; why they ended."""
        left = sum(sizes)
        for k, size in enumerate(sizes):
            if self._seconds_left() <= 0:
                return "time"
            began = time.monotonic()
            truncated = self.state.truncated.cut(self.state.local, _CUT, self._seed("cut", k))
            if truncated is None:
                return "region"
            proposal = Proposal(truncated, self._seed("theta", k))
            if not proposal.ready(min(size, _LOOKED_AT)):
                return "region"
            stays = k > 0 and proposal.share > _SHRINKS * self.state.share
            limits = self._limits(left if stays else size, 1 if stays else len(sizes) - k)
            left -= self._round(k, proposal, limits, began)
            if stays:
                return "stays"
        return "rounds"

    def _round(self, k: int, proposal: Proposal, limits: Limits, began: float) -> int:
        """Simulate, train, and say what came of it; the number of simulations."""
        truncated, share = proposal.truncated, proposal.share
        self.notes.note("region", round=k + 1, share=share, way=proposal.way, lost=truncated.lost)
        failed = self.pool.failed.copy()
        made = self.pool.simulate(proposal, k + 1, limits)
        rows = self.pool.inside(truncated)
        simulated = time.monotonic()
        enough = self.request.minutes is None or len(rows.theta) >= least_rows(self.simulator.prior.d)
        mixture = self._mixed(self._train(k, rows, limits), truncated, k) if enough else self._unchanged()
        self.table.append(
            {
                "simulations": made,
                "failed": dict(self.pool.failed - failed),
                "rows": len(rows.theta),
                "share_of_prior": share,
                "drawn_by": proposal.way,
                "lost": truncated.lost,
                **mixture.facts,
                "seconds_simulating": simulated - began,
                "seconds_training": time.monotonic() - simulated,
            }
        )
        self.notes.note("round", round=k + 1, **{name: self.table[-1][name] for name in _SAID})
        self.state = _State(mixture.local, truncated, share)
        return made

    def _train(self, k: int, rows: Rows, limits: Limits) -> Retrained:
        request = request_for(self.posterior, self.simulator, self.y, self.request.settings.fit)
        seconds = None
        if limits.ends is not None:
            networks = request.settings.members or members_for(len(rows.theta))
            seconds = max(limits.ends - time.monotonic(), 1.0) / math.ceil(networks / usable_cores())
        checkpoint = self.pool.place(f"{k + 1}.training")
        request = replace(request, seed=self._seed("fit", k), checkpoint=checkpoint, limit_seconds=seconds)
        return retrain(self.simulator, rows, request)

    def _mixed(self, trained: Retrained, truncated: Truncated, k: int) -> Mixture:
        """The new network or those before, whichever has the higher held-out density; or their mixture, where
        its is clearly higher than both.

        Mixture weights w maximise the held-out density. They are of densities restricted to A, so the parts
        of q(. | y) itself have weights w / q_k(A | y). A network that puts most of q(. | y) outside A, as one
        may for data unlike the simulations, is left out.
        """
        before = self.state.local
        densities = (*before.densities, trained.density)
        inside = np.array([self._mass(density, truncated, k) for density in densities])
        each = np.stack(
            [
                restricted_log_prob(one, truncated, *trained.held_out, self._seed("gain", k))
                for one in densities
            ]
        )
        usable, weights = inside >= min(_LEAST_INSIDE, inside.max()), np.zeros(len(inside))
        weights[usable] = stacking_weights(torch.from_numpy(each[usable])).numpy()
        old, new = (np.append(before.weights, 0.0), np.append(0.0 * before.weights, 1.0))
        one = new if usable[-1] and mixed(each, new).mean() > mixed(each, old).mean() else old
        if not _clearly_above(mixed(each, weights), mixed(each, one)):
            weights = one
        weights[weights < _LEAST_WEIGHT] = 0.0
        weights /= weights.sum()
        used = np.flatnonzero(weights)
        local = Local.of([densities[i] for i in used], (weights[used] / inside[used]).tolist(), self.y)
        gained = mixed(each, weights) - mixed(each, old)
        facts = {
            "leak": float(1 - inside[-1]),
            "gain": float(gained.mean()),
            "gain_error": float(gained.std(ddof=1) / np.sqrt(len(gained))),
            "weight": float(weights[-1]),
            "moved": self._moved(local, truncated, k),
            "epochs": trained.epochs,
        }
        return Mixture(local, facts)

    def _mass(self, density: Density, truncated: Truncated, k: int) -> float:
        """q(A | y) of one network."""
        alone = Local.of([density], [1.0], self.y)
        return 1 - draws_inside(alone, truncated, _COMPARED, self._seed("leak", k))[1]

    def _unchanged(self) -> Mixture:
        """Where the time did not suffice for enough rows to train on."""
        nothing = dict.fromkeys(("leak", "gain", "gain_error", "weight", "moved", "epochs"), 0)
        return Mixture(self.state.local, nothing)

    def _moved(self, local: Local, truncated: Truncated, k: int) -> float:
        """KL(q_r(. | y) || q_{r-1}(. | y)) in nats, both restricted."""
        seed, before = self._seed("moved", k), self.state.local
        theta, leak = draws_inside(local, truncated, _COMPARED, seed)
        outside = draws_inside(before, truncated, _COMPARED, seed)[1]
        apart = local.log_prob(theta) - before.log_prob(theta)
        return float(apart.mean() - np.log1p(-leak) + np.log1p(-outside))

    def _seconds_left(self) -> float:
        minutes = self.request.minutes
        return float("inf") if minutes is None else self.began + 60 * minutes - time.monotonic()

    def _limits(self, n: int, rounds: int) -> Limits:
        """Of a round, with that many to come: half of its share of the time is for simulating."""
        if self.request.minutes is None:
            return Limits(n)
        now, share = time.monotonic(), self._seconds_left() / rounds
        return Limits(n, now + share / 2, now + share)

    def _seed(self, what: str, k: int) -> int:
        return int(stream(self.request.seed, f"rounds {what}", k).integers(2**31))

    def draws(self, values: F, leak: float, reason: Reason) -> Draws:
        """The draws, with what was done and whether to believe them."""
        prior, pool = self.posterior.prior, self.pool
        apart = float(
            np.mean(self.state.local.log_prob(values) - self._amortised().log_prob(values)) - np.log1p(-leak)
        )
        verdict = self._verdict(apart, reason)
        return Draws.of(
            prior,
            values,
            verdict,
            "neural posterior, refined by rounds",
            facts={
                "simulator": self.simulator.name,
                "simulations": pool.made,
                "simulations_in_all": pool.made
                + self.posterior.facts["simulations"]
                + self.posterior.facts["failed"],
                "failed": dict(pool.failed),
                "rounds": self.table,
                "apart": apart,
                "ended": reason,
                "seed": self.request.seed,
                "seconds": time.monotonic() - self.began,
                "notes": [str(note) for note in self.notes],
            },
        )

    def _verdict(self, apart: float, reason: Reason) -> Verdict:
        """That on the data; never better than caution where the last round still changed the posterior, or
        the rounds were cut short before any of them did.
        """
        given = self.posterior.verdict_on_data(self.y)
        done = {"rounds": len(self.table), "simulations": self.pool.made}
        refined, short = any(row["weight"] > 0 for row in self.table), reason in ("region", "time")
        said = Note("refined", **done, apart=apart) if refined else Note("not refined", **done)
        texts, level = [given.text, f"{said}."], given.level
        if short:
            texts.append(f"{Note('rounds cut short', rounds=len(self.table), reason=reason)}.")
            level = "caution" if level == "trust" and not refined else level
        last = self.table[-1]["moved"] if self.table else 0.0
        if last > _UNSETTLED:
            level = "caution" if level == "trust" else level
            texts.append(f"{Note('still changing', moved=last)}.")
        if self.pool.failed:
            texts.append(
                f"{Note('failures in rounds', failed=sum(self.pool.failed.values()), made=self.pool.made)}."
            )
        return Verdict(level, " ".join(texts), given.quantile)

    def _amortised(self) -> Local:
        return Local.of([self.posterior.density], [1.0], self.y)
