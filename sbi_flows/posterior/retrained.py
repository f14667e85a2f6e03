"""Training again on simulations of a truncated prior, for one observation.

    q maximises  E_{p(theta | A) p(y | theta)} [ log q(theta | y) ]

whose maximiser over all densities is proportional to p(theta | y) inside A: the proposal is the prior up to a
constant, so the loss stays that of the amortised fit, without a correction. The scaling of theta and y and
the networks are chosen again, from these simulations.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from sbi_flows.arrays import F
from sbi_flows.nets.choice import NETWORKS
from sbi_flows.nets.encoder import EncodedSummary, TrainedEncoder
from sbi_flows.nets.own import OwnSummary
from sbi_flows.npe.estimate import estimate
from sbi_flows.npe.request import Request
from sbi_flows.npe.settings import FitSettings
from sbi_flows.posterior.amortised import Amortised
from sbi_flows.posterior.density import Density
from sbi_flows.posterior.truncated import Truncated
from sbi_flows.problem.patterns import as_observe, like
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import stream
from sbi_flows.simulation.at import in_memory

_LEAST_HELD_OUT, _MOST_HELD_OUT, _DRAWS_EACH = 20, 200, 64


class Rows(NamedTuple):
    """theta (n, d) of a truncated prior and their y (n, *event); the last `new` of them were made since the
    network before.
    """

    theta: F
    y: Shaped[np.ndarray, "n *event"]
    new: int


@dataclass(frozen=True, eq=False)
class Retrained:
    """density: of all y. held_out: theta and y of rows that it was not trained on, nor any network
    before it where there are enough. epochs: of the first network.
    """

    density: Density
    held_out: tuple[F, F]
    epochs: int


def request_for(
    posterior: Amortised, simulator: Simulator, y: Float[np.ndarray, " *event"], settings: FitSettings | None
) -> Request:
    """What the amortised fit was asked for, for one observation: the summary network that it had, if it was
    not chosen by a rule, and the gaps of y alone.
    """
    modules = list(posterior.estimator.modules())
    encoded = [part for part in modules if isinstance(part, EncodedSummary)]
    own = [part for part in modules if isinstance(part, OwnSummary)]
    if settings is None:
        summary = posterior.settings.summary if posterior.settings.summary in NETWORKS else "auto"
        joins = posterior.settings.declared_summaries
        settings = FitSettings(summary=summary, declared_summaries=joins)
    events, gaps = simulator.events, None
    if np.isnan(y).any() and posterior.observe is not None:
        gaps = as_observe(like(events.unpack(y), events), events)
    return Request(
        settings=settings,
        encoder=TrainedEncoder(copy.deepcopy(encoded[0].encoder), posterior.scaler) if encoded else None,
        own=copy.deepcopy(own[0].module).float() if own else None,
        events=events,
        observe=gaps,
        declared=simulator.declared_summaries,
    )


def retrain(simulator: Simulator, rows: Rows, request: Request) -> Retrained:
    """Train on draws of a truncated prior and their y. Raises what `estimate` raises."""
    simulations = in_memory(simulator, rows.theta, rows.y)
    found = estimate(simulator.prior, simulations, request)
    network = copy.deepcopy(found.network).double().eval().requires_grad_(False)
    design = found.design
    density = Density(simulator.prior, network, design.inputs, design.centre, design.scale, None, None)
    held_out = found.held_out_rows
    new = held_out[held_out >= len(rows.theta) - rows.new]
    held_out = new if len(new) >= _LEAST_HELD_OUT else held_out
    kept, data = simulations.gather(held_out[:_MOST_HELD_OUT])
    data = np.asarray(data, dtype=np.float64)
    if request.observe is not None:
        data = np.asarray(request.observe(data, stream(request.seed, "observed gain")), dtype=np.float64)
    return Retrained(density, (kept, data), len(found.history.valid_loss))


def restricted_log_prob(
    density: Density, truncated: Truncated, theta: F, y: Shaped[np.ndarray, "n *event"], seed: int
) -> Float[np.ndarray, " n"]:
    """log q(theta_i | y_i) of q restricted to a region that holds theta_i, in nats.

    q(A | y_i) is the share of 64 draws, counted as if one more draw were half inside.
    """
    contexts = density.contexts(y)
    draws = density.draw(contexts, _DRAWS_EACH, seed)
    inside = truncated.inside(draws.reshape(-1, draws.shape[-1])).reshape(draws.shape[:-1])
    mass = (inside.sum(axis=1) + 0.5) / (_DRAWS_EACH + 1)
    return np.asarray(density.log_prob(theta[:, None], contexts)[:, 0] - np.log(mass))
