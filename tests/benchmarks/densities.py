"""Densities whose entropy is known: a section of `tests.benchmarks.vae`."""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from sbi_flows import flows
from sbi_flows.rng import stream

from .sections import report

F = NDArray[np.float64]


def densities(options: argparse.Namespace) -> None:
    """5,000 training points: KL(exact, fitted) on 20,000 fresh ones, and the mass on a grid."""
    angles = 2 * np.pi * np.arange(8) / 8
    centres = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def sine(n: int, rng: np.random.Generator) -> F:
        first = 1.5 * rng.standard_normal(n)
        return np.stack([first, np.sin(2 * first) + 0.3 * rng.standard_normal(n)], axis=1)

    def log_sine(x: F) -> F:
        standard = np.stack([x[:, 0] / 1.5, (x[:, 1] - np.sin(2 * x[:, 0])) / 0.3])
        return np.asarray(-0.5 * np.square(standard).sum(axis=0) - np.log(2 * np.pi * 1.5 * 0.3))

    def eight(n: int, rng: np.random.Generator) -> F:
        return np.asarray(centres[rng.integers(0, 8, n)] + 0.2 * rng.standard_normal((n, 2)))

    def log_eight(x: F) -> F:
        squares = np.square((x[:, None] - centres) / 0.2).sum(axis=2)
        return np.asarray(logsumexp(-0.5 * squares, axis=1) - np.log(8 * 2 * np.pi * 0.2**2))

    for name, draw, log_p, bar in (
        ("sine", sine, log_sine, 0.05),
        ("eight Gaussians", eight, log_eight, 0.08),
    ):
        for kind in (
            ("maf", "coupling", "nsf", "spline_coupling") if name == "sine" else ("nsf", "spline_coupling")
        ):
            began = time.process_time()
            density = flows.fit_density(draw(5000, stream(0, name)), kind)
            x = draw(20_000, stream(1, name))
            axis = np.linspace(-9, 9, 901)
            grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
            mass = np.exp(density.log_prob(grid)).sum() * (axis[1] - axis[0]) ** 2
            note = f"mass {mass:.5f}, {time.process_time() - began:.0f} s"
            report(f"{name}, {kind}: KL", float((log_p(x) - density.log_prob(x)).mean()), bar, note=note)
