"""The amortised posterior of one y as a proposal over the prior's unconstrained coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.posterior.amortised import Amortised


@dataclass(frozen=True, eq=False)
class NeuralProposal:
    """q(theta | y) over z = T(theta): log q_Z(z) = log q(theta | y) - log |det dT/dtheta|. given: y as a user
    gives it.
    """

    posterior: Amortised
    given: Any

    def sample(self, n: int, rng: np.random.Generator) -> F:
        """n draws (n, u)."""
        theta = self.posterior.sample(self.given, n, seed=int(rng.integers(2**31))).values
        return self.posterior.prior.to_unconstrained(theta)[0]

    def log_prob(self, z: F) -> F:
        """log q_Z, (n,)."""
        prior = self.posterior.prior
        theta = prior.from_unconstrained(z)
        return self.posterior.log_prob(theta, self.given) - prior.to_unconstrained(theta)[1]
