"""Do the networks of an ensemble agree at one observation as well as they do on simulated data?

    apart(y) = max_j sd_k(E_k theta_j) / sd(theta_j)
    sd_k^2   = sum_k w_k (E_k - E)^2 / (1 - sum_k w_k^2)        the variance of means between members

w are the mixture weights of the members. Members that are trained separately never agree exactly, and by how
much they differ depends on the task. So apart(y_obs) is ranked among its values at 199 fresh simulated data
sets, each with the same number of draws: the p-value is exact under the prior predictive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sbi_flows.arrays import F
from sbi_flows.errors import SbiFlowsError
from sbi_flows.notes import Note
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.problem.observation import as_observed
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import stream
from sbi_flows.simulation.engine import simulate
from sbi_flows.verdict import Level

UNUSUAL = 0.01
_SLIGHT, _APART, _FAR_APART = 0.1, 0.5, 1.0
_DRAWS, _DATA_SETS, _FEWEST = 200, 199, 99


Reason = tuple[Level, Note]


@dataclass(frozen=True)
class Agreement:
    """How far apart the members' means are.

    apart: at the observation, in sd of all draws.
    null: the same at simulated data sets, sorted, (m,); empty if none could be made.
    """

    apart: float
    null: Float[np.ndarray, " m"]

    @property
    def p(self) -> float:
        """The fraction of data sets, y_obs included, at which the members are at least as far apart.

        NaN without simulated ones.
        """
        m = len(self.null)
        return float((1 + m - np.searchsorted(self.null, self.apart)) / (1 + m)) if m else float("nan")

    def reason(self) -> Reason | None:
        """A level with its reason, or None where the members agree.

        "caution" where p <= 1% and the difference is not slight, "do not trust" where it is also more than 1
        sd. "caution" everywhere if the members are 0.5 sd apart on most simulated data.
        """
        level: Level = "do not trust" if self.apart > _FAR_APART else "caution"
        if len(self.null) == 0:
            return (level, Note("networks disagree", apart=self.apart)) if self.apart > _APART else None
        usual = float(np.median(self.null))
        if self.p <= UNUSUAL and self.apart > _SLIGHT:
            return level, Note("networks disagree", apart=self.apart, p=self.p, usual=usual)
        if usual > _APART:
            return "caution", Note("networks disagree everywhere", apart=self.apart, usual=usual)
        return None


def agreement(posterior: Posterior, simulator: Simulator, y: F, seed: int) -> Agreement | None:
    """How far apart the members are at y and at fresh simulated data sets; None for a single network."""
    if len(posterior.estimator.flows()) < 2:
        return None
    return Agreement(distance_apart(posterior, y, seed), _null(posterior, simulator, y, seed))


def distance_apart(posterior: Posterior, y: F, seed: int) -> float:
    """apart(y); NaN for a single network."""
    draws = posterior.sample_members(posterior.events.unpack(y), _DRAWS, seed=seed)
    weights = posterior.estimator.mixture_weights.numpy().astype(np.float64)
    if len(draws) < 2:
        return float("nan")
    weights = (weights / weights.sum())[:, None]
    means = draws.mean(axis=1)
    deviations = np.square(means - (weights * means).sum(axis=0))
    between = (weights * deviations).sum(axis=0) / (1 - np.square(weights).sum())
    within = (weights * draws.var(axis=1)).sum(axis=0) + between
    return float(np.sqrt(np.where(within > 0, between / np.where(within > 0, within, 1), 0)).max())


def _null(posterior: Posterior, simulator: Simulator, observed: F, seed: int) -> Float[np.ndarray, " m"]:
    rng = stream(seed, "agreement")
    try:
        _, y = simulate(simulator, _DATA_SETS, seed=int(rng.integers(2**31))).usable()
    except SbiFlowsError:
        return np.zeros(0)
    if len(y) < _FEWEST:
        return np.zeros(0)
    rows = as_observed(np.asarray(y, dtype=np.float64), observed)
    return np.sort([distance_apart(posterior, row, seed + 1 + i) for i, row in enumerate(rows)])
