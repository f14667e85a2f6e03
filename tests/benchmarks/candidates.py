"""What the defaults were chosen from: `python -m tests.benchmarks.candidates [--only TASK,...] [--budget
1000,...]`. Not run by pytest.

Each candidate differs from the default with one network in what its name says, and is trained on the same
simulations. Printed are its mean log density at 5,000 held-out pairs minus the default's (nats, higher is
better), the standard error of the paired difference, and its processor time divided by the default's. Each
fit is kept in --results; the same call resumes.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

import sbi_flows as sf
from sbi_flows.files import make_folder, write_bytes
from sbi_flows.flows import masked, networks
from sbi_flows.nets.choice import choose_summary
from sbi_flows.npe.settings import training_for
from sbi_flows.rng import stream
from tests.benchmarks.sections import parser_of

F = NDArray[np.float64]
Activation = Callable[[Tensor], Tensor]


def _dropped(h: Tensor, share: float) -> Tensor:
    """SiLU and, in training steps, dropout."""
    return functional.dropout(_SILU(h), share, training=torch.is_grad_enabled())


_SILU = functional.silu
RESULTS = Path("build/benchmarks/candidates")
TASKS = ["two_moons", "gaussian_mixture", "slcp", "sir", "bernoulli_glm"]
PAIRS = 5000
DEFAULT = "default"
CANDIDATES: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "small": {"size": "small"},
    "large": {"size": "large"},
    "width 64": {"width": 64},
    "3 layers": {"layers": 3},
    "16 features": {"summary_features": 16},
    "64 features": {"summary_features": 64},
    "maf": {"flow": "maf"},
    "coupling": {"flow": "coupling"},
    "spline_coupling": {"flow": "spline_coupling"},
    "matching": {"flow": "matching"},
    "decay x 3": {"weight_decay": 3.0},
    "decay / 3": {"weight_decay": 1 / 3},
    "decay / 10": {"weight_decay": 0.1},
    "half the epochs": {"epochs": 0.5},
    "twice the epochs": {"epochs": 2.0},
    "half the batch": {"batch_size": 0.5},
    "twice the batch": {"batch_size": 2.0},
    "half the rate": {"learning_rate": 0.5},
    "twice the rate": {"learning_rate": 2.0},
    "no averaging": {"averaging": 0.0},
    "elu": {"activation": functional.elu},
    "gelu": {"activation": functional.gelu},
    "relu": {"activation": functional.relu},
    "tanh": {"activation": torch.tanh},
    "dropout 0.05": {"activation": partial(_dropped, share=0.05)},
    "dropout 0.1": {"activation": partial(_dropped, share=0.1)},
}
_ACTIVATION = "activation"
_FACTORS = ("weight_decay", "epochs", "batch_size", "learning_rate", "averaging")


def settings_of(changes: dict[str, Any], n: int, kind: str) -> sf.FitSettings:
    """The settings of a candidate for n simulations; those of training multiply the default."""
    train = training_for(n, timed=False, kind=kind)
    for name in set(changes) & set(_FACTORS):
        value = changes[name] * getattr(train, name)
        train = replace(train, **{name: round(value) if isinstance(getattr(train, name), int) else value})
    return sf.FitSettings(
        members=1,
        train=train,
        **{name: value for name, value in changes.items() if name not in (*_FACTORS, _ACTIVATION)},
    )


@contextmanager
def _with_activation(function: Activation) -> Iterator[None]:
    """Another function in place of SiLU wherever densities are evaluated. Draws would keep SiLU."""
    with (
        patch.object(networks, "silu", function),
        patch.object(masked, "silu", function),
        patch.object(functional, "silu", function),
    ):
        yield


def density(task: str, n: int, name: str, seed: int, results: Path) -> tuple[F, float, int]:
    """log q at the held-out pairs, seconds of processor time, and epochs until the best."""
    path = results / f"{task}.{n}.{name.replace(' ', '_').replace('/', 'over')}.seed{seed}.npz"
    if not path.exists():
        simulator, simulate, fit = sf.load_simulator(task), sf.simulate, sf.fit
        simulations = simulate(simulator, n, seed=seed, workers=1)
        settings = settings_of(CANDIDATES[name], n, choose_summary(simulations.y[simulations.ok])[0])
        rng = stream(1, "held-out pairs")
        theta = simulator.prior.sample(PAIRS, rng)
        y = np.asarray(simulator.run(theta, rng), dtype=np.float64)
        kept = np.isfinite(y.reshape(len(y), -1)).all(axis=1)
        with _with_activation(CANDIDATES[name].get(_ACTIVATION, _SILU)):
            began = time.process_time()
            posterior = fit(simulator, simulations=simulations, seed=seed, settings=settings, say=None)
            seconds = time.process_time() - began
            log_q = posterior.log_prob(theta[kept], y[kept])
        buffer = io.BytesIO()
        np.savez(buffer, log_q=log_q, seconds=seconds, best=posterior.history.best_epoch + 1)
        write_bytes(path, buffer.getvalue())
    with np.load(path) as found:
        return found["log_q"], float(found["seconds"]), int(found["best"])


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=["two_moons", "gaussian_mixture", "slcp", "sir", "bernoulli_glm"],
    )
    parser.add_argument(
        "--budget", type=lambda text: [int(n) for n in text.split(",")], default=[1000, 10_000]
    )
    parser.add_argument("--candidates", type=lambda text: text.split(","), default=list(CANDIDATES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    unknown = set(options.candidates) - set(CANDIDATES)
    if unknown:
        parser.error(f"unknown: {sorted(unknown)}; candidates are {', '.join(CANDIDATES)}.")
    torch.set_num_threads(1)
    make_folder(options.results)
    print(
        "| task | simulations | candidate | nats above the default | time | best epoch "
        "|\n|---|---|---|---|---|---|"
    )
    for n in options.budget:
        for task in options.only:
            base, usual, _ = density(task, n, DEFAULT, options.seed, options.results)
            for name in options.candidates:
                found, seconds, best = density(task, n, name, options.seed, options.results)
                gain, error = (found - base).mean(), (found - base).std() / np.sqrt(len(base))
                nats = f"{base.mean():.3f} in all" if name == DEFAULT else f"{gain:+.3f} ± {error:.3f}"
                print(f"| {task} | {n:,} | {name} | {nats} | {seconds / usual:.2f} | {best} |", flush=True)


if __name__ == "__main__":
    main()
