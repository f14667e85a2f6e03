"""The training loop: the only one. The module, the loss and the rows are arguments.

    minimise  mean_i loss(module, row_i)  by AdamW (Loshchilov & Hutter 2019, 1711.05101)

with linear warm-up and a cosine to zero, gradients clipped by norm, validation on all rows kept apart, the
weights of the best epoch returned, and a stop at the first loss that is not finite. The order of the rows is
a function of the seed and the epoch, so a run that is resumed from a checkpoint ends at the same bytes.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.errors import NonFiniteLossError
from sbi_flows.rng import stream, torch_scope
from sbi_flows.training.checkpoint import Checkpoint
from sbi_flows.training.rows import Rows
from sbi_flows.training.settings import TrainSettings

Loss = Callable[[nn.Module, tuple[Tensor, ...]], Float[Tensor, " rows"]]
_ROWS_AT_ONCE = 2048
_CHECKPOINT_SECONDS = 30.0


@dataclass
class History:
    """What happened: mean loss by epoch on the training rows (while they were trained on) and on the rows
    kept apart.

    best_epoch counts from 0; stopped is "finished", "patience" or "time".
    """

    train_loss: list[float] = field(default_factory=list)
    valid_loss: list[float] = field(default_factory=list)
    best_epoch: int = -1
    stopped: str = "finished"

    @property
    def best_loss(self) -> float:
        """The validation loss of the weights that were kept."""
        return self.valid_loss[self.best_epoch]


def train(
    module: nn.Module,
    loss: Loss,
    rows: Rows,
    *,
    undecayed: tuple[str, ...] = (),
    decay: float = 1.0,
    settled: int = 0,
    limit_seconds: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    identity: Mapping[str, object] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> History:
    """Train `module` in place and leave it in evaluation mode with its best weights.

    rows: the training rows and those kept apart, with the settings and the seed. loss(module, batch) ->
    (rows,), one number a row.
    undecayed: prefixes of the names of weights that are not to decay, besides biases and norms: the paths
    that may be linear.
    decay: a factor on the weight decay of the settings.
    settled: the first epoch whose weights are compared with others'; until then, while the objective itself
    changes, the newest are kept.
    limit_seconds: the schedule is then shortened so that training ends in that time, what was trained before
    a kill counting.
    checkpoint: a file written every 30 s or so, from which the same call goes on.
    identity: what else, in JSON, tells this run from others: the options of the loss. A checkpoint is bound
    to it. progress(step, steps, text) is called now and then.

    Raises `NonFiniteLossError` (with the rows), `BankMismatchError` for another run's checkpoint, and what
    reading `rows` raises.
    """
    settings = rows.settings
    steps = settings.epochs * rows.steps
    parameters: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        _groups(module, undecayed),
        lr=settings.learning_rate,
        weight_decay=decay * settings.weight_decay,
        fused=True,
    )
    average = [p.detach().clone() for p in parameters]
    keeper = (
        None
        if checkpoint is None
        else Checkpoint.of(
            checkpoint, module, optimiser, average, {**_run_of(rows, decay), **(identity or {})}
        )
    )
    history = History()
    first_epoch = 0 if keeper is None else keeper.restore(history)
    best = {
        name: value.detach().clone()
        for name, value in (keeper.best if keeper else module.state_dict()).items()
    }
    if keeper is not None and keeper.rows:
        rows.go_on(keeper.rows)
    saved = time.monotonic()
    began = saved - (0.0 if keeper is None else keeper.seconds)
    for epoch in range(first_epoch, settings.epochs):
        if history.stopped != "finished":
            break
        module.train()
        total = torch.zeros(())
        out_of_time = False
        with torch_scope(stream(rows.seed, "training", epoch)):
            for i, (numbers, batch) in enumerate(rows.batches(epoch)):
                step = epoch * rows.steps + i
                place = step / steps
                if limit_seconds is not None:
                    place = max(place, (time.monotonic() - began) / limit_seconds)
                    if place >= 1:
                        out_of_time = True
                        break
                for group in optimiser.param_groups:
                    group["lr"] = settings.learning_rate * _schedule(place, settings.warmup)
                value = loss(module, batch).mean()
                optimiser.zero_grad(set_to_none=True)
                value.backward()
                norm = nn.utils.clip_grad_norm_(parameters, settings.clip)
                if not math.isfinite(float(norm) + float(value.detach())):
                    raise NonFiniteLossError(
                        _diverged(f"in step {i}", float(value.detach()), epoch, settings), numbers
                    )
                optimiser.step()
                with torch.no_grad():
                    torch._foreach_lerp_(
                        average, parameters, 1 - min(settings.averaging, (1 + step) / (10 + step))
                    )
                total += value.detach()
                if progress is not None and (i % 20 == 0 or i + 1 == rows.steps):
                    progress(max(step + 1, int(place * steps)), steps, f"loss {float(total) / (i + 1):.3f}")
        if not (out_of_time and i == 0):
            history.train_loss.append(float(total) / max(i, 1) if out_of_time else float(total) / rows.steps)
            with _averaged(parameters, average):
                history.valid_loss.append(mean_loss(module, loss, rows.valid))
                if not math.isfinite(history.valid_loss[-1]):
                    raise NonFiniteLossError(
                        _diverged("on the rows kept apart", history.valid_loss[-1], epoch, settings),
                        rows.valid_rows,
                    )
                if history.best_epoch < settled or history.valid_loss[-1] < history.best_loss:
                    history.best_epoch = len(history.valid_loss) - 1
                    best = {name: value.detach().clone() for name, value in module.state_dict().items()}
        if out_of_time:
            history.stopped = "time"
        elif len(history.valid_loss) - 1 - history.best_epoch >= settings.patience:
            history.stopped = "patience"
        last = epoch + 1 == settings.epochs or history.stopped != "finished"
        if keeper is not None and (last or time.monotonic() - saved > _CHECKPOINT_SECONDS):
            keeper.save(epoch + 1, best, history, rows.state(), time.monotonic() - began)
            saved = time.monotonic()
    module.load_state_dict(best)
    module.eval()
    return history


@contextmanager
def _averaged(parameters: list[Tensor], average: list[Tensor]) -> Iterator[None]:
    """The module with its averaged weights inside the block."""
    now = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        torch._foreach_copy_(parameters, average)
        try:
            yield
        finally:
            torch._foreach_copy_(parameters, now)


@torch.no_grad()
def losses(module: nn.Module, loss: Loss, rows: Sequence[Tensor]) -> Float[Tensor, " rows"]:
    """The loss of each row, in evaluation mode."""
    module.eval()
    starts = range(0, len(rows[0]), _ROWS_AT_ONCE)
    return torch.cat(
        [loss(module, tuple(part[i : i + _ROWS_AT_ONCE] for part in rows)).double() for i in starts]
    )


def mean_loss(module: nn.Module, loss: Loss, rows: Sequence[Tensor]) -> float:
    """The mean loss over all rows, in evaluation mode."""
    return float(losses(module, loss, rows).mean())


def _run_of(rows: Rows, decay: float) -> dict[str, object]:
    """What makes a run this run and no other: its settings, its seed, and the numbers it is trained on."""
    return {"settings": asdict(rows.settings), "seed": rows.seed, "rows": rows.fingerprint(), "decay": decay}


def _groups(module: nn.Module, undecayed: tuple[str, ...]) -> list[dict[str, object]]:
    free: list[Tensor] = []
    decayed: list[Tensor] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (free if parameter.ndim < 2 or name.startswith(undecayed or ("\0",)) else decayed).append(
                parameter
            )
    return [{"params": decayed}, {"params": free, "weight_decay": 0.0}]


def _schedule(place: float, warmup: float) -> float:
    if place < warmup:
        return (place + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (place - warmup) / (1 - warmup)))


def _diverged(where: str, value: float, epoch: int, settings: TrainSettings) -> str:
    return (
        f"the loss became {value}, or its gradient was not finite, in epoch {epoch} {where}, at learning "
        f"rate {settings.learning_rate:g}. "
        "The rows of that batch are in this error's `.rows`. Look for extreme values in them; else lower "
        "learning_rate."
    )
