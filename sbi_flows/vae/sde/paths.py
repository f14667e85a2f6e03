"""Paths of a latent SDE at given times, and their bands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sbi_flows.arrays import F, real
from sbi_flows.errors import SettingsError


@dataclass(frozen=True)
class Paths:
    """n paths per row at times (rows, T).

    latent: z, (rows, n, T, d).
    signal: E[x | z], (rows, n, T, features).
    observed: the signal with the noise of p(x | z), of the same shape.
    """

    times: F
    latent: F
    signal: F
    observed: F

    @property
    def mean(self) -> F:
        """The mean of the signal over the paths, (rows, T, features)."""
        return np.asarray(self.signal.mean(axis=1))

    def band(self, level: float = 0.9, *, noise: bool = False) -> tuple[F, F]:
        """Lower and upper quantiles of the paths, (rows, T, features) each, with probability `level` between.

        noise: of what is observed, with its noise, instead of the signal. Raises `SettingsError`.
        """
        level = real("level", level, positive=True)
        if not isinstance(noise, bool | np.bool_):
            raise SettingsError(f"noise must be True or False, got {noise!r}.")
        if self.signal.shape[1] < 2:
            raise SettingsError("a band needs two paths or more. Raise n.")
        if level >= 1:
            raise SettingsError(f"level must lie between 0 and 1, got {level!r}.")
        paths = self.observed if noise else self.signal
        low, high = np.quantile(paths, [0.5 - level / 2, 0.5 + level / 2], axis=1)
        return low, high
