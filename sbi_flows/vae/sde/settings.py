"""The sizes of a latent SDE, how its paths are solved, and how it trains unless told otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from sbi_flows.arrays import real, renamed
from sbi_flows.errors import SettingsError
from sbi_flows.flows.sampling import SamplingKind
from sbi_flows.training.settings import TrainSettings
from sbi_flows.vae.settings import Sizes

_WORDS = {
    "solver": ("euler", "milstein"),
    "diffusion": ("state", "constant"),
    "encoder": get_args(SamplingKind),
}


@renamed(hidden="width")
@dataclass(frozen=True, kw_only=True)
class SDESettings(Sizes):
    """How a latent SDE is solved, and its networks.

    dt: the longest step of the solver, in the unit of the times; None: a hundredth of the span of the
        training times. What is fitted is the model on such steps; times in between make shorter steps, on
        which a coarse model is another model.
    solver: "euler", on whose steps bounds and weights are exact, or "milstein", whose paths are closer to
    those of the SDE.
    adjoint: gradients from an equation solved backwards, which saves memory but not time; its error is of the
    order of dt.
    diffusion: g_i a function of z_i ("state") or a number ("constant").
    timed: whether drift and diffusion also depend on time; they then mean nothing beyond the training times.
    encoder: the flow of q(z at the first time | x), one of those of `vae.VAE`.
    width: of all networks; context: length of the state of the recurrent network that reads the data.
    """

    dt: float | None = None
    solver: str = "euler"
    adjoint: bool = False
    diffusion: str = "state"
    timed: bool = False
    encoder: str = "full_rank"
    width: int = 64
    context: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("adjoint", "timed"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name} must be True or False, got {getattr(self, name)!r}.")
        for name, known in _WORDS.items():
            given = getattr(self, name)
            if not isinstance(given, str) or given not in known:
                raise SettingsError(f"{name} must be one of {', '.join(known)}, got {given!r}.")
        if self.dt is not None:
            object.__setattr__(self, "dt", real("dt", self.dt, positive=True))


def training_for(epochs: int) -> TrainSettings:
    """AdamW at 4e-3 down to zero along a cosine, batches of 64, weight decay 0.01, no early stop."""
    return TrainSettings(
        epochs=epochs, batch_size=64, learning_rate=4e-3, weight_decay=0.01, patience=max(epochs, 1)
    )
