"""Paths between two points of latent space.

    linear       z(t) = (1 - t) a + t b
    spherical    z(t) = [sin((1 - t) w) a + sin(t w) b] / sin w,   cos w = a . b / (|a| |b|)     Shoemake
    (1985)

The spherical path keeps to the shell of radius about sqrt(d) where the prior has its mass.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sbi_flows.arrays import F, integer, numbers
from sbi_flows.errors import SettingsError, ShapeError

_PARALLEL = 1e-6


def path_between(a: ArrayLike, b: ArrayLike, steps: int, path: str = "linear") -> F:
    """Points on the "linear" or "spherical" path from a to b (latent,), both included, (steps, latent)."""
    start, end = (
        numbers(point, "a path", "from one point of shape (latent,) to another") for point in (a, b)
    )
    if start.ndim != 1 or start.shape != end.shape:
        raise ShapeError(
            f"a path leads from one point of shape (latent,) to another, got {start.shape} and {end.shape}."
        )
    if path not in ("linear", "spherical"):
        raise SettingsError(f"path must be 'linear' or 'spherical', got {path!r}.")
    t = np.linspace(0, 1, integer("steps", steps, 2))[:, None]
    lengths = np.linalg.norm(start) * np.linalg.norm(end)
    angle = np.arccos(np.clip(start @ end / lengths, -1, 1)) if path == "spherical" and lengths > 0 else 0.0
    if not _PARALLEL < angle < np.pi - _PARALLEL:
        return np.asarray((1 - t) * start + t * end)
    return np.asarray((np.sin((1 - t) * angle) * start + np.sin(t * angle) * end) / np.sin(angle))
