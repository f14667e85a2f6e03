"""How exact inference works, and what is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sbi_flows.simulation.settings import Place


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """n: draws. ess: the effective sample size at which importance sampling stops. evaluations, seconds: of
    the likelihood, at most. chains: how many run where importance sampling is not enough. say: told how far
    it is.
    """

    n: int
    ess: float
    evaluations: int
    seconds: float | None = None
    chains: int = 32
    seed: int = 0
    say: Callable[[str], None] | None = None
    place: Place = field(default_factory=lambda: Place())
