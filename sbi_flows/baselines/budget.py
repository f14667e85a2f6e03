"""What a run may cost: simulations, wall-clock seconds, or both."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sbi_flows.arrays import integer, real
from sbi_flows.errors import SettingsError

_USUAL, _MOST = 10_000, 10**9
SIMULATIONS, MINUTES = "simulations", "minutes"


class SpentError(Exception):
    """The budget is out. what: "simulations" or "minutes"."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass
class Budget:
    """n: simulations, or None. seconds: or None.

    made: simulations so far. before: seconds that earlier calls took, where this one resumes them.
    """

    n: int | None
    seconds: float | None
    made: int = 0
    before: float = 0.0
    _began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, n_simulations: object, minutes: object) -> Budget:
        """Checked; 10,000 simulations where neither is given. Raises `SettingsError`."""
        if n_simulations is None and minutes is None:
            n_simulations = _USUAL
        n = None if n_simulations is None else integer("n_simulations", n_simulations, 50, most=_MOST)
        seconds = None if minutes is None else 60 * real("minutes", minutes, positive=True, most=1e7)
        return cls(n, seconds)

    @property
    def used(self) -> float:
        """Seconds, with those of earlier calls."""
        return self.before + time.monotonic() - self._began

    def check_time(self) -> None:
        """Raise `SpentError` when the minutes are over."""
        if self.seconds is not None and self.used >= self.seconds:
            raise SpentError(MINUTES)

    def room(self, wanted: int) -> int:
        """How many of the wanted simulations may be made, at least one. Raises `SpentError`."""
        self.check_time()
        left = wanted if self.n is None else min(wanted, self.n - self.made)
        if left <= 0:
            raise SpentError(SIMULATIONS)
        return left

    @property
    def total(self) -> int:
        """Simulations, or seconds where only these are limited: what progress is measured by."""
        return int(self.seconds or 0) if self.n is None else self.n

    @property
    def done(self) -> int:
        """How much of `total` is used."""
        return min(int(self.used), self.total) if self.n is None else min(self.made, self.n)


def check_some_budget(budget: Budget, least: int, what: str) -> None:
    """Raise `SettingsError` unless there is room for `least` simulations. what: needs them."""
    if budget.n is not None and budget.n < least:
        raise SettingsError(
            f"n_simulations={budget.n:,} are too few: {what} needs {least:,}. Give more, or smaller settings."
        )
