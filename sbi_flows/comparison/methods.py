"""The methods that `sf.compare` and `sf.study` put side by side, and what each of them costs.

A method answers for one observation. Its seconds are those spent on this observation. What was spent once,
before any observation was seen (the training of the neural posterior, the bank of rejection ABC), is counted
apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from sbi_flows.arrays import F, integer, real
from sbi_flows.baselines.methods import abc
from sbi_flows.baselines.rejection import rejection_abc
from sbi_flows.draws import Draws
from sbi_flows.errors import SettingsError
from sbi_flows.machine import free_memory
from sbi_flows.notes import Say
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.posterior.refine import exact_draws
from sbi_flows.posterior.request import RefineRequest, RefineSettings
from sbi_flows.problem.simulator import Simulator
from sbi_flows.simulation.engine import simulate
from sbi_flows.simulation.settings import Place, SimulateSettings
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.verdict import Verdict

NEURAL, REFINED, EXACT = "neural posterior", "refined by rounds", "exact"
ABC, ADJUSTED, SMC, SYNTHETIC = "rejection ABC", "ABC, linear adjustment", "SMC-ABC", "synthetic likelihood"
LABELS = {
    "neural": NEURAL,
    "refined": REFINED,
    "rejection": ABC,
    "linear": ADJUSTED,
    "smc": SMC,
    "synthetic_likelihood": SYNTHETIC,
    "exact": EXACT,
}
USUAL = ("neural", "rejection", "linear", "exact")
_ABC_SIMULATIONS = 100_000
_ABC_QUANTILE, _LEAST_ACCEPTED = 0.01, 200
_EXACT_DRAWS = 2000
_FEW, _FEW_ALONE, _TIMED_SEED = 2_000, 20, 1_000_003
_SHARE_OF_TIME, _SHARE_OF_MEMORY, _MOST_BY_THE_CLOCK = 0.8, 4, 5_000_000

Methods = Literal["all"] | Sequence[str] | None


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What each method that simulates for one observation may spend: the same for all of them.

    n_simulations: at most. minutes: of wall-clock time. Of both, the tighter one. None: each method's own
        default, 10,000 simulations; of rejection those that the posterior was trained on. Rejection ABC with
        and without adjustment share one bank, made once.
    """

    n_simulations: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.n_simulations is not None:
            integer("n_simulations", self.n_simulations)
        if self.minutes is not None:
            real("minutes", self.minutes, positive=True)

    @property
    def said(self) -> dict[str, Any]:
        """The arguments, by name."""
        return {"n_simulations": self.n_simulations, "minutes": self.minutes}


class Answer(NamedTuple):
    """The draws of a method at one observation, the seconds that they took, and those spent before, once."""

    draws: Draws
    seconds: float
    before: float


@dataclass(eq=False)
class Bench:
    """Everything that the methods share: one posterior, one simulator, one budget.

    simulations: for rejection ABC; None makes them when they are first needed.
    """

    posterior: Posterior
    simulator: Simulator
    budget: Budget = field(default_factory=Budget)
    simulations: Simulations | None = None
    where: Place = field(default_factory=lambda: Place())
    tell: Say = print
    bank_seconds: float = 0.0

    def answer(self, method: str, y: F, n: int, seed: int) -> Answer | None:
        """n draws of the method called `method` at y as it travels; None where there is no exact method.

        The draws of every method carry the same verdict on the data. Raises what the method raises.
        """
        began, spent = time.monotonic(), self.bank_seconds
        draws = _RUN[method](self, y, n, seed)
        seconds = time.monotonic() - began - (self.bank_seconds - spent)
        if draws is None:
            return None
        if method in _SEES_ONLY_SUMMARIES:
            draws = _on_the_data(draws, self.posterior.verdict_on_data(y))
        before = 0.0
        if method in ("neural", "refined"):
            before = float(sum(self.posterior.seconds.values()))
        elif method in ("rejection", "linear"):
            before = self.bank_seconds
        return Answer(draws, seconds, before)

    def given(self, y: F) -> Any:
        """y as a user passes it."""
        return self.simulator.events.unpack(y)

    @property
    def bank(self) -> Simulations:
        """For rejection ABC. Those that are made are the ones that the posterior was trained on, unless the
        budget asks for another number.
        """
        if self.simulations is None:
            began = time.monotonic()
            facts = self.posterior.facts
            total = self.budget.n_simulations
            if self.budget.minutes is not None:
                total = min(total or _MOST_BY_THE_CLOCK, self._in_time(60 * self.budget.minutes))
            elif total is None:
                total = min(facts["simulations"] + facts["failed"], _ABC_SIMULATIONS)
            self.tell(f"simulating {total:,} for ABC ...")
            rows = SimulateSettings(block_size=facts.get("block_size"))
            self.simulations = simulate(
                self.simulator, total, seed=facts["simulation_seed"], settings=rows, **self.where
            )
            self.bank_seconds = time.monotonic() - began
        return self.simulations

    def _in_time(self, seconds: float) -> int:
        """How many simulations take that long, as measured on a few, and fit into memory."""
        few = _FEW if self.simulator.vectorized else _FEW_ALONE
        simulate(self.simulator, few, seed=_TIMED_SEED, **self.where)
        began = time.monotonic()
        timed = simulate(self.simulator, few, seed=_TIMED_SEED + 1, **self.where)
        each = (time.monotonic() - began) / few
        fits = free_memory() // (_SHARE_OF_MEMORY * (timed.n_bytes // few + 1))
        return int(max(few, min(_SHARE_OF_TIME * seconds / each, fits, _MOST_BY_THE_CLOCK)))


def chosen(methods: Methods) -> tuple[str, ...]:
    """The names of methods, in the order of `LABELS`, with "neural". Raises `SettingsError`."""
    if methods is None:
        return USUAL
    if methods == "all":
        return tuple(LABELS)
    wanted = (methods,) if isinstance(methods, str) else methods
    if not isinstance(wanted, Sequence) or not wanted or not all(isinstance(one, str) for one in wanted):
        raise SettingsError(
            f"methods must be 'all' or names of methods, such as ['neural', 'smc'], got {methods!r}."
        )
    if unknown := [name for name in wanted if name not in LABELS]:
        raise SettingsError(
            f"there is no method {', '.join(map(repr, unknown))}; there are "
            f"{', '.join(map(repr, LABELS))}, or methods='all'."
        )
    return tuple(name for name in LABELS if name in {*wanted, "neural"})


def _neural(bench: Bench, y: F, n: int, seed: int) -> Draws:
    return bench.posterior.sample(bench.given(y), n, seed=seed)


def _refined(bench: Bench, y: F, n: int, seed: int) -> Draws:
    return bench.posterior.refine(
        bench.given(y),
        bench.simulator,
        method="rounds",
        n=n,
        seed=seed,
        say=None,
        **bench.budget.said,
        **bench.where,
    )


def _rejection(bench: Bench, y: F, n: int, seed: int) -> Draws:
    return _of_bank(bench, y, None, seed)


def _linear(bench: Bench, y: F, n: int, seed: int) -> Draws:
    return _of_bank(bench, y, "linear", seed)


def _of_bank(bench: Bench, y: F, adjust: Literal["linear"] | None, seed: int) -> Draws:
    """Rejection ABC."""
    bank = bench.bank
    quantile = min(1.0, max(_ABC_QUANTILE, _LEAST_ACCEPTED / max(int(bank.ok.sum()), 1)))
    return rejection_abc(bench.simulator, bench.given(y), simulations=bank, quantile=quantile, adjust=adjust)


def _smc(bench: Bench, y: F, n: int, seed: int) -> Draws:
    return _sequential(bench, y, "smc", seed)


def _synthetic(bench: Bench, y: F, n: int, seed: int) -> Draws:
    return _sequential(bench, y, "synthetic_likelihood", seed)


def _sequential(bench: Bench, y: F, method: Literal["smc", "synthetic_likelihood"], seed: int) -> Draws:
    return abc(bench.simulator, bench.given(y), method=method, seed=seed, **bench.budget.said, **bench.where)


def _exact(bench: Bench, y: F, n: int, seed: int) -> Draws | None:
    simulator = bench.simulator
    if simulator.log_likelihood is None and simulator.exact_posterior is None:
        return None
    n = min(n, _EXACT_DRAWS)
    asked = RefineRequest(n=n, seed=seed, settings=RefineSettings(ess=n), where=bench.where)
    return exact_draws(bench.posterior, y, simulator, asked)


_RUN: Mapping[str, Callable[[Bench, F, int, int], Draws | None]] = {
    "neural": _neural,
    "refined": _refined,
    "rejection": _rejection,
    "linear": _linear,
    "smc": _smc,
    "synthetic_likelihood": _synthetic,
    "exact": _exact,
}
_SEES_ONLY_SUMMARIES = ("rejection", "linear", "smc", "synthetic_likelihood")


def _on_the_data(draws: Draws, seen: Verdict) -> Draws:
    """The draws with the verdict of the neural posterior on the data, where that is the worse one."""
    if seen.ok:
        return draws
    verdict = replace(draws.verdict.at_most(seen.level, f"The data: {seen.text}"), quantile=seen.quantile)
    return replace(draws, verdict=verdict, verdicts=(verdict,))
