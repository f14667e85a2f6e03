"""A user's own prior SDE, or parts of one: what it must be, and how it is tried before use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from sbi_flows.arrays import F, numbers
from sbi_flows.errors import SettingsError, ShapeError
from sbi_flows.vae.network import tried


@dataclass(frozen=True, kw_only=True)
class PriorSDE:
    """Your own prior, in your units of time and of z. Parts that are None are learned from scratch.

    drift, diffusion: modules (z (rows, d), t (rows,)) -> (rows, d), trained in place unless frozen.
        diffusion_i must be positive and depend on z_i and t alone.
    mean, sd: of z at the first time, (d,). Training starts from them.
    """

    drift: nn.Module | None = None
    diffusion: nn.Module | None = None
    mean: ArrayLike | None = None
    sd: ArrayLike | None = None

    def __post_init__(self) -> None:
        for name, given in (("drift", self.drift), ("diffusion", self.diffusion)):
            if not isinstance(given, nn.Module | None):
                raise SettingsError(f"{name} must be a torch.nn.Module (z, t) -> (rows, d), got {given!r}.")
        self._numbers("mean")
        self._numbers("sd")

    def start(self, d: int) -> tuple[F, F]:
        """Mean and sd of z at the first time, (d,). Raises `ShapeError`, `SettingsError`."""
        found = []
        for name, other in (("mean", 0.0), ("sd", 1.0)):
            values = self._numbers(name)
            values = np.full(d, other) if values is None else values
            if values.shape not in ((), (d,)):
                raise ShapeError(
                    f"{name} must have shape ({d},), one number per dimension, got {values.shape}."
                )
            found.append(np.broadcast_to(values, (d,)).copy())
        return found[0], found[1]

    def _numbers(self, name: str) -> F | None:
        """mean or sd as an array. Raises `SettingsError` unless finite, and for sd positive."""
        if (given := getattr(self, name)) is None:
            return None
        values = numbers(given, name, "one per latent dimension")
        if not np.isfinite(values).all() or (name == "sd" and not (values > 0).all()):
            raise SettingsError(f"{name} must be finite{' and positive' * (name == 'sd')}, got {given!r}.")
        return values


def check_field(name: str, field: nn.Module, d: int) -> None:
    """Try a user's drift or diffusion. Raises `SettingsError` if it fails or its values are not allowed,
    `ShapeError` for an output of wrong shape.
    """
    wanted = f"z (2, {d}) and t (2,) to (2, {d})"
    zeros = torch.zeros(2, d, dtype=torch.float64)
    out = tried(name, field, wanted, zeros, zeros[:, 0])
    if out.shape != (2, d):
        raise ShapeError(f"{name} must take {wanted}, got {tuple(out.shape)}.")
    if not bool(torch.isfinite(out).all()):
        raise SettingsError(f"{name} must be finite, got {out[0].tolist()} at zeros.")
    if name == "diffusion":
        if not bool((out > 0).all()):
            raise SettingsError(f"diffusion must be positive everywhere, got {out[0].tolist()} at zeros.")
        _check_diagonal(field, d)


def _check_diagonal(diffusion: nn.Module, d: int) -> None:
    """Raise `SettingsError` if diffusion_i depends on z_j, which neither bound nor Milstein steps allow."""
    unit = torch.eye(d, dtype=torch.float64)
    points = torch.linspace(-0.5, 0.5, d, dtype=torch.float64).repeat(d + 1, 1)
    points[1:] += 0.3 * unit
    with torch.no_grad():
        values = diffusion(points, torch.zeros(d + 1, dtype=torch.float64))
    changed = ((values[1:] - values[0]).abs() > 1e-9 * values[0].abs()) & (unit == 0)
    if bool(changed.any()):
        j, i = (int(k) for k in torch.argwhere(changed)[0])
        raise SettingsError(
            f"diffusion_i must depend on z_i and t alone, but component {i} changes with z_{j}."
        )
