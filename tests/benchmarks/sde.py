"""What a latent SDE gets right where the truth is known.

    python -m tests.benchmarks.sde [orders] [frozen] [learned] [--seeds 1]

Each line gives a measurement, the bar that it is held to, and whether it passes. The process of `frozen` and
`learned` is dz = (0 - z) dt + 0.8 dW from its stationary distribution, observed with noise of sd 0.4 at the
11 times 0, 0.2, ..., 2; the solver's step is 0.02. Each takes two minutes of one core per seed.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp
from torch import Tensor

import sbi_flows as sf
from sbi_flows.rng import stream
from sbi_flows.vae.bounds import log_weights
from sbi_flows.vae.sde.bound import OnSteps, _Steered, solve

from ..vae.sde.ou import OU
from .sections import parser_of, report, run

F = NDArray[np.float64]

TRUTH, TIMES, DT = OU(), np.linspace(0, 2, 11), 0.02


def orders(options: argparse.Namespace) -> None:
    """Geometric Brownian motion dy = y / 2 dt + y dW: the slope of E |y_h(1) - y(1)| in the step h, over the
    same 10,000 Brownian paths.
    """
    finest = 1024
    fine = torch.from_numpy(stream(0, "Brownian motion").standard_normal((10_000, finest, 1))) / finest**0.5
    exact = torch.exp(fine.sum(dim=1))
    sizes = np.array([16, 32, 64, 128, 256])
    for method, order in (("euler", 0.5), ("milstein", 1.0)):
        errors = []
        for steps in sizes:
            h = 1 / float(steps)

            def equation(s: Tensor, y: Tensor, h: float = h) -> tuple[Tensor, Tensor]:
                return 0.5 * h * y, h**0.5 * y

            increments = fine.reshape(len(fine), steps, -1, 1).sum(dim=2) / h**0.5
            found = solve(equation, torch.ones_like(exact), increments, method=method, ends=[0, int(steps)])
            errors.append(float((found[-1].detach() - exact).abs().mean()))
        slope = float(np.polyfit(np.log(1 / sizes), np.log(errors), 1)[0])
        report(f"{method}: |strong order - {order}|", abs(slope - order), 0.15, note=f"slope {slope:.3f}")


def frozen(options: argparse.Namespace) -> None:
    """The model fixed at the truth, q learned: log p(x) minus its bounds, compared with the exact control on
    the same steps.
    """
    for seed in range(options.seeds):
        x, valid, test = (
            TRUTH.sample(TIMES, n, stream(seed, name))
            for n, name in ((12_800, "x"), (200, "valid"), (500, "test"))
        )
        exact = TRUTH.log_evidence(TIMES, test)
        oracle = float((exact - TRUTH.oracle_bound(TIMES, test, DT, 64, stream(seed, "oracle"))).mean())
        model = TRUTH.model(DT, seed)
        settings = sf.TrainSettings(batch_size=128, learning_rate=4e-3, weight_decay=0.01, patience=100)
        began = time.process_time()
        model.fit(TIMES, x, valid, epochs=6, frozen="model", train_settings=settings)
        note = f"exact control {oracle:.4f}, {time.process_time() - began:.0f} s for 600 steps"
        report(
            f"seed {seed}: gap of the bound",
            float((exact - model.elbo(TIMES, test, 32).bound).mean()),
            oracle + 0.08,
            note=note,
        )
        gap = exact - model.log_evidence(TIMES, test, 50).log_evidence
        report(
            f"seed {seed}: |gap| of 50 weighted paths",
            abs(float(gap.mean())),
            0.03,
            note=f"+- {gap.std() / len(gap) ** 0.5:.4f}",
        )
        given = model._series(TIMES, test)
        steps = OnSteps(model.module, model._on_steps(given.times).counts, weighted=True)
        with mock.patch.object(
            _Steered, "martingale", lambda self, z, increments: torch.zeros(len(increments))
        ):
            weights = log_weights(steps, model._packed(given), 50, stream(0, "weights of draws"))
        without = logsumexp(weights, axis=1) - np.log(50)
        print(
            f"seed {seed}: without the martingale the same estimate exceeds log p(x) by "
            f"{float((without - exact).mean()):.3f}",
            flush=True,
        )


def learned(options: argparse.Namespace) -> None:
    """theta, mu, sigma and the start of z from 256 series, by the bound and by the exact likelihood."""
    for seed in range(options.seeds):
        x = TRUTH.sample(TIMES, 256, stream(seed, "series to learn from"))

        def likelihood(numbers: F, x: F = x) -> float:
            theta, sigma, sd = np.exp(numbers[[0, 2, 4]])
            process = OU(
                float(theta), float(numbers[1]), float(sigma), TRUTH.tau, float(numbers[3]), float(sd)
            )
            return float(process.log_evidence(TIMES, x).mean())

        best = minimize(
            lambda numbers: -likelihood(numbers),
            np.array([0.0, 0.0, np.log(0.8), 0.0, np.log(0.566)]),
            method="Nelder-Mead",
        )
        model = replace(TRUTH, theta=0.5, mu=0.5, sigma=1.2, mean=0.5, sd=1.0).model(DT, seed)
        settings = sf.TrainSettings(batch_size=128, learning_rate=1e-2, weight_decay=0.01, patience=1000)
        began = time.process_time()
        model.fit(TIMES, x, x, epochs=options.epochs, train_settings=settings)
        paths = model.module
        parts = (
            paths.drift.net.log_theta,
            paths.drift.net.mu,
            paths.diffusion.net.log_sigma,
            paths.mean,
            paths.log_sd,
        )
        numbers = np.array([float(part.detach().squeeze()) for part in parts])
        note = (
            f"{time.process_time() - began:.0f} s for {2 * options.epochs} steps; at the truth "
            f"{TRUTH.log_evidence(TIMES, x).mean():.4f}"
        )
        report(
            f"seed {seed}: log p(x) per series below the maximum",
            -best.fun - likelihood(numbers),
            0.1,
            note=note,
        )
        found, exact = (float(np.exp(part[2] - 0.5 * part[0]) / 2**0.5) for part in (numbers, best.x))
        share = found / (TRUTH.sigma / (2 * TRUTH.theta) ** 0.5)
        report(
            f"seed {seed}: |stationary sd / truth - 1|",
            abs(share - 1),
            0.1,
            note=f"{found:.3f}, by the exact likelihood {exact:.3f}",
        )
        theta, sigma = np.exp(numbers[[0, 2]])
        print(
            f"seed {seed}: theta {theta:.3f} (exact {np.exp(best.x[0]):.3f}), sigma {sigma:.3f} (exact "
            f"{np.exp(best.x[2]):.3f})",
            flush=True,
        )


SECTIONS = (orders, frozen, learned)


if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=400, help="of learned")
    run(parser, SECTIONS, SECTIONS)
