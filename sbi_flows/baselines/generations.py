"""A generation of weighted particles, and what is recorded of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.baselines.region import Region
from sbi_flows.problem.prior import Prior
from sbi_flows.verdict import Verdict


@dataclass(frozen=True, eq=False)
class Generation:
    """n particles in the coordinates z of the prior, with m data sets each.

    number: 0 for that from the prior. z (n, u). summaries (n, m, k). weights (n,), with sum one.
    region: in which they are accepted. on_data: the verdict among simulations from the prior.
    seen (l, k): the finite summaries of all simulations that made it, from which an adaptive distance takes
        its scales.
    records: of this generation and those before it.
    """

    number: int
    z: F
    summaries: F
    weights: F
    region: Region
    on_data: Verdict
    seen: F
    records: tuple[dict[str, Any], ...]

    @property
    def ess(self) -> float:
        """Effective number of particles, of which copies count as one."""
        return float(1 / np.square(self.merged()[1]).sum())

    def arrays(self) -> dict[str, F]:
        """For a file, with `facts`."""
        parts = {"z": self.z, "summaries": self.summaries, "weights": self.weights, "seen": self.seen}
        return {**parts, **self.region.arrays()}

    def facts(self) -> dict[str, Any]:
        """What else a file says, in JSON."""
        return {"records": list(self.records), "on_data": asdict(self.on_data)}

    @classmethod
    def of(cls, number: int, arrays: dict[str, F], facts: dict[str, Any], target: F) -> Generation:
        """Back from `arrays` and `facts`."""
        parts = {name: arrays[name] for name in ("z", "summaries", "weights", "seen")}
        on_data, records = Verdict(**facts["on_data"]), tuple(facts["records"])
        return cls(number=number, region=Region.of(arrays, target), on_data=on_data, records=records, **parts)

    def merged(self) -> tuple[F, F]:
        """Distinct z with weight (m, u), and their weights (m,), in the order of their first appearance."""
        kept = np.flatnonzero(self.weights > 0)
        _, first, copy = np.unique(self.z[kept], axis=0, return_index=True, return_inverse=True)
        totals = np.bincount(copy.reshape(-1), weights=self.weights[kept])
        order = np.argsort(first)
        return self.z[kept[first[order]]], totals[order] / totals.sum()

    def moments(self) -> tuple[F, F]:
        """Mean and variance of z, (u,) each."""
        mean = self.weights @ self.z
        return mean, self.weights @ np.square(self.z - mean)

    def recorded(self, **facts: Any) -> Generation:
        """The generation with a record of itself: what is told of it, and what convergence is judged by."""
        return replace(self, records=(*self.records, self._record(facts)))

    def _record(self, facts: dict[str, Any]) -> dict[str, Any]:
        z, _ = self.merged()
        mean, variance = self.moments()
        return {
            "generation": self.number,
            "tolerance": self.region.tolerances[-1] if self.region.tolerances else None,
            "relative_tolerance": self.region.size if self.region.tolerances else None,
            "ess": self.ess,
            "distinct": len(z),
            **facts,
            "mean": mean.tolist(),
            "variance": variance.tolist(),
        }


def log_prior(prior: Prior, z: F) -> tuple[F, F]:
    """theta, and the log density of z under the prior in nats; -inf where the map is at its end."""
    theta = prior.from_unconstrained(z)
    with np.errstate(all="ignore"):
        log_density = prior.log_prob(theta) - prior.to_unconstrained(theta)[1]
    return theta, np.where(np.isfinite(log_density), log_density, -np.inf)
