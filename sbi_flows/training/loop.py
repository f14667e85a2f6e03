"""The training loop: the only one. The module, the loss and the rows are arguments.

    minimise  mean_i loss(module, row_i)

by the optimiser of `training.optimiser`. The learning rate warms up linearly and follows a cosine to zero;
gradients are clipped by norm. A running average of the weights is validated on all held-out rows after each
epoch, and the best average is returned. The first loss that is not finite stops the run. The order of the
rows is a function of the seed and the epoch, so a run that is resumed from a checkpoint ends at the same
bytes.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from sbi_flows.errors import NonFiniteLossError
from sbi_flows.rng import stream, torch_scope
from sbi_flows.training.checkpoint import Checkpoint
from sbi_flows.training.history import History
from sbi_flows.training.optimiser import Optimiser
from sbi_flows.training.rows import Rows

Loss = Callable[[nn.Module, tuple[Tensor, ...]], Float[Tensor, " rows"]]
Progress = Callable[[int, int, str], None]
_ROWS_AT_ONCE = 2048
_CHECKPOINT_SECONDS = 30.0
_STEPS_PER_REPORT = 20


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What a caller of `train` may add.

    undecayed: prefixes of names of weights without weight decay, besides biases and norms: paths that may be
    linear.
    matrices: prefixes of names of the matrices that "muon" takes.
    decay: a factor on the weight decay of the settings.
    compare_from: epochs before this one never count as best, because the objective still changes during
    warm-up.
    limit_seconds: shortens the schedule so that training ends in time; time before an interruption counts.
    checkpoint: a file written about every 30 s, from which the same call resumes.
    identity: what else, in JSON, distinguishes this run, such as options of the loss. A checkpoint is bound
    to it.
    progress: called now and then as progress(step, steps, text).
    """

    undecayed: tuple[str, ...] = ()
    matrices: tuple[str, ...] = ()
    decay: float = 1.0
    compare_from: int = 0
    limit_seconds: float | None = None
    checkpoint: str | os.PathLike[str] | None = None
    identity: Mapping[str, object] | None = None
    progress: Progress | None = None


DEFAULTS = TrainOptions()


def train(module: nn.Module, loss: Loss, rows: Rows, options: TrainOptions = DEFAULTS) -> History:
    """Train `module` in place and leave it in evaluation mode with its best weights.

    rows: the training rows and the held-out rows, with the settings and the seed.
    loss: loss(module, batch) -> (rows,), one number per row.

    Raises `NonFiniteLossError` (with the rows), `BankMismatchError` for the checkpoint of another run, and
    what reading `rows` raises.
    """
    return _Training(module, loss, rows, options).run()


class _Training:
    """One run: the optimiser, the running average, the best weights so far and the clock."""

    def __init__(self, module: nn.Module, loss: Loss, rows: Rows, options: TrainOptions) -> None:
        self.module, self.loss, self.rows, self.options = module, loss, rows, options
        self.settings = settings = rows.settings
        self.steps = settings.epochs * rows.steps
        weight_decay = options.decay * settings.weight_decay
        self.optimiser = Optimiser(
            module, settings.optimiser, weight_decay, undecayed=options.undecayed, matrices=options.matrices
        )
        self.parameters = self.optimiser.parameters
        self.average = [p.detach().clone() for p in self.parameters]
        self.history = History()
        self.saved = self.began = time.monotonic()
        self.keeper = self._keeper()
        self.first_epoch = 0 if self.keeper is None else self._resumed(self.keeper)
        self.best = self._copied(self.keeper.best if self.keeper else module.state_dict())

    def run(self) -> History:
        for epoch in range(self.first_epoch, self.settings.epochs):
            if self.history.stopped != "finished":
                break
            steps, loss = self._epoch(epoch)
            out_of_time = steps < self.rows.steps
            if steps > 0:
                self.history.train_loss.append(loss)
                self._validate(epoch)
            if out_of_time:
                self.history.stopped = "time"
            elif self.history.epochs_since_best >= self.settings.patience:
                self.history.stopped = "patience"
            self._keep(epoch)
        self.module.load_state_dict(self.best)
        self.module.eval()
        return self.history

    def _epoch(self, epoch: int) -> tuple[int, float]:
        """The steps of an epoch that were taken before the time was up, and their mean loss."""
        self.module.train()
        total, i = torch.zeros(()), 0
        with torch_scope(stream(self.rows.seed, "training", epoch)):
            for i, (numbers, batch) in enumerate(self.rows.batches(epoch)):
                step = epoch * self.rows.steps + i
                done = self._share_done(step)
                if done >= 1:
                    return i, float(total) / max(i, 1)
                value, finite = self._step(batch, step, done)
                if not finite:
                    raise self._diverged(f"in step {i}", float(value), epoch, numbers)
                total += value
                if self.options.progress is not None and (
                    i % _STEPS_PER_REPORT == 0 or i + 1 == self.rows.steps
                ):
                    reached = max(step + 1, int(done * self.steps))
                    self.options.progress(reached, self.steps, f"loss {float(total) / (i + 1):.3f}")
        return self.rows.steps, float(total) / self.rows.steps

    def _share_done(self, step: int) -> float:
        """How much of the schedule is behind: by steps, or by the clock where it is further."""
        limit = self.options.limit_seconds
        return (
            step / self.steps
            if limit is None
            else max(step / self.steps, (time.monotonic() - self.began) / limit)
        )

    def _step(self, batch: tuple[Tensor, ...], step: int, done: float) -> tuple[Tensor, bool]:
        """The loss of a batch, and whether it and its gradient are finite; only then is the step taken."""
        value = self.loss(self.module, batch).mean()
        self.optimiser.clear()
        value.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        value = value.detach()
        if not math.isfinite(float(norm) + float(value)):
            return value, False
        self.optimiser.step(self.settings.learning_rate * _schedule(done, self.settings.warmup))
        with torch.no_grad():
            decay = min(self.settings.averaging, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.average, self.parameters, 1 - decay)
        return value, True

    def _validate(self, epoch: int) -> None:
        """Score the averaged weights on the held-out rows, and keep them where they are the best so far."""
        history, rows = self.history, self.rows
        with _averaged(self.parameters, self.average):
            history.valid_loss.append(mean_loss(self.module, self.loss, rows.valid))
            if not math.isfinite(history.valid_loss[-1]):
                raise self._diverged("on the held-out rows", history.valid_loss[-1], epoch, rows.valid_rows)
            if history.best_epoch < self.options.compare_from or history.valid_loss[-1] < history.best_loss:
                history.best_epoch = len(history.valid_loss) - 1
                self.best = self._copied(self.module.state_dict())

    def _keeper(self) -> Checkpoint | None:
        path, identity = self.options.checkpoint, self.options.identity or {}
        if path is None:
            return None
        run = {**_run_of(self.rows, self.options.decay), **identity}
        return Checkpoint.of(path, self.module, self.optimiser, self.average, run)

    def _resumed(self, keeper: Checkpoint) -> int:
        first_epoch = keeper.restore(self.history)
        self.began -= keeper.seconds
        if keeper.rows:
            self.rows.resume(keeper.rows)
        return first_epoch

    def _keep(self, epoch: int) -> None:
        """Write the checkpoint, where it is time to."""
        now, last = time.monotonic(), epoch + 1 == self.settings.epochs or self.history.stopped != "finished"
        if self.keeper is not None and (last or now - self.saved > _CHECKPOINT_SECONDS):
            self.keeper.save(epoch + 1, self.best, self.history, self.rows.state(), now - self.began)
            self.saved = time.monotonic()

    def _diverged(self, where: str, value: float, epoch: int, rows: NDArray[np.int64]) -> NonFiniteLossError:
        return NonFiniteLossError(
            f"the loss became {value}, or its gradient was not finite, in epoch {epoch} {where}, at "
            f"learning rate {self.settings.learning_rate:g}. The rows of that batch are in this error's "
            "`.rows`. Look for extreme values in them; else lower learning_rate.",
            rows,
        )

    @staticmethod
    def _copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in weights.items()}


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
    """The loss per row, in evaluation mode."""
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


def _schedule(done: float, warmup: float) -> float:
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
