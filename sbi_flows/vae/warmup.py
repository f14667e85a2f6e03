"""The weight beta of the KL in the training objective, by epoch: E_q[log p(x | z)] - beta KL(q || p).

linear        beta = min(1, t / epochs)                                                       Bowman et al.
(2016), 1511.06349 cyclical      in each of `cycles` cycles of length epochs / cycles, beta rises to 1 over
              the share `ramp` of it and stays there; it is 1 after the last
              Fu et al. (2019), 1903.10145
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sbi_flows.arrays import integer, real
from sbi_flows.errors import SettingsError


@dataclass(frozen=True)
class Warmup:
    """A warm-up of `epochs` epochs. cycles=1 and ramp=1 make it linear, more cycles with ramp=0.5 cyclical;
    epochs=0 is none.
    """

    epochs: int = 0
    cycles: int = 1
    ramp: float = 1.0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 0), ("cycles", 1)):
            value = getattr(self, name)
            object.__setattr__(self, name, integer(f"{name} of a warm-up", value, least))
        object.__setattr__(self, "ramp", real("ramp", self.ramp))
        if not 0 < self.ramp <= 1:
            raise SettingsError(f"ramp must lie in (0, 1], got {self.ramp!r}.")

    def weight(self, epoch: float) -> float:
        """beta at a time in epochs, which may be fractional."""
        if epoch >= self.epochs:
            return 1.0
        cycle = self.epochs / self.cycles
        return min(1.0, (epoch % cycle) / (self.ramp * cycle))


def warmup_of(given: object) -> Warmup:
    """A warm-up from a number of epochs (linear) or a record. Raises `SettingsError`."""
    if isinstance(given, Warmup):
        return given
    if isinstance(given, int | np.integer) and not isinstance(given, bool):
        return Warmup(int(given))
    raise SettingsError(
        f"warmup must be a number of epochs or vae.Warmup(epochs, cycles, ramp), got {given!r}."
    )
