"""What fitting an autoencoder means, whatever it is of: options checked once, and the bound maximised in
float32.

A fit that is refused or interrupted leaves the model as it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypedDict, TypeVar

from torch import Tensor, nn

from sbi_flows.arrays import integer, real
from sbi_flows.errors import SettingsError
from sbi_flows.machine import torch_threads
from sbi_flows.training.history import History
from sbi_flows.training.loop import Progress, TrainOptions, train
from sbi_flows.training.settings import TrainSettings
from sbi_flows.vae.likelihoods import Likelihood
from sbi_flows.vae.objective import NoisyRows, loss_with
from sbi_flows.vae.warmup import Warmup, warmup_of

Networks = TypeVar("Networks", bound=nn.Module)


class FitOptions(TypedDict, total=False):
    """Options of `fit`, each by its name.

    epochs: passes over the training events.
    warmup: epochs over which the weight of the KL rises from 0 to 1, or `vae.Warmup(...)`.
    free_bits: nats per latent dimension that are not penalised.
    draws: of z for each event and step.
    frozen: what is not trained: "encoder", "model" (the decoder and the prior), or of a `vae.VAE` "decoder".
    train_settings: `sf.TrainSettings(...)` in place of the model's usual ones; its `epochs` gives way to
    `epochs`.
    checkpoint: a file written about every 30 s and at the end, from which the same call on a new model
        resumes. A finished one gives its weights and is not trained further.
    progress: called now and then as progress(step, steps, text).
    """

    epochs: int
    warmup: int | Warmup
    free_bits: float
    draws: int
    frozen: str | None
    train_settings: TrainSettings | None
    checkpoint: str | os.PathLike[str] | None
    progress: Progress | None


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """The same, checked, with the defaults that all models share."""

    epochs: int
    warmup: Warmup = field(default_factory=Warmup)
    free_bits: float = 0.0
    draws: int = 1
    frozen: str | None = None
    train_settings: TrainSettings | None = None
    checkpoint: str | os.PathLike[str] | None = None
    progress: Progress | None = None

    @classmethod
    def of(
        cls,
        options: Mapping[str, Any],
        *,
        epochs: int,
        frozen: Iterable[str] = (),
        without: Iterable[str] = (),
    ) -> Fitting:
        """From the options of a call. epochs: the default; frozen: what may be; without: options that the
        model lacks.

        Raises `SettingsError`, and `TypeError` for an unknown option.
        """
        known = {one.name for one in fields(cls)}.difference(without)
        for name in options:
            if name not in known:
                raise TypeError(
                    f"fit() got an unexpected keyword argument {name!r}; it takes {', '.join(sorted(known))}."
                )
        given = {"epochs": epochs, "warmup": 0, "free_bits": 0.0, "draws": 1, **options}
        parts = [*map(repr, frozen), "None"]
        if given.get("frozen") not in (None, *frozen):
            raise SettingsError(f"frozen must be {', '.join(parts[:-1])} or None, got {given['frozen']!r}.")
        found = cls(
            **{
                **given,
                "epochs": integer("epochs", given["epochs"]),
                "warmup": warmup_of(given["warmup"]),
                "free_bits": real("free_bits", given["free_bits"]),
                "draws": integer("draws", given["draws"]),
            }
        )
        if found.warmup.epochs >= found.epochs:
            raise SettingsError(
                f"the warm-up of {found.warmup.epochs} epochs must end before training does, after "
                f"{found.epochs} epochs."
            )
        if not isinstance(found.train_settings, TrainSettings | None):
            raise SettingsError(
                f"train_settings must be sf.TrainSettings(...), got {found.train_settings!r}."
            )
        return found

    def training(self, usual: TrainSettings) -> TrainSettings:
        """The training settings: those asked for, else the usual ones."""
        return replace(self.train_settings, epochs=self.epochs) if self.train_settings else usual


@contextmanager
def restored_on_error(model: object, *parts: nn.Module | None) -> Iterator[None]:
    """The attributes of a model and the weights of its parts as they were before, where the block does not
    reach its end.
    """
    before = dict(vars(model))
    weights = [
        (part, {name: value.clone() for name, value in part.state_dict().items()})
        for part in parts
        if part is not None
    ]
    try:
        yield
    except BaseException:
        vars(model).clear()
        vars(model).update(before)
        for part, values in weights:
            part.load_state_dict(values)
        raise


def fit_bound(
    module: nn.Module,
    rows: NoisyRows,
    fitting: Fitting,
    identity: Mapping[str, object],
    *,
    undecayed: tuple[str, ...] = (),
    fixed: Iterable[Tensor] = (),
) -> History:
    """Maximise the bound in float32 and leave the module in float64, in evaluation mode.

    identity: what, besides the options here, tells this run from others. fixed: parameters that are not
    trained.
    """
    fixed = [parameter for parameter in fixed if parameter.requires_grad]
    options = TrainOptions(
        undecayed=undecayed,
        compare_from=fitting.warmup.epochs,
        checkpoint=fitting.checkpoint,
        identity={"warmup": asdict(fitting.warmup), **identity},
        progress=fitting.progress,
    )
    try:
        module.float()
        for parameter in fixed:
            parameter.requires_grad_(False)
        with torch_threads(1):
            return train(module, loss_with(fitting.free_bits), rows, options)
    finally:
        for parameter in fixed:
            parameter.requires_grad_(True)
        module.double().eval()


def built(networks: Networks | None, likelihood: Likelihood, call: str) -> Networks:
    """The networks. Raises `SettingsError` where they wait for the data of `call`."""
    if networks is None:
        raise SettingsError(
            f"the {likelihood.name} likelihood takes its number of values from the training data. "
            f"Call {call} first."
        )
    return networks
