"""How much a posterior learned: its held-out log density over the prior's.

    gain = E_{p(theta, y)} [ log q(theta | y) - log p(theta) ]      in nats, at most the mutual information

A posterior that is the prior gains nothing; one that is wrong with confidence loses.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int

from sbi_flows.diagnostics.recovery import Gain
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.rng import stream
from sbi_flows.simulation.simulations import Simulations

_MOST_ROWS = 500


def gain_over_prior(
    posterior: Posterior, simulations: Simulations, held_out: Int[np.ndarray, " m"], seed: int
) -> Gain:
    """On at most 500 held-out simulations, with gaps as in training."""
    theta, y = simulations.gather(held_out[:_MOST_ROWS])
    y = np.asarray(y, dtype=np.float64)
    if posterior.observe is not None:
        y = np.asarray(posterior.observe(y, stream(seed, "observed gain")), dtype=np.float64)
        there = ~np.isnan(y.reshape(len(y), -1)).all(axis=1)
        if not there.any():
            return Gain(0.0, 0.0)
        theta, y = theta[there], y[there]
    gained = posterior.log_prob_of(theta, y) - posterior.prior.log_prob(theta)
    gained = gained[np.isfinite(gained)]
    if len(gained) < 2:
        return Gain(math.nan, math.nan)
    return Gain(float(gained.mean()), float(gained.std(ddof=1) / math.sqrt(len(gained))))
