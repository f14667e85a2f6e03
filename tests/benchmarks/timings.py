"""What `tests.benchmarks.speed` times on our side: a fit of Ricker, draws, a training step, the import."""

from __future__ import annotations

import dataclasses
import os
import resource
import statistics
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sbi_flows as sf
from simulators.gaussian_linear import gaussian_linear
from simulators.ricker import ricker
from tests.benchmarks import peer_sbi

F = NDArray[np.float64]

FRACTIONS = (1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
BATCH = 200


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is simulated, trained and drawn.

    one, series, each: `one` draws for one series, `each` draws for each of `series`.
    clock: a key of `peer_sbi.CLOCKS`.
    """

    simulations: int = 10_000
    held_out: int = 5000
    epochs: int | None = None
    one: int = 10_000
    series: int = 1000
    each: int = 1000
    step_rows: int = 20_000
    step_epochs: int = 5
    imports: int = 5
    step_rounds: int = 3
    clock: str = "wall"

    def now(self) -> float:
        return peer_sbi.CLOCKS[self.clock]()

    def seconds(self, what: Callable[[], object]) -> float:
        began = self.now()
        what()
        return self.now() - began


QUICK = Sizes(
    simulations=2000,
    held_out=1000,
    epochs=3,
    one=2000,
    series=50,
    each=100,
    step_rows=4000,
    step_epochs=3,
    imports=1,
    step_rounds=1,
)


def pairs(simulator: sf.Simulator, n: int, seed: int) -> tuple[F, F]:
    rng = np.random.default_rng(seed)
    theta = simulator.prior.sample(n, rng)
    return theta, np.asarray(simulator.run(theta, rng), dtype=np.float64)


def ricker_pairs(sizes: Sizes) -> tuple[sf.Simulations, tuple[F, F]]:
    """What both packages learn from, and the held-out pairs."""
    return sf.simulate(ricker, sizes.simulations, seed=1, workers=1), pairs(ricker, sizes.held_out, 77)


def fit_ricker(
    simulations: sf.Simulations, train: sf.TrainSettings | None, sizes: Sizes
) -> tuple[sf.Posterior, float]:
    settings = sf.FitSettings(members=1, train=train)
    fit, began = sf.fit, sizes.now()
    posterior = fit(ricker, simulations=simulations, seed=1, settings=settings, say=None)
    return posterior, sizes.now() - began


def warm_up() -> None:
    """One short fit, so that what is loaded when it is first used is not counted."""
    settings = sf.FitSettings(members=1, train=sf.TrainSettings(epochs=1))
    sf.fit(ricker, n_simulations=500, seed=1, settings=settings, say=None)


def our_ricker(sizes: Sizes) -> dict[str, Any]:
    """One network, as in sbi; the default at this size is an ensemble."""
    simulations, held_out = ricker_pairs(sizes)
    warm_up()
    limit = None if sizes.epochs is None else sf.TrainSettings(epochs=sizes.epochs)
    posterior, took = fit_ricker(simulations, limit, sizes)
    stack = pairs(ricker, sizes.series, 5)[1]
    one = sizes.seconds(lambda: posterior.sample(stack[0], sizes.one, seed=1))
    many = sizes.seconds(lambda: posterior.sample(stack, sizes.each, seed=1))
    return {
        "train_seconds": took,
        "epochs": len(posterior.history.valid_loss),
        "log_density": float(posterior.log_prob(*held_out).mean()),
        "one": sizes.one / one,
        "many": sizes.each * sizes.series / many,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "train": dataclasses.asdict(posterior.settings.train) if posterior.settings.train else None,
    }


def time_to(wanted: float, sizes: Sizes, full: dict[str, Any]) -> str:
    """The shortest complete fit that is as dense as `wanted`."""
    simulations, held_out = ricker_pairs(sizes)
    warm_up()
    tried = []
    for fraction in FRACTIONS:
        epochs = max(1, round(fraction * full["train"]["epochs"]))
        train = sf.TrainSettings(**{**full["train"], "epochs": epochs})
        posterior, took = fit_ricker(simulations, train, sizes)
        density = float(posterior.log_prob(*held_out).mean())
        tried.append(f"{train.epochs} epochs {took:.0f} s {density:.2f}")
        if density >= wanted:
            return f"{took:.1f} s ({'; '.join(tried)})"
    if full["log_density"] >= wanted:
        return f"{full['train_seconds']:.1f} s, the whole fit ({'; '.join(tried)})"
    return f"not reached by the whole fit: {full['log_density']:.2f} ({'; '.join(tried)})"


def our_step(flow: str, layers: int, sizes: Sizes) -> float:
    """Milliseconds per training step, validation included: a long run without its first epoch."""
    simulations = sf.simulate(gaussian_linear, sizes.step_rows, seed=1, workers=1)
    train = sf.TrainSettings(epochs=1 + sizes.step_epochs, batch_size=BATCH, patience=1000)
    settings = sf.FitSettings(flow=flow, layers=layers, width=50, members=1, train=train)  # type: ignore[arg-type]
    seen: list[tuple[int, int, float]] = []

    def progress(done: int, total: int, text: str) -> None:
        seen.append((done, total, sizes.now()))

    sf.fit(gaussian_linear, simulations=simulations, seed=1, settings=settings, say=None, progress=progress)
    first, began = next((done, at) for done, total, at in seen if done * train.epochs >= total)
    last, _, ended = seen[-1]
    return 1000 * (ended - began) / (last - first)


def import_seconds(python: str, statement: str, sizes: Sizes) -> float:
    """Median over fresh processes; the first one, which fills the disk cache, is not counted."""
    clock = peer_sbi.CLOCKS[sizes.clock].__name__
    code = f"from time import {clock}; began = {clock}(); {statement}; print({clock}() - began)"
    environment = {**os.environ, "PYTHONPATH": str(peer_sbi.ROOT), "PYTHONWARNINGS": "ignore"}
    took = []
    for _ in range(sizes.imports + 1):
        options = {"env": environment, "capture_output": True, "text": True, "check": True}
        took.append(float(subprocess.run([python, "-c", code], **options).stdout.split()[-1]))
    return statistics.median(took[1:])
