"""What happened while a module was trained."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class History:
    """The mean loss per epoch, on the training rows (while they were trained on) and on the held-out rows.

    best_epoch counts from 0; stopped is "finished", "patience" or "time".
    """

    train_loss: list[float] = field(default_factory=list)
    valid_loss: list[float] = field(default_factory=list)
    best_epoch: int = -1
    stopped: str = "finished"

    @property
    def best_loss(self) -> float:
        """The held-out loss of the weights that were kept."""
        return self.valid_loss[self.best_epoch]

    @property
    def epochs_since_best(self) -> int:
        """How many epochs have passed since the best one."""
        return len(self.valid_loss) - 1 - self.best_epoch
