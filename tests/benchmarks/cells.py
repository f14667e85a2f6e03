"""One cell of the accuracy benchmark: (task, budget, method, seed), kept as one JSON file, resumable.

Stages: fit and draw (all draws go into `<cell>.draws.npz`), then one C2ST per observation, each written at
once. A cell is finished when all of its observations have a score; its draws are then removed. Files are
replaced whole or not at all.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import sbi_flows as sf
from sbi_flows.diagnostics.distances import c2st
from sbi_flows.files import make_folder, write_bytes
from sbi_flows.rng import stream
from tests.benchmarks import peer_sbi
from tests.benchmarks.references import DRAWS, reference

F = NDArray[np.float64]

OURS, PEER = "sbi_flows", "sbi"
OBSERVATIONS, QUICK_OBSERVATIONS = tuple(str(i) for i in range(1, 11)), ("1", "2", "3")
QUICK_DRAWS = 2000
HELD_OUT, QUICK_HELD_OUT = 5000, 1000
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Cell:
    """method: "sbi_flows", "sbi", or "sbi_flows <label>" for ours with other settings."""

    task: str
    budget: int
    method: str = OURS
    seed: int = 1
    quick: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        method = re.sub(r"[^A-Za-z0-9_.=-]+", "_", self.method)
        return f"{self.task}.{self.budget}.{method}.seed{self.seed}{'.quick' if self.quick else ''}"

    @property
    def observations(self) -> tuple[str, ...]:
        return QUICK_OBSERVATIONS if self.quick else OBSERVATIONS

    @property
    def draws(self) -> int:
        return QUICK_DRAWS if self.quick else DRAWS


@dataclass(frozen=True)
class Fitted:
    """What a method gives: draws (m, n, d) for m observations, seconds of each step, log density of the
    held-out pairs in nats, and other facts.
    """

    draws: F
    seconds: dict[str, float]
    log_density: F
    facts: dict[str, Any]


Fit = Callable[[Cell, sf.Simulator, sf.Simulations, tuple[F, F]], Fitted]


def read(folder: Path, cell: Cell) -> dict[str, Any]:
    """The record of a cell, empty where there is none. Raises `ValueError` where its settings differ."""
    path = folder / f"{cell.name}.json"
    record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if record and record["settings"] != dict(cell.settings):
        raise ValueError(
            f"{path} was made with the settings {record['settings']}, not {dict(cell.settings)}: choose "
            f"another --label."
        )
    return record


def finished(record: Mapping[str, Any]) -> bool:
    """Whether every observation of a record has its score."""
    return bool(record) and set(record["c2st"]) == set(record["observations"])


def run(
    cell: Cell,
    folder: Path,
    fit: Fit,
    published: Path | None,
    until: float = float("inf"),
    processes: int = 1,
) -> dict[str, Any]:
    """Run a cell until the time `until` (of `time.monotonic`), but at least one stage of it. Observations are
    scored in `processes` processes with one thread each, or here if that is 1.
    """
    make_folder(folder)
    record, draws_path = read(folder, cell), folder / f"{cell.name}.draws.npz"
    if finished(record):
        return record
    if not record or not draws_path.exists():
        record = _fit_and_draw(cell, fit, draws_path)
        _write(folder, cell, record)
        if time.monotonic() > until:
            return record
    with np.load(draws_path) as arrays:
        draws = arrays["draws"].astype(np.float64)
    waiting = {
        number: draws[row] for row, number in enumerate(cell.observations) if number not in record["c2st"]
    }
    for number, value, facts, seconds in _scores(cell.task, waiting, published, processes):
        record["c2st"][number], record["reference"][number] = value, facts
        record["seconds"]["score"] += seconds
        _write(folder, cell, record)
        if time.monotonic() > until:
            break
    if finished(record):
        draws_path.unlink()
    return record


Score = tuple[str, float, dict[str, Any], float]


def _scores(
    task: str, waiting: Mapping[str, F], published: Path | None, processes: int
) -> Generator[Score, None, None]:
    """Each score as soon as it is known; where nobody asks for the next one, none is begun."""
    jobs = [(task, number, draws, published) for number, draws in waiting.items()]
    if processes == 1:
        yield from (_score(*job) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process that has run torch may hang
    with ProcessPoolExecutor(processes, context, torch.set_num_threads, (1,)) as pool:
        futures = [pool.submit(_score, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _score(task: str, number: str, draws: F, published: Path | None) -> Score:
    """The number of the observation, its C2ST, facts on the reference draws, and seconds."""
    exact = reference(task, number, published=published)
    n, began = min(len(draws), len(exact.draws)), time.monotonic()
    value = c2st(exact.draws[:n], draws[:n])
    facts = {"origin": exact.origin, "n": n, "ess": round(exact.ess)}
    return number, value, facts, time.monotonic() - began


def _fit_and_draw(cell: Cell, fit: Fit, draws_path: Path) -> dict[str, Any]:
    simulator, load = sf.load_simulator(cell.task), os.getloadavg()[0]
    simulate, began = sf.simulate, time.monotonic()  # importing the package is not counted
    simulations = simulate(simulator, cell.budget, seed=cell.seed, workers=1)
    simulated = time.monotonic() - began
    rng = stream(cell.seed, "held-out pairs")
    theta = simulator.prior.sample(QUICK_HELD_OUT if cell.quick else HELD_OUT, rng)
    y = np.asarray(simulator.run(theta, rng), dtype=np.float64)
    kept = np.isfinite(y.reshape(len(y), -1)).all(axis=1)
    fitted = fit(cell, simulator, simulations, (theta[kept], y[kept]))
    wanted = (len(cell.observations), cell.draws, simulator.prior.d)
    if fitted.draws.shape != wanted:
        raise ValueError(f"{cell.method} gave draws of shape {fitted.draws.shape}; wanted {wanted}.")
    buffer = io.BytesIO()
    np.savez(buffer, draws=fitted.draws.astype(np.float32))
    write_bytes(draws_path, buffer.getvalue())
    spread = float(fitted.log_density.std() / np.sqrt(len(fitted.log_density)))
    return {
        "task": cell.task,
        "budget": cell.budget,
        "method": cell.method,
        "seed": cell.seed,
        "quick": cell.quick,
        "settings": dict(cell.settings),
        "observations": list(cell.observations),
        "draws": cell.draws,
        "c2st": {},
        "reference": {},
        "held_out": {
            "mean": float(fitted.log_density.mean()),
            "error": spread,
            "pairs": len(fitted.log_density),
        },
        "seconds": {"simulate": simulated, **fitted.seconds, "score": 0.0},
        "facts": fitted.facts,
        "versions": {name: version(name) for name in ("sbi_flows", "torch", "numpy", "scikit-learn")},
        "commit": _commit(),
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "load": [load, os.getloadavg()[0]],
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def fit_ours(
    cell: Cell, simulator: sf.Simulator, simulations: sf.Simulations, held_out: tuple[F, F]
) -> Fitted:
    """`sf.fit` with default settings, or those of the cell."""
    settings = dict(cell.settings)
    if isinstance(settings.get("train"), Mapping):
        settings["train"] = sf.TrainSettings(**settings["train"])
    fit, began = sf.fit, time.monotonic()
    posterior = fit(
        simulator, simulations=simulations, seed=cell.seed, settings=sf.FitSettings(**settings), say=None
    )
    trained = time.monotonic()
    stack = np.stack([simulator.data(number) for number in cell.observations])
    draws = posterior.sample(stack, cell.draws, seed=cell.seed)
    sampled = time.monotonic()
    return Fitted(
        np.asarray(draws.values).reshape(len(stack), cell.draws, -1),
        {"fit": trained - began, "sample": sampled - trained},
        posterior.log_prob(*held_out),
        {
            "epochs": len(posterior.history.valid_loss),
            "stopped": posterior.history.stopped,
            "used": posterior.settings.to_json(),
            "notes": list(posterior.notes),
            "verdicts": [verdict.level for verdict in posterior.verdicts(stack)],
        },
    )


def fit_sbi(python: str, folder: Path) -> Fit:
    """NPE of sbi, run by `python`, on the same simulations; its held-out density is that of the flow, before
    draws outside the prior are rejected.
    """

    def fit(
        cell: Cell, simulator: sf.Simulator, simulations: sf.Simulations, held_out: tuple[F, F]
    ) -> Fitted:
        theta, y = simulations.theta[simulations.ok], simulations.y[simulations.ok]
        stack = np.stack([simulator.data(number) for number in cell.observations])
        arrays = {
            **{
                "theta": theta,
                "y": y,
                "held_out_theta": held_out[0],
                "held_out_y": held_out[1],
                "observed": stack,
            },
            **{"lower": simulator.prior.lower, "upper": simulator.prior.upper},
        }
        options = {"draws": cell.draws, "seed": cell.seed}
        found, facts = peer_sbi.call(python, folder / f".{cell.name}.{os.getpid()}", "cell", arrays, options)
        return Fitted(found["draws"], facts.pop("seconds"), found["log_density"], facts)

    return fit


def _write(folder: Path, cell: Cell, record: Mapping[str, Any]) -> None:
    write_bytes(folder / f"{cell.name}.json", (json.dumps(record, indent=1) + "\n").encode())


def _commit() -> str:
    """The commit of this checkout, with a + where files differ from it; empty outside git."""
    found = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    changed = subprocess.run(
        ["git", "-C", str(ROOT), "diff", "--quiet", "HEAD"], capture_output=True, check=False
    )
    return found.stdout.strip() + ("+" if found.returncode == 0 and changed.returncode else "")
