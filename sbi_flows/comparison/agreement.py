"""Do the networks of an ensemble agree at one observation, as much as they do on data of the simulator?

    apart(y) = max_j sd_k(E_k theta_j) / sd(theta_j),   the variance of means between members sum_k w_k (E_k -
    E)^2 / (1 - sum_k w_k^2)

w are the members' shares in the mixture. Members that are trained apart never agree to the bit, and by how
much they differ depends on the task; so apart(y_obs) is ranked among the same of 199 fresh simulated data
sets, with as many draws: exact under the prior predictive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sbi_flows.errors import SbiFlowsError
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import stream
from sbi_flows.simulation.engine import simulate
from sbi_flows.verdict import Level

UNUSUAL = 0.01
_SLIGHT, _APART, _FAR_APART = 0.1, 0.5, 1.0
_DRAWS, _DATA_SETS, _FEWEST = 200, 199, 99


@dataclass(frozen=True)
class Agreement:
    """apart: at the observation, in sd of all draws; null (m,): sorted, at simulated data sets, empty where
    none could be made.
    """

    apart: float
    null: Float[np.ndarray, " m"]

    @property
    def p(self) -> float:
        """The share of data sets, y_obs among them, at which the members are at least as far apart; NaN
        without any.
        """
        m = len(self.null)
        return float((1 + m - np.searchsorted(self.null, self.apart)) / (1 + m)) if m else float("nan")

    def judge(self) -> tuple[Level, str]:
        """Level and reason: "caution" where p <= 1% and it is not slight, "do not trust" if it is more than 1
        sd besides.

        Members that are 0.5 sd apart on most simulated data are "caution" everywhere.
        """
        if len(self.null) == 0:
            level: Level = (
                "do not trust" if self.apart > _FAR_APART else "caution" if self.apart > _APART else "trust"
            )
            return level, f"its networks disagree: their means lie {self.apart:.2f} sd apart. Simulate more"
        usual = float(np.median(self.null))
        if self.p <= UNUSUAL and self.apart > _SLIGHT:
            words = (
                f"its networks disagree: their means lie {self.apart:.2f} sd apart (p = {self.p:.2g}; "
                f"{usual:.2f} sd on simulated data)"
            )
            return "do not trust" if self.apart > _FAR_APART else "caution", f"{words}. Simulate more"
        if usual > _APART:
            words = (
                f"its networks disagree on simulated data too: their means lie {usual:.2f} sd apart "
                f"there, {self.apart:.2f} here"
            )
            return "caution", f"{words}. Simulate more"
        return (
            "trust",
            f"its networks agree as they do on simulated data ({self.apart:.2f} sd apart; p = {self.p:.2g})",
        )


def agreement(posterior: Posterior, simulator: Simulator, y: np.ndarray, seed: int) -> Agreement | None:
    """How far apart the members are at y, and at fresh data sets of the simulator; None where there is one
    network.
    """
    if len(posterior.estimator.flows()) < 2:
        return None
    return Agreement(distance_apart(posterior, y, seed), _null(posterior, simulator, seed))


def distance_apart(posterior: Posterior, y: np.ndarray, seed: int) -> float:
    """apart(y); NaN of one network."""
    draws, shares = (
        posterior.sample_members(y, _DRAWS, seed=seed),
        posterior.estimator.mixture_weights.numpy().astype(np.float64),
    )
    if len(draws) < 2:
        return float("nan")
    shares = (shares / shares.sum())[:, None]
    means = draws.mean(axis=1)
    between = (shares * np.square(means - (shares * means).sum(axis=0))).sum(axis=0) / (
        1 - np.square(shares).sum()
    )
    within = (shares * draws.var(axis=1)).sum(axis=0) + between
    return float(np.sqrt(np.where(within > 0, between / np.where(within > 0, within, 1), 0)).max())


def _null(posterior: Posterior, simulator: Simulator, seed: int) -> Float[np.ndarray, " m"]:
    rng = stream(seed, "agreement")
    try:
        y = np.asarray(
            simulate(simulator, _DATA_SETS, seed=int(rng.integers(2**31))).usable()[1], dtype=np.float64
        )
    except SbiFlowsError:
        return np.zeros(0)
    if len(y) < _FEWEST:
        return np.zeros(0)
    return np.sort([distance_apart(posterior, row, seed + 1 + i) for i, row in enumerate(y)])
