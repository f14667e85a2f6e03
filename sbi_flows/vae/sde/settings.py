"""The sizes of a latent SDE, how its paths are solved, and how it trains unless told otherwise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, get_args

from sbi_flows.arrays import integer, real
from sbi_flows.errors import SettingsError
from sbi_flows.flows.sampling import SamplingKind
from sbi_flows.training.settings import TrainSettings

_WORDS = {
    "solver": ("euler", "milstein"),
    "diffusion": ("state", "constant"),
    "encoder": get_args(SamplingKind),
}


@dataclass(frozen=True, kw_only=True)
class SDESettings:
    """dt: the longest step of the solver, in the unit of the times; None takes a hundredth of the span of the
    training times.
    What is fitted is the model on such steps; times asked for between them make shorter ones, on which a
    coarse model is another.

    solver: "euler", on whose steps bounds and weights are exact, or "milstein", whose paths are nearer to
    those of the SDE. adjoint: gradients from an equation solved backwards, which saves memory and not time,
    and whose error is of the order of the step.
    diffusion: g_i a function of z_i ("state") or a number ("constant"). timed: whether drift and diffusion
    also depend on time; they then mean nothing beyond the training times.
    encoder: the flow that q(z at the first time | x) is, one of `vae.VAE`. hidden: width of all networks;
    context: length of the state of the recurrent network that reads the data.
    """

    dt: float | None = None
    solver: str = "euler"
    adjoint: bool = False
    diffusion: str = "state"
    timed: bool = False
    encoder: str = "full_rank"
    hidden: int = 64
    context: int = 32

    def __post_init__(self) -> None:
        for name in ("hidden", "context"):
            object.__setattr__(self, name, integer(name, getattr(self, name)))
        for name in ("adjoint", "timed"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name} must be True or False, got {getattr(self, name)!r}.")
        for name, known in _WORDS.items():
            given = getattr(self, name)
            if not isinstance(given, str) or given not in known:
                raise SettingsError(f"{name} must be one of {', '.join(known)}, got {given!r}.")
        if self.dt is not None:
            object.__setattr__(self, "dt", real("dt", self.dt, positive=True))

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON."""
        return asdict(self)


def training_for(epochs: int) -> TrainSettings:
    """AdamW at 4e-3 down to zero along a cosine, batches of 64, weight decay 0.01, no stop before the end."""
    return TrainSettings(
        epochs=epochs, batch_size=64, learning_rate=4e-3, weight_decay=0.01, patience=max(epochs, 1)
    )
