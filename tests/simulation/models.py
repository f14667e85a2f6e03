"""The simulator that tests of the engine share, whole or with trouble."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.stats import uniform

import sbi_flows as sf

F = np.ndarray
PRIOR = sf.Prior(a=uniform(0, 1), b=torch.distributions.Normal(0.0, 1.0))


def simulate(simulator: Any, n: Any, **options: Any) -> sf.Simulations:
    """sf.simulate, in blocks of 20 where the simulator runs one draw at a time."""
    if isinstance(simulator, sf.Simulator) and not simulator.vectorized:
        options.setdefault("settings", sf.SimulateSettings(block_size=20))
    return sf.simulate(simulator, n, **options)


def make(
    kind: str, trouble: Callable[[Any, F], F] = lambda theta, y: y, dtype: type = np.float64, **options: Any
) -> sf.Simulator:
    """y_j = a + b e_j, 3 numbers, vectorised or one draw at a time; `trouble` gets the last word on them."""

    @sf.simulator(PRIOR, vectorized=kind == "vectorised", **options)
    def model(theta: dict[str, Any], rng: np.random.Generator) -> F:
        a, b = np.asarray(theta["a"]), np.asarray(theta["b"])
        return trouble(
            theta, (a[..., None] + b[..., None] * rng.standard_normal((*a.shape, 3))).astype(dtype)
        )

    return model


def same(one: sf.Simulations, other: sf.Simulations, rows: int | None = None) -> bool:
    pairs = [(getattr(one, name)[:rows], getattr(other, name)[:rows]) for name in ("theta", "y", "codes")]
    return all(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)
