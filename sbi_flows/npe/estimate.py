"""Neural posterior estimation: q(theta | y) trained by maximum likelihood on a fixed set of simulations.

    q maximises  E_{p(theta) p(y | theta)} [ log q(theta | y) ]    (Papamakarios & Murray 2016, 1605.06376)

whose maximiser over all densities is p(theta | y) for every y at once: the loss is the expected forward KL
divergence up to the constant E[log p(theta | y)].
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from sbi_flows.errors import NonFiniteLossError
from sbi_flows.files import write_file
from sbi_flows.machine import torch_threads
from sbi_flows.nets.choice import NETWORKS
from sbi_flows.notes import Note, Notes
from sbi_flows.npe.design import (
    Design,
    Estimate,
    Request,
    begin_design,
    check_enough,
    negative_log_density,
    note_flow,
    rows_to_screen,
    screened,
)
from sbi_flows.npe.ensemble import train_members
from sbi_flows.npe.network import Ensemble, log_mixture, stacking_weights
from sbi_flows.npe.out_of_core import Split, StreamedRows, read_in_buffers
from sbi_flows.npe.settings import decay_factors, members_for, training_for
from sbi_flows.problem.prior import Prior
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.training.loop import losses
from sbi_flows.training.rows import Rows, TensorRows, split_rows
from sbi_flows.training.settings import TrainSettings


def estimate(prior: Prior, simulations: Simulations, request: Request) -> Estimate:
    """Train q on the usable rows of `simulations`: in memory if they take at most a quarter of what is free,
    else read in buffers.

    With buffers, the network, the scaling, m and c are chosen from a seeded sample of at most 20,000 rows.
    Raises what `train`, `Scaler.from_data` and `Simulations.read_block` raise, and `TooFewSimulationsError`.
    The rows of a `NonFiniteLossError` are rows of `simulations`.
    """
    usable = check_enough(prior, simulations)
    notes = Notes(request.say)
    if failed := simulations.failure_text():
        notes.note("failures", text=failed)
    training = request.settings.train or training_for(usable, timed=False)
    streamed, how = read_in_buffers(simulations, prior.unconstrained_dim, request.checkpoint)
    notes.say("simulations held", **how)
    kind: type[_Held | _Streamed] = _Streamed if streamed else _Held
    source = kind(simulations, training, request.seed)
    if streamed:
        notes.append(Note("buffers"))
    design = _designed(prior, source, usable, request, notes)
    network = design.network()
    members = len(network.members)
    note_flow(design, network, members, notes, source.n)
    factors = decay_factors(members) if request.settings.train is None else [1.0] * members
    try:
        with source.rows(design) as rows:
            histories = train_members(network.estimators(), rows, factors, design, request)
            with torch_threads(1):
                network.settle(*rows.valid)
            if len(histories) > 1:
                _mix(network, factors, rows, notes)
    except NonFiniteLossError as error:
        error.rows = source.numbers_of(error.rows)
        if request.checkpoint is not None:
            _save_rows(request.checkpoint, simulations, error)
        raise
    return Estimate(design, network, histories[0], notes, source.train_rows, source.held_out_rows)


class _Held:
    """All usable simulations in memory.

    theta, y: what the design is chosen from; training: the places in them of training rows.
    train_rows, held_out_rows: numbers of simulations. n: how many there are to train on.
    """

    def __init__(self, simulations: Simulations, training: TrainSettings, seed: int) -> None:
        self.theta, self.y = simulations.usable()
        self._numbers = np.flatnonzero(simulations.ok)
        self.training, held_out = split_rows(len(self.theta), training, seed)
        self.train_rows, self.held_out_rows = self._numbers[self.training], self._numbers[held_out]
        self.n = len(self.training)

    @contextmanager
    def rows(self, design: Design) -> Iterator[Rows]:
        """A context with the converted rows; theta and y are given up."""
        parts = design.convert(self.theta, self.y)
        del self.theta, self.y
        yield TensorRows([torch.from_numpy(part) for part in parts], design.training, design.seed)

    def numbers_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of the simulations behind rows of `rows`."""
        return self._numbers[rows]


class _Streamed:
    """The same for simulations beyond memory: theta and y are a sample, and rows are read in buffers."""

    def __init__(self, simulations: Simulations, training: TrainSettings, seed: int) -> None:
        self._split = Split(simulations, training, seed)
        self.theta, self.y, self.train_rows = self._split.sample(seed)
        self.training, self.held_out_rows, self.n = (
            np.arange(len(self.theta)),
            self._split.valid_rows,
            len(self._split),
        )

    @contextmanager
    def rows(self, design: Design) -> Iterator[Rows]:
        del self.theta, self.y
        with StreamedRows(self._split, design.convert, design.training, design.seed) as rows:
            yield rows

    def numbers_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows


def _designed(prior: Prior, source: _Held | _Streamed, usable: int, request: Request, notes: Notes) -> Design:
    """The design for a fixed set: m and c of the training rows, screened columns, settings without gaps."""
    design = begin_design(prior, (source.theta, source.y), request, notes, timed=False)
    design = design.centred_on(source.theta[source.training])
    sample = rows_to_screen(design.scaler, source.training)
    seen = None
    screens = design.kind in NETWORKS and NETWORKS[design.kind].screened
    if screens and request.settings.members != 1 and len(sample):
        seen = screened(*design.convert(source.theta[sample], source.y[sample]))
    least = max(1 if seen is None else 2, len(request.settings.flows))
    members = request.settings.members or max(members_for(usable), least)
    training = request.settings.train or training_for(usable, timed=False, kind=design.kind)
    if seen is not None:
        sees_all, hidden = design.sees_all + 1, int((~seen).sum())
        notes.note("screen", hidden=hidden, columns=len(seen), member=sees_all)
    return replace(design, seen=seen, settings=replace(design.settings, train=training, members=members))


def _mix(network: Ensemble, factors: list[float], rows: Rows, notes: Notes) -> None:
    """Give the members the mixture weights of the largest held-out density."""
    with torch_threads(1):
        loss, alone = mix(network, rows.valid)
    weights = network.mixture_weights.tolist()
    notes.note("mixture", loss=loss, losses=alone, decay_factors=factors, weights=weights)


def mix(network: Ensemble, held_out: tuple[torch.Tensor, ...]) -> tuple[float, list[float]]:
    """Set the mixture weights to those of the largest density on held-out rows; return the mean of -log q
    there, of the mixture and of each member.
    """
    each = torch.stack([-losses(member, negative_log_density, held_out) for member in network.members])
    network.mixture_weights.copy_(stacking_weights(each))
    return -float(log_mixture(list(each), network.mixture_weights).mean()), (-each.mean(dim=1)).tolist()


def _save_rows(checkpoint: str, simulations: Simulations, error: NonFiniteLossError) -> None:
    theta, y = simulations.gather(error.rows)
    write_file(f"{checkpoint}.rows", {"rows": error.rows, "theta": theta, "y": y}, {"kind": "offending rows"})
    error.add_note(f"theta and y of those rows are in {checkpoint}.rows.")
