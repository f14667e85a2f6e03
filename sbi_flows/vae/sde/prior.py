"""A prior SDE of the user's own, or parts of one: what it must be, and how it is tried before it is used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sbi_flows.arrays import F, numbers
from sbi_flows.errors import SettingsError, ShapeError


@dataclass(frozen=True, kw_only=True)
class PriorSDE:
    """A prior of one's own, in the units of time and of z: what is None is learned from nothing.

    drift, diffusion: modules (z (rows, d), t (rows,)) -> (rows, d), trained in place unless frozen.
    diffusion_i must be positive and depend on z_i and t alone. mean, sd: of z at the first time, (d,), the
    start of what is learned.
    """

    drift: nn.Module | None = None
    diffusion: nn.Module | None = None
    mean: ArrayLike | None = None
    sd: ArrayLike | None = None

    def __post_init__(self) -> None:
        for name in ("drift", "diffusion"):
            if not isinstance(getattr(self, name), nn.Module | None):
                raise SettingsError(
                    f"{name} must be a torch.nn.Module (z, t) -> (rows, d), got {getattr(self, name)!r}."
                )
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
                    f"{name} must have one number for each of {d} latent ones, got {values.shape}."
                )
            found.append(np.broadcast_to(values, (d,)).copy())
        return found[0], found[1]

    def _numbers(self, name: str) -> F | None:
        """mean or sd as an array. Raises `SettingsError` where they cannot be that."""
        given = getattr(self, name)
        values = None if given is None else numbers(given, name, "one for each latent number")
        if values is not None and (
            not np.isfinite(values).all() or (name == "sd" and not (values > 0).all())
        ):
            raise SettingsError(f"{name} must be finite{' and positive' * (name == 'sd')}, got {given!r}.")
        return values


def check_field(name: str, field: nn.Module, d: int) -> None:
    """Try a drift or a diffusion of the user's on two rows. Raises `SettingsError` where it fails,
    `ShapeError` for another shape.
    """
    wanted = f"z (2, {d}) and t (2,) to (2, {d})"
    try:
        with torch.no_grad():
            out = field(torch.zeros(2, d, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise SettingsError(
            f"{name} must take {wanted}; on two rows of zeros it failed ({type(error).__name__}: {error})."
        ) from error
    if not isinstance(out, Tensor) or tuple(out.shape) != (2, d):
        raise ShapeError(
            f"{name} must take {wanted}, got "
            f"{tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__}."
        )
    if not bool(torch.isfinite(out).all()):
        raise SettingsError(f"{name} must be finite, got {out[0].tolist()} at zeros.")
    if name == "diffusion":
        if not bool((out > 0).all()):
            raise SettingsError(f"diffusion must be positive everywhere, got {out[0].tolist()} at zeros.")
        _check_each_its_own(field, d)


def _check_each_its_own(diffusion: nn.Module, d: int) -> None:
    """Raise `SettingsError` where a component of the diffusion follows another one of z, which bound and
    Milstein steps cannot have.
    """
    here = torch.linspace(-0.5, 0.5, d, dtype=torch.float64).repeat(d + 1, 1)
    here[1:] += 0.3 * torch.eye(d, dtype=torch.float64)
    with torch.no_grad():
        moved = diffusion(here, torch.zeros(d + 1, dtype=torch.float64))
    others = (moved[1:] - moved[0]).abs() > 1e-9 * moved[0].abs()
    if bool((others & ~torch.eye(d, dtype=torch.bool)).any()):
        j, i = (int(k) for k in torch.argwhere(others & ~torch.eye(d, dtype=torch.bool))[0])
        raise SettingsError(
            f"diffusion_i must depend on z_i and t alone, but component {i} changes with z_{j}."
        )
