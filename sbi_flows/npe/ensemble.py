"""Training the members of an ensemble side by side: one in this process, others in local workers, as many as
there are cores.

Each member is trained by one torch thread wherever it is trained: its weights then do not depend on the
number of cores; several threads make the steps of such small networks little quicker on an idle machine, and
many times slower on a busy one.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from sbi_flows.machine import torch_threads, usable_cores
from sbi_flows.simulation.workers import local_workers, opened
from sbi_flows.training.loop import History, Loss, train
from sbi_flows.training.rows import Rows, TensorRows
from sbi_flows.training.settings import TrainSettings

_WORTH_A_WORKER = 300_000
Progress = Callable[[int, int, str], None]


def train_members(
    members: Sequence[nn.Module],
    loss: Loss,
    rows: Rows,
    *,
    undecayed: tuple[str, ...],
    decays: Sequence[float],
    checkpoint: str | None,
    identity: Mapping[str, object] | None = None,
    progress: Progress | None,
) -> list[History]:
    """Train each of `members` on `rows`, in place. Member k has decays[k] times the weight decay, and k > 0
    the checkpoint `checkpoint`.k.

    Where `rows` are held in memory and there is enough to do, members are trained in workers while others are
    in this process, which also takes over those whose worker dies.
    Raises what `train` raises.
    """
    one = partial(train, loss=loss, undecayed=undecayed, identity=identity)
    if len(members) == 1:
        with torch_threads(1):
            return [one(members[0], rows=rows, decay=decays[0], checkpoint=checkpoint, progress=progress)]
    paths = [
        None if checkpoint is None else f"{checkpoint}.{k}" if k else checkpoint for k in range(len(members))
    ]
    histories: dict[int, History] = {}

    def here(k: int) -> None:
        tell = None if progress is None else _numbered(progress, k, len(members))
        histories[k] = one(members[k], rows=rows, decay=decays[k], checkpoint=paths[k], progress=tell)

    with torch_threads(1), _elsewhere(members, one, rows, decays, paths) as futures:
        here(0)
        for k in reversed(range(1, len(members))):
            if k not in futures or futures[k].cancel():
                here(k)
        for k, future in futures.items():
            if future.cancelled():
                continue
            try:
                state, histories[k] = future.result()
            except BrokenExecutor:  # a worker was killed: the member is the same from here
                here(k)
            else:
                members[k].load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
                members[k].eval()
    return [histories[k] for k in range(len(members))]


@contextmanager
def _elsewhere(
    members: Sequence[nn.Module],
    one: Callable[..., History],
    rows: Rows,
    decays: Sequence[float],
    paths: list[str | None],
) -> Iterator[dict[int, Future[Any]]]:
    """The members that workers may train, by number: none where a worker would not pay, or cannot be."""
    workers = min(usable_cores(), len(members)) - 1
    steps = rows.settings.epochs * rows.steps * rows.settings.batch_size
    if (
        not isinstance(rows, TensorRows)
        or workers < 1
        or steps < _WORTH_A_WORKER
        or multiprocessing.current_process().daemon
    ):
        yield {}
        return
    tensors = [part.numpy() for part in rows.tensors]
    with opened(local_workers(workers)) as pool:
        yield {
            k: pool.submit(
                _train_one, members[k], one, tensors, rows.settings, rows.seed, decays[k], paths[k]
            )
            for k in range(1, len(members))
        }


def _train_one(
    member: nn.Module,
    one: Callable[..., History],
    tensors: list[NDArray[Any]],
    settings: TrainSettings,
    seed: int,
    decay: float,
    checkpoint: str | None,
) -> tuple[dict[str, NDArray[Any]], History]:
    """What a worker does."""
    torch.set_num_threads(1)
    rows = TensorRows([torch.from_numpy(part) for part in tensors], settings, seed)
    history = one(member, rows=rows, decay=decay, checkpoint=checkpoint)
    return {name: value.numpy() for name, value in member.state_dict().items()}, history


def _numbered(progress: Progress, k: int, members: int) -> Progress:
    return lambda step, steps, text: progress(step, steps, f"member {k + 1} of {members}, {text}")
