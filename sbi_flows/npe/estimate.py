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
    begin_design,
    check_enough,
    negative_log_density,
    note_flow,
    rows_to_screen,
    screened,
)
from sbi_flows.npe.ensemble import train_members
from sbi_flows.npe.linear import LINEAR, OPERATIONS, is_linear
from sbi_flows.npe.network import Ensemble, log_mixture, stacking_weights
from sbi_flows.npe.out_of_core import Split, StreamedRows, read_in_buffers
from sbi_flows.npe.redrawn import as_seen
from sbi_flows.npe.request import Request, Sample
from sbi_flows.npe.settings import DensityKind, decay_factors, flows_for, members_for, training_for
from sbi_flows.problem.prior import Prior
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.training.loop import losses
from sbi_flows.training.rows import Rows, TensorRows, split_rows
from sbi_flows.training.settings import TrainSettings

_LEAST_WEIGHT = 0.1


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
    declared = _number_declared(simulations, request)
    streamed, how = read_in_buffers(simulations, prior.unconstrained_dim, request.checkpoint, declared)
    notes.say("simulations held", **how)
    kind: type[_Held | _Streamed] = _Streamed if streamed else _Held
    source = kind(simulations, training, request)
    if streamed:
        notes.append(Note("buffers"))
    design = _designed(prior, source, usable, request, notes)
    network = design.network()
    members = len(network.members)
    note_flow(design, network, members, notes, source.n)
    trained = sum(not is_linear(member) for member in network.members)
    factors = decay_factors(trained) if request.settings.train is None else [1.0] * trained
    factors += [1.0] * (members - trained)
    try:
        with source.rows(design) as held:
            rows = as_seen(held, design)
            histories = train_members(network.estimators(), rows, factors, design, request)
            with torch_threads(1):
                network.settle(*rows.valid)
            if len(histories) > 1:
                design, network = _mixed(design, network, factors, rows, request, notes)
    except NonFiniteLossError as error:
        error.rows = source.numbers_of(error.rows)
        if request.checkpoint is not None:
            _save_rows(request.checkpoint, simulations, error)
        raise
    return Estimate(design, network, histories[0], notes, source.train_rows, source.held_out_rows)


def _number_declared(simulations: Simulations, request: Request) -> int:
    """How many summaries the simulator declares, if they are to join."""
    if request.joining is None:
        return 0
    _, y = simulations.gather(np.flatnonzero(simulations.ok)[:1])
    return int(request.joining(y).shape[1])


class _Held:
    """All usable simulations in memory.

    sample: what the design is chosen from; training: the places in it of training rows.
    train_rows, held_out_rows: numbers of simulations. n: how many there are to train on.
    """

    def __init__(self, simulations: Simulations, training: TrainSettings, request: Request) -> None:
        self.sample = Sample.of(*simulations.usable(), request)
        self._numbers = np.flatnonzero(simulations.ok)
        self.training, held_out = split_rows(len(self.sample), training, request.seed)
        self.train_rows, self.held_out_rows = self._numbers[self.training], self._numbers[held_out]
        self.n = len(self.training)

    @contextmanager
    def rows(self, design: Design) -> Iterator[Rows]:
        """A context with the converted rows; the simulations are given up."""
        parts = design.convert(*self.sample)
        del self.sample
        yield TensorRows([torch.from_numpy(part) for part in parts], design.training, design.seed)

    def numbers_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of the simulations behind rows of `rows`."""
        return self._numbers[rows]


class _Streamed:
    """The same for simulations beyond memory: the sample is of some, and rows are read in buffers."""

    def __init__(self, simulations: Simulations, training: TrainSettings, request: Request) -> None:
        self._split = Split(simulations, training, request.seed)
        theta, y, self.train_rows = self._split.sample(request.seed)
        self.sample = Sample.of(theta, y, request)
        self.training, self.held_out_rows, self.n = (
            np.arange(len(self.sample)),
            self._split.valid_rows,
            len(self._split),
        )

    @contextmanager
    def rows(self, design: Design) -> Iterator[Rows]:
        del self.sample
        with StreamedRows(self._split, design.convert, design.training, design.seed) as rows:
            yield rows

    def numbers_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows


def _designed(prior: Prior, source: _Held | _Streamed, usable: int, request: Request, notes: Notes) -> Design:
    """The design for a fixed set: m and c of the training rows, screened columns, settings without gaps."""
    design = begin_design(prior, source.sample, request, notes, timed=False)
    design = design.centred_on(source.sample.theta[source.training])
    rows = rows_to_screen(design.inputs, source.training)
    seen = None
    screens = design.kind in NETWORKS and NETWORKS[design.kind].screened and not design.inputs.masked
    if screens and request.settings.members != 1 and len(rows):
        seen = screened(*design.convert(*source.sample[rows]))
    least = max(1 if seen is None else 2, len(request.settings.flows))
    members = request.settings.members or (1 if request.own is not None else max(members_for(usable), least))
    training = request.settings.train or training_for(usable, timed=False, kind=design.kind)
    if seen is not None:
        sees_all, hidden = design.sees_all + 1, int((~seen).sum())
        notes.note("screen", hidden=hidden, columns=len(seen), member=sees_all)
    flow = design.settings.flow
    if flow == "auto":
        narrow = design.edges is not None and bool(design.edges.any())
        kinds: tuple[DensityKind, ...] = flows_for(members, prior.unconstrained_dim, narrow=narrow)
        left_open = request.settings.members is None and members > 1 and not design.inputs.masked
        if left_open and usable * float(design.inputs.numbers) ** 2 < OPERATIONS:
            members, kinds = members + 1, (*(kinds * members)[:members], LINEAR)
        flow = kinds[0] if len(kinds) == 1 else kinds
    settings = replace(design.settings, train=training, members=members, flow=flow)
    return replace(design, seen=seen, settings=settings)


def _mixed(
    design: Design, network: Ensemble, factors: list[float], rows: Rows, request: Request, notes: Notes
) -> tuple[Design, Ensemble]:
    """Give the members the mixture weights of the largest held-out density, without a linear member that
    nobody asked for and that hardly adds to it.
    """
    with torch_threads(1):
        loss, alone = mix(network, rows.valid)
        weight, optional = float(network.mixture_weights[-1]), request.settings.flow == "auto"
        if optional and is_linear(network.members[-1]) and weight < _LEAST_WEIGHT:
            notes.note("linear member left out", loss=alone[-1], weight=weight)
            network, design = Ensemble(network.estimators()[:-1]).eval(), _without_last(design)
            loss, alone = mix(network, rows.valid)
    weights = network.mixture_weights.tolist()
    factors = factors[: len(weights)]
    notes.note("mixture", loss=loss, losses=alone, decay_factors=factors, weights=weights)
    return design, network


def _without_last(design: Design) -> Design:
    """The design with a member less, the last one."""
    settings = design.settings
    flow = dict.fromkeys(settings.flows[:-1])
    kept = settings.flows[:-1] if len(flow) > 1 else next(iter(flow))
    return replace(design, settings=replace(settings, flow=kept, members=(settings.members or 2) - 1))


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
