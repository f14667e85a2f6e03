"""Arithmetic in latent space.

    attribute    v = mean of E[z | x] over the events that have it - mean over the others
                 of a number: v = b (b . v') / |b|^2, with b the slope of its least-squares fit by draws of z
                 and v' the v of its upper half                                    White (2016), 1609.04468
    optimum      z_{k+1} by Adam on  f(z) - prior_weight |z|^2 / 2
                                                            Gómez-Bombarelli et al. (2018), 1610.02415

Without its prior term the last leaves what the decoder was trained on, where f means nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sbi_flows.arrays import F, integer, numbers, real, rows_of
from sbi_flows.errors import ObservationError, SettingsError, ShapeError

_DRAWS = 20


class LatentModel(Protocol):
    """An autoencoder of any kind of event."""

    latent: int

    @property
    def module(self) -> nn.Module:
        """The networks. Raises `SettingsError` where they wait for data."""

    def encode(self, x: Any, n: int = 1, *, seed: int = 0) -> F:
        """n draws from q(z | x) for each event, (rows, n, latent)."""

    def latent_mean(self, x: Any) -> F:
        """E[z | x] for each event, (rows, latent)."""


@dataclass(frozen=True)
class Optimum:
    """Where an ascent led: z of every step from the start on (steps + 1, rows, latent), and f there (steps +
    1, rows).
    """

    path: F
    values: F

    @property
    def z(self) -> F:
        """The end points, (rows, latent)."""
        return np.asarray(self.path[-1])

    @property
    def best(self) -> F:
        """The z of highest f on each path, (rows, latent)."""
        return np.asarray(self.path[self.values.argmax(axis=0), np.arange(self.path.shape[1])])


def attribute_vector(model: LatentModel, x: ArrayLike, labels: ArrayLike) -> F:
    """The direction in which an attribute grows, (latent,). `model.decode(z + a * attribute_vector(...))`
    edits.

    labels: one per event: booleans, or numbers; if only two values occur, the larger one marks the attribute.

    For a number it is the direction of steepest growth, as long as the upper half of the events lies from the
    lower half along it; other differences between the halves are left out. The fit is by draws from q(z | x),
    whose spread keeps it from latent numbers that are not used. Raises `ShapeError`, `ObservationError` for
    labels that are not finite numbers, and `SettingsError` where all labels are equal.
    """
    _check_model(model)
    z, given = model.latent_mean(x), numbers(labels, "labels", "one per row of x")
    if given.shape != (len(z),):
        raise ShapeError(f"labels must be one per row of x, shape ({len(z)},), got {given.shape}.")
    if not np.isfinite(given).all():
        raise ObservationError(
            f"labels must be finite, got {given[~np.isfinite(given)][0]}. Leave out those events."
        )
    kinds = np.unique(given)
    if len(kinds) == 1:
        raise SettingsError(
            "all events have the attribute, or none has: labels must differ. Pass events of both kinds."
        )
    middle = np.median(given)
    has = given > middle if middle < kinds[-1] else given == middle
    apart = z[has].mean(axis=0) - z[~has].mean(axis=0)
    if len(kinds) == 2:
        return np.asarray(apart)
    draws, scaled = model.encode(x, _DRAWS).reshape(-1, model.latent), given / np.abs(kinds[[0, -1]]).max()
    slope = np.linalg.lstsq(
        draws - draws.mean(axis=0), np.repeat(scaled - scaled.mean(), _DRAWS), rcond=None
    )[0]
    return np.asarray(slope * (abs(slope @ apart) / (slope @ slope)))


def optimise(
    model: LatentModel,
    f: Callable[[Tensor], Tensor],
    start: ArrayLike,
    *,
    prior_weight: float = 0.2,
    steps: int = 60,
    learning_rate: float = 0.1,
) -> Optimum:
    """Ascend f(z) - prior_weight |z|^2 / 2 from each row of `start` (rows, latent).

    f: a differentiable function of torch tensors (rows, latent) -> (rows,), in float64: a property predictor
    on z, or of a `VAE` a function of `model.module.decoder.mean(z)`. prior_weight=0 shows what the prior term
    is for. Raises `ShapeError`, and `SettingsError`, also where f fails, or gives what no gradient comes
    from, or numbers that are not finite.
    """
    prior_weight, learning_rate = (
        real("prior_weight", prior_weight),
        real("learning_rate", learning_rate, positive=True),
    )
    steps = integer("steps", steps)
    if not callable(f):
        raise SettingsError(f"f must be a function of torch tensors (rows, latent) -> (rows,), got {f!r}.")
    _check_model(model)
    z = torch.from_numpy(rows_of(start, (model.latent,), "start").copy()).requires_grad_()
    optimiser = torch.optim.Adam([z], lr=learning_rate)
    path, values = [], []
    for step in range(steps + 1):
        try:
            value = f(z)
        except Exception as error:
            raise SettingsError(
                f"f failed in step {step} with {type(error).__name__}: {error}. It is given z of shape "
                f"{tuple(z.shape)} in float64; a network takes that after its .double()."
            ) from error
        if not isinstance(value, Tensor) or not value.requires_grad:
            raise SettingsError(
                f"f must give a tensor that torch can differentiate by z, got {value!r}. Make it of torch "
                f"functions of z."
            )
        if value.shape != (len(z),):
            raise ShapeError(f"f must give one number per row, shape ({len(z)},), got {tuple(value.shape)}.")
        if not torch.isfinite(value).all():
            raise SettingsError(
                f"f must be finite on the way, got {value.detach().tolist()} in step {step}. Start "
                f"elsewhere, or lower learning_rate."
            )
        path.append(z.detach().numpy().copy())
        values.append(value.detach().numpy().astype(np.float64))
        if step < steps:
            optimiser.zero_grad()
            (0.5 * prior_weight * z.square().sum(dim=1) - value).sum().backward()
            optimiser.step()
    return Optimum(np.stack(path), np.stack(values))


def _check_model(model: LatentModel) -> None:
    """Raise `SettingsError` unless it is an autoencoder whose networks are there."""
    if not all(hasattr(type(model), name) for name in ("module", "encode", "latent_mean")):
        raise SettingsError(f"model must be a vae.VAE or a vae.SentenceVAE, got {type(model).__name__}.")
    _ = model.module
