"""What `posterior.refine` is asked for, checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from sbi_flows.arrays import integer, real
from sbi_flows.errors import SettingsError
from sbi_flows.notes import check_say
from sbi_flows.npe.settings import FitSettings
from sbi_flows.rng import check_seed
from sbi_flows.simulation.at import check_where
from sbi_flows.simulation.settings import Place, SimulateSettings, check_place, check_workers
from sbi_flows.simulation.simulations import Simulations

Method = Literal["closed form", "likelihood", "rounds"]
METHODS: tuple[Method, ...] = get_args(Method)
_LEAST_ESS, _MOST_ESS = 2, 10_000_000
_MOST_CHAINS = 64
_MOST_ROUNDS = 20
_OF_ROUNDS = ("rounds", "fit", "simulations", "simulate")
_NOT_FOR: Mapping[Method, tuple[str, ...]] = {
    "closed form": (
        *("n_simulations", "minutes", "store", "time_limit", "max_failures"),
        *("ess", "chains", *_OF_ROUNDS),
    ),
    "likelihood": ("store", "time_limit", "max_failures", *_OF_ROUNDS),
    "rounds": ("ess", "chains"),
}


@dataclass(frozen=True, kw_only=True)
class RefineSettings:
    """How `posterior.refine` works: what is rarely changed.

    ess: the effective sample size at which the likelihood is asked no further. None: 2 n.
    chains: how many chains run where importance sampling is not enough.
    rounds: the most rounds of the method "rounds".
    fit: the networks of these rounds. None: chosen from their simulations, as for a fit.
    simulations: draws of the prior that were simulated before, such as those of the fit. Those that lie where
        the posterior has its mass join the training of the rounds.
    simulate: how simulations are made, for the method "rounds".
    """

    ess: int | None = None
    chains: int = 32
    rounds: int = 3
    fit: FitSettings | None = None
    simulations: Simulations | None = None
    simulate: SimulateSettings | None = None

    def __post_init__(self) -> None:
        if self.ess is not None:
            integer("ess", self.ess, _LEAST_ESS, most=_MOST_ESS)
        integer("chains", self.chains, 2, most=_MOST_CHAINS)
        integer("rounds", self.rounds, most=_MOST_ROUNDS)
        for name, kind in (("fit", FitSettings), ("simulations", Simulations)):
            if not (getattr(self, name) is None or isinstance(getattr(self, name), kind)):
                got = type(getattr(self, name)).__name__
                raise SettingsError(f"{name} must be sf.{kind.__name__}, got {got}.")
        if not (self.simulate is None or isinstance(self.simulate, SimulateSettings)):
            raise SettingsError(f"simulate must be sf.SimulateSettings(...), got {self.simulate!r}.")


@dataclass(frozen=True, kw_only=True)
class RefineRequest:
    """The arguments of `posterior.refine` besides the data and the simulator. Raises `SettingsError`."""

    method: Method | None = None
    n: int = 4_000
    n_simulations: int | None = None
    minutes: float | None = None
    seed: int = 0
    settings: RefineSettings = field(default_factory=RefineSettings)
    store: str | os.PathLike[str] | None = None
    say: Callable[[str], None] | None = None
    where: Place = field(default_factory=lambda: Place())

    def __post_init__(self) -> None:
        if self.method is not None and self.method not in METHODS:
            words = ", ".join(map(repr, METHODS))
            raise SettingsError(f"method must be {words} or None, got {self.method!r}.")
        object.__setattr__(self, "n", integer("n", self.n, 2))
        if self.n_simulations is not None:
            object.__setattr__(self, "n_simulations", integer("n_simulations", self.n_simulations))
        if self.minutes is not None:
            real("minutes", self.minutes, positive=True)
        object.__setattr__(self, "seed", check_seed(self.seed))
        if not isinstance(self.settings, RefineSettings):
            got = type(self.settings).__name__
            raise SettingsError(f"settings must be sf.RefineSettings(...), got {got}.")
        if self.store is not None:
            check_place(self.store)
        check_say(self.say)
        check_where(self.where)
        check_workers(self.where.get("executor"), self.where.get("workers"))

    def check_for(self, method: Method) -> None:
        """Raise `SettingsError` for options that were given and that this method has no use for."""
        given: dict[str, object] = {
            "n_simulations": self.n_simulations,
            "minutes": self.minutes,
            "store": self.store,
            "time_limit": self.where.get("time_limit"),
            "max_failures": self.where.get("max_failures"),
        }
        usual = {setting.name: setting.default for setting in fields(RefineSettings)}
        for name in _NOT_FOR[method]:
            of_settings = name in usual
            value = getattr(self.settings, name) if of_settings else given[name]
            default = usual.get(name)
            if value is default or (isinstance(value, int) and value == default):
                continue
            said = f"settings=sf.RefineSettings({name}=...)" if of_settings else f"{name}="
            raise SettingsError(
                f"{said} has no part in method={method!r}, by which this is refined: leave it out, or ask "
                f"for {_used_by(name)}."
            )


def _used_by(name: str) -> str:
    """The methods that have a use for an option, in words."""
    return " or ".join(f"method={method!r}" for method in METHODS if name not in _NOT_FOR[method])
