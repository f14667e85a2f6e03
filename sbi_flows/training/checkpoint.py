"""The state of a training run on disk, enough to resume as if nothing had happened."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sbi_flows.errors import BankMismatchError
from sbi_flows.files import read_file, write_file
from sbi_flows.training.history import History
from sbi_flows.training.optimiser import Optimiser

_KIND = "training checkpoint"
_OLD_SETTINGS = {"optimiser": "adamw"}  # what runs had before there was a choice
_UNRECORDED = ".free_ends"  # says how a spline is read (`flows.layers`); earlier checkpoints lack it


@dataclass
class Checkpoint:
    """A file with the module, the best weights so far, the running average, the optimiser's state and the
    history.

    rows: the state of the rows when it was written, {} before; seconds: how long the run had trained.
    """

    path: Path
    module: nn.Module
    optimiser: Optimiser
    average: list[Tensor]
    run: dict[str, object]
    best: dict[str, Tensor] = field(default_factory=dict)
    rows: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def of(
        cls,
        path: str | os.PathLike[str],
        module: nn.Module,
        optimiser: Optimiser,
        average: list[Tensor],
        run: dict[str, object],
    ) -> Checkpoint:
        """The checkpoint at `path` for the run that `run` describes in JSON."""
        shapes = {
            name: list(value.shape)
            for name, value in module.state_dict().items()
            if not name.endswith(_UNRECORDED)
        }
        return cls(Path(path), module, optimiser, average, {**run, "shapes": shapes})

    def restore(self, history: History) -> int:
        """Load the file into module, optimiser and history; return the epoch to resume with (0 without a
        file).
        """
        self.best = self.module.state_dict()
        if not self.path.exists():
            return 0
        arrays, manifest = read_file(self.path, _KIND)
        recorded = {**manifest["run"], "settings": {**_OLD_SETTINGS, **manifest["run"]["settings"]}}
        if recorded != self.run:
            different = [key for key in self.run if recorded.get(key) != self.run[key]]
            raise BankMismatchError(
                f"{self.path} is the checkpoint of another run (other {', '.join(different)}). Remove it or "
                f"choose another path."
            )
        tensors = {name: torch.from_numpy(value.copy()) for name, value in arrays.items()}
        self.module.load_state_dict(_under("now/", tensors))
        self.best = _under("best/", tensors)
        self.optimiser.restore(tensors)
        for i, average in enumerate(self.average):
            average.copy_(tensors[f"average/{i}"])
        for key, value in manifest["history"].items():
            setattr(history, key, value)
        self.rows, self.seconds = manifest.get("state", {}), manifest.get("seconds", 0.0)
        return int(manifest["epoch"])

    def save(
        self, epoch: int, best: dict[str, Tensor], history: History, rows: dict[str, Any], seconds: float
    ) -> None:
        """Write the state before `epoch`."""
        self.best = best
        arrays = {f"now/{name}": value.numpy(force=True) for name, value in self.module.state_dict().items()}
        arrays |= {f"best/{name}": value.numpy(force=True) for name, value in best.items()}
        state = self.optimiser.state()
        state |= {f"average/{i}": average for i, average in enumerate(self.average)}
        arrays |= {name: value.numpy(force=True) for name, value in state.items()}
        facts = {"history": asdict(history), "state": rows, "seconds": seconds}
        write_file(self.path, arrays, {"kind": _KIND, "epoch": epoch, "run": self.run, **facts})


def recorded_rows(path: str | os.PathLike[str] | None) -> str | None:
    """The fingerprint of the rows that the checkpoint at `path` is bound to; None where there is no file."""
    return (
        str(read_file(path, _KIND)[1]["run"].get("rows"))
        if path is not None and Path(path).exists()
        else None
    )


def recorded_state(path: str | os.PathLike[str] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The training settings and the state of the rows in the checkpoint at `path`; empty where there is no
    file.
    """
    if path is None or not Path(path).exists():
        return {}, {}
    manifest = read_file(path, _KIND)[1]
    return manifest["run"].get("settings", {}), manifest.get("state", {})


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
