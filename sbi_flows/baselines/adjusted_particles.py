"""Particles of a sequential method, moved to the observed summaries by regression (`baselines.adjustment`).

The kernel of the regression is that of Epanechnikov in the last distance, times the weights of the particles.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.baselines.adjustment import Adjustment, adjusted, epanechnikov, least_accepted
from sbi_flows.baselines.generations import Generation
from sbi_flows.errors import TooFewSimulationsError
from sbi_flows.problem.prior import Prior


def moved(last: Generation, prior: Prior, adjust: Adjustment, seed: int) -> tuple[F, F]:
    """theta (n, d) and weights (n,), of particles with one data set each. Raises `TooFewSimulationsError`."""
    kept = last.weights > 0
    summaries, distance = last.summaries[kept, 0], last.region.distances[-1]
    least = least_accepted(adjust, int(distance.used.sum()))
    if kept.sum() < least:
        raise TooFewSimulationsError(
            f"a {adjust} adjustment needs {least} particles, and {kept.sum()} have weight. Give more "
            "particles."
        )
    kernel = epanechnikov(distance(summaries), last.region.tolerances[-1]) * last.weights[kept]
    theta = prior.from_unconstrained(last.z[kept])
    values = adjusted(prior, theta, distance.offsets(summaries), kernel, adjust, seed)
    return values, kernel / kernel.sum()


def with_moved_moments(last: Generation, prior: Prior, adjust: Adjustment, seed: int) -> Generation:
    """The generation, with the mean and the variance of the moved particles in its last record, by which
    convergence is judged. Linear moves stand for those of networks, which take long to train.
    """
    values, weights = moved(last, prior, "linear" if adjust == "neural" else adjust, seed)
    z, _ = prior.to_unconstrained(values)
    mean = weights @ z
    moments = {"mean": mean.tolist(), "variance": (weights @ np.square(z - mean)).tolist()}
    return replace(last, records=(*last.records[:-1], {**last.records[-1], **moments}))
