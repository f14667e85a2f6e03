"""Training the members of an ensemble in parallel: one in this process, others in local workers, one per
core.

Each member is trained by one torch thread wherever it is trained, so its weights do not depend on the number
of cores. Several threads make steps of such small networks little faster on an idle machine, and many times
slower on a busy one.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from sbi_flows.machine import torch_threads, usable_cores
from sbi_flows.npe.design import LINEAR_PATHS, MATRICES, Design, training_loss
from sbi_flows.npe.linear import is_linear, solve
from sbi_flows.npe.redrawn import RedrawnRows, as_seen
from sbi_flows.npe.request import Request
from sbi_flows.simulation.workers import local_workers, opened, packed, unpacked
from sbi_flows.training.history import History
from sbi_flows.training.loop import Progress, TrainOptions, train
from sbi_flows.training.rows import Rows, TensorRows
from sbi_flows.training.settings import TrainSettings

_WORTH_A_WORKER = 300_000
Trained = tuple[dict[str, NDArray[Any]], History]


def train_members(
    members: Sequence[nn.Module], rows: Rows, factors: Sequence[float], design: Design, request: Request
) -> list[History]:
    """Train each of `members` on `rows`, in place. Member k has factors[k] times the weight decay, and member
    k > 0 the checkpoint `checkpoint`.k.

    Where `rows` are in memory and there is enough to do, workers train members in parallel; this process
    takes over those whose worker dies. Raises what `train` raises.
    """
    options = [_options(k, factors, design, request) for k in range(len(members))]
    histories: dict[int, History] = {}

    def here(k: int) -> None:
        member = members[k]
        histories[k] = (
            solve(member, rows) if is_linear(member) else train(member, training_loss, rows, options[k])
        )

    with torch_threads(1), _elsewhere(members, rows, options, design) as futures:
        here(0)
        for k in reversed(range(1, len(members))):
            if k not in futures or futures[k].cancel():
                here(k)
        for k, future in futures.items():
            if future.cancelled():
                continue
            try:
                state, histories[k] = future.result()
            except BrokenExecutor:  # a worker was killed: this process trains the same member
                here(k)
            else:
                members[k].load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
                members[k].eval()
    return [histories[k] for k in range(len(members))]


def _options(k: int, factors: Sequence[float], design: Design, request: Request) -> TrainOptions:
    path, progress = request.checkpoint, request.progress
    if progress is not None and len(factors) > 1:
        progress = _numbered(progress, k, len(factors))
    return TrainOptions(
        undecayed=LINEAR_PATHS,
        matrices=MATRICES,
        decay=factors[k],
        limit_seconds=request.limit_seconds,
        checkpoint=f"{path}.{k}" if path is not None and k else path,
        identity=design.identity,
        progress=progress,
    )


@contextmanager
def _elsewhere(
    members: Sequence[nn.Module], rows: Rows, options: Sequence[TrainOptions], design: Design
) -> Iterator[dict[int, Future[Trained]]]:
    """The members that workers may train, by number: none where a worker would not pay, or cannot be
    started.
    """
    trained = [k for k, member in enumerate(members) if not is_linear(member)]
    workers = min(usable_cores(), len(trained)) - 1
    work = rows.settings.epochs * rows.steps * rows.settings.batch_size
    daemon = multiprocessing.current_process().daemon
    held = rows.rows if isinstance(rows, RedrawnRows) else rows
    if not isinstance(held, TensorRows) or workers < 1 or work < _WORTH_A_WORKER or daemon:
        yield {}
        return
    whole = _Whole([part.numpy() for part in held.tensors], rows.settings, rows.seed)
    redrawn = packed(design) if design.observe is not None else None
    with opened(local_workers(workers)) as pool:
        yield {
            k: pool.submit(_train_one, members[k], whole, redrawn, replace(options[k], progress=None))
            for k in trained[1:]
        }


@dataclass(frozen=True, eq=False)
class _Whole:
    """Rows as they are sent to a worker."""

    tensors: list[NDArray[Any]]
    settings: TrainSettings
    seed: int


def _train_one(member: nn.Module, whole: _Whole, redrawn: bytes | None, options: TrainOptions) -> Trained:
    """What a worker does. redrawn: the design, packed, where the rows are redrawn."""
    torch.set_num_threads(1)
    rows: Rows = TensorRows([torch.from_numpy(part) for part in whole.tensors], whole.settings, whole.seed)
    if redrawn is not None:
        rows = as_seen(rows, unpacked(redrawn))
    history = train(member, training_loss, rows, options)
    return {name: value.numpy() for name, value in member.state_dict().items()}, history


def _numbered(progress: Progress, k: int, members: int) -> Progress:
    return lambda step, steps, text: progress(step, steps, f"member {k + 1} of {members}, {text}")
