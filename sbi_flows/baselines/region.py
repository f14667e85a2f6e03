"""Where simulated summaries are accepted: inside each tolerance so far, each in the unit of its generation.

    A_t = { s : d_1(s) <= eps_1, ..., d_t(s) <= eps_t }

With an adaptive distance (Prangle 2017, Bayesian Analysis 12:289) the d_i differ. Nested regions
keep each posterior inside the support of the one before, and let the last shrink to the observation. With a
fixed distance the last tolerance implies the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.baselines.distance import Distance


@dataclass(frozen=True, eq=False)
class Region:
    """distances and tolerances of the generations so far; none: everything finite is accepted."""

    distances: tuple[Distance, ...] = ()
    tolerances: tuple[float, ...] = ()

    def inside(self, summaries: F) -> NDArray[np.bool_]:
        """Whether each row of summaries (n, k) is accepted; NaN is not."""
        accepted: NDArray[np.bool_] = np.asarray(np.isfinite(summaries).all(axis=1))
        for distance, tolerance in zip(self.distances, self.tolerances, strict=True):
            accepted[accepted] = distance(summaries[accepted]) <= tolerance
        return accepted

    def within(self, distance: Distance, tolerance: float) -> Region:
        """A smaller region."""
        if self.distances and np.array_equal(distance.scales, self.distances[-1].scales):
            return Region((*self.distances[:-1], distance), (*self.tolerances[:-1], tolerance))
        return Region((*self.distances, distance), (*self.tolerances, tolerance))

    @property
    def size(self) -> float:
        """The last tolerance in units of the first distance: its geometric mean over summaries."""
        if not self.distances:
            return float("inf")
        first, last = self.distances[0].scales, self.distances[-1].scales
        used = np.isfinite(first) & np.isfinite(last)
        return (
            float(self.tolerances[-1] * np.exp(np.mean(np.log(last[used] / first[used]))))
            if used.any()
            else 0.0
        )

    def arrays(self) -> dict[str, F]:
        """For a file."""
        return {
            "scales": np.array([distance.scales for distance in self.distances]),
            "tolerances": np.array(self.tolerances),
        }

    @classmethod
    def of(cls, arrays: dict[str, F], target: F) -> Region:
        """Back from `arrays`."""
        distances = tuple(Distance(target, scales.copy()) for scales in arrays["scales"])
        return cls(distances, tuple(float(tolerance) for tolerance in arrays["tolerances"]))
