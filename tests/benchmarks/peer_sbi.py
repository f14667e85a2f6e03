"""sbi (Tejero-Cantero et al. 2020; tried with 0.27) on given simulations, in a process and environment of its
own.

`call` writes the arrays to an npz file, starts `PYTHON -m tests.benchmarks.PEER JOB FOLDER` and reads what it
wrote. The process needs sbi and NumPy, nothing of sbi_flows. NPE with a neural spline flow, 50 hidden
features, sbi's defaults otherwise; sbi rejects draws outside the prior.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
_DRAWS_AT_ONCE = 10_000
_MOST_SECONDS = 900.0
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def call(
    python: str,
    folder: Path,
    job: str,
    arrays: Mapping[str, np.ndarray],
    options: Mapping[str, Any],
    peer: str = "peer_sbi",
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and facts from one job. Raises `RuntimeError` with the end of the process's stderr."""
    folder = folder.resolve()
    folder.mkdir(parents=True)
    try:
        np.savez(folder / "in.npz", **arrays)
        (folder / "options.json").write_text(json.dumps(dict(options)))
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [python, "-m", f"tests.benchmarks.{peer}", job, str(folder)]
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, check=False
        )  # sbi writes logs
        if done.returncode:
            raise RuntimeError(f"{peer} failed: {done.stderr[-3000:]}")
        with np.load(folder / "out.npz") as found:
            return dict(found), json.loads((folder / "facts.json").read_text())
    finally:
        shutil.rmtree(folder)


def _prior(arrays: Mapping[str, np.ndarray]) -> Any:
    """A prior with the correct support; its density (exact for boxes) has no effect in one round of NPE."""
    import torch
    from sbi.utils import BoxUniform

    lower, upper = arrays["lower"], arrays["upper"]
    if np.isfinite(lower).all() and np.isfinite(upper).all():
        return BoxUniform(torch.tensor(lower).float(), torch.tensor(upper).float())
    if (lower == 0).all() and np.isposinf(upper).all():
        logs = torch.tensor(np.log(arrays["theta"])).float()
        return torch.distributions.Independent(torch.distributions.LogNormal(logs.mean(0), logs.std(0)), 1)
    if np.isneginf(lower).all() and np.isposinf(upper).all():
        theta = torch.tensor(arrays["theta"]).float()
        return torch.distributions.MultivariateNormal(theta.mean(0), torch.cov(theta.T))
    raise ValueError("the prior must be a box, positive in every column, or unbounded in every column.")


def train(
    arrays: Mapping[str, np.ndarray],
    embedding: Any = None,
    clock: Callable[[], float] = time.perf_counter,
    **settings: Any,
) -> tuple[Any, Any, float]:
    """NPE and its density estimator, trained, and the seconds of training."""
    import torch
    from sbi.inference import NPE
    from sbi.neural_nets import posterior_nn

    extra = {} if embedding is None else {"embedding_net": embedding}
    flow = {key: settings.pop(key) for key in ("num_transforms", "num_bins") if key in settings}
    inference = NPE(
        _prior(arrays),
        density_estimator=posterior_nn("nsf", hidden_features=50, **flow, **extra),
        show_progress_bars=False,
    )
    inference.append_simulations(torch.tensor(arrays["theta"]).float(), torch.tensor(arrays["y"]).float())
    began = clock()
    estimator = inference.train(**settings)
    return inference, estimator, clock() - began


def log_density(estimator: Any, theta: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log q(theta_i | y_i) of the flow, (n,)."""
    import torch

    parts = []
    with torch.no_grad():
        for start in range(0, len(theta), 1000):
            rows = slice(start, start + 1000)
            rows_theta, rows_y = torch.tensor(theta[rows]).float(), torch.tensor(y[rows]).float()
            parts.append(estimator.log_prob(rows_theta[None], condition=rows_y)[0].numpy())
    return np.concatenate(parts).astype(np.float64)


def share_inside(estimator: Any, arrays: Mapping[str, np.ndarray], y: np.ndarray, n: int = 500) -> np.ndarray:
    """The flow's mass inside a box prior at each y, (m,), from n draws."""
    import torch

    with torch.no_grad():
        draws = estimator.sample((n,), condition=torch.tensor(y).float()).numpy()
    inside = ((draws >= arrays["lower"]) & (draws <= arrays["upper"])).all(axis=-1)
    return np.asarray((inside.sum(axis=0) + 1) / (n + 1))


def cell(
    arrays: dict[str, np.ndarray], options: dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """One cell of the accuracy benchmark."""
    import torch

    inference, estimator, seconds = train(arrays)
    posterior, began, draws = inference.build_posterior(estimator), time.perf_counter(), []
    for y in arrays["observed"]:
        found = posterior.sample(
            (options["draws"],),
            x=torch.tensor(y).float(),
            show_progress_bars=False,
            max_sampling_time=_MOST_SECONDS,
            max_sampling_batch_size=_DRAWS_AT_ONCE,
        )  # fmt: skip
        draws.append(found.numpy())
    sampled = time.perf_counter() - began
    found = {
        "draws": np.stack(draws),
        "log_density": log_density(estimator, arrays["held_out_theta"], arrays["held_out_y"]),
    }
    inside = share_inside(estimator, arrays, arrays["held_out_y"][:200])
    facts = {
        "seconds": {"fit": seconds, "sample": sampled},
        "epochs": inference.summary["epochs_trained"][-1],
        "held_out_note": "density of the flow, before draws outside the prior are rejected",
        "inside": float(inside.mean()),
    }
    return found, facts


def ricker(
    arrays: dict[str, np.ndarray], options: dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Speed on Ricker, with a convolutional embedding of log1p counts: training, density, draws, memory."""
    import torch
    from sbi.neural_nets.embedding_nets import CNNEmbedding

    arrays, clock = {**arrays, "y": np.log1p(arrays["y"])}, CLOCKS[options.get("clock", "wall")]
    limit = {"max_num_epochs": options["epochs"]} if options.get("epochs") else {}
    few = {**arrays, "theta": arrays["theta"][:500], "y": arrays["y"][:500]}
    # What is loaded at its first use is not counted.
    train(few, CNNEmbedding(arrays["y"].shape[1:]), max_num_epochs=1)
    inference, estimator, seconds = train(arrays, CNNEmbedding(arrays["y"].shape[1:]), clock, **limit)
    y = np.log1p(arrays["held_out_y"])
    raw = log_density(estimator, arrays["held_out_theta"], y)
    inside = share_inside(estimator, arrays, y[: options["leak_rows"]])
    posterior = inference.build_posterior(estimator)
    stack = torch.tensor(np.log1p(arrays["observed"])).float()
    began = clock()
    posterior.sample((options["one"],), x=stack[0], show_progress_bars=False)
    one = clock() - began
    began = clock()
    posterior.sample_batched((options["each"],), x=stack, show_progress_bars=False)
    many = clock() - began
    facts = {
        "train_seconds": seconds,
        "epochs": inference.summary["epochs_trained"][-1],
        "log_density_raw": float(raw.mean()),
        "log_density": float(raw.mean() - np.log(inside).mean()),
        "inside": float(inside.mean()),
        "one": options["one"] / one,
        "many": options["each"] * len(stack) / many,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    return {}, facts


def ricker_by_clock(
    arrays: dict[str, np.ndarray], options: dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Ricker in a budget of wall-clock seconds: NPE with an embedding for series of log(1 + counts), on given
    simulations, until the next epoch would exceed the budget or sbi stops. The epoch of the lowest validation
    loss is kept.

    y (m, T) are series, `of` says to which of them each row of theta belongs; the density is of the flow
    restricted to the prior's box, as its draws are.
    """
    import torch
    from sbi.inference import NPE
    from sbi.neural_nets import posterior_nn
    from sbi.neural_nets.embedding_nets import CausalCNNEmbedding, CNNEmbedding

    def embedding() -> Any:
        length = arrays["train_y"].shape[1:]
        if options["embedding"] == "causal_cnn":
            return CausalCNNEmbedding(length, pool_kernel_size=10)  # the default, 160, is for longer series
        return CNNEmbedding(length)

    def prepared(n: int) -> Any:
        network = posterior_nn("nsf", hidden_features=50, embedding_net=embedding())
        inference = NPE(_prior(arrays), density_estimator=network, show_progress_bars=False)
        series = torch.tensor(np.log1p(arrays["train_y"][:n])).float()
        return inference.append_simulations(torch.tensor(arrays["train_theta"][:n]).float(), series)

    prepared(500).train(max_num_epochs=1)  # what is loaded at its first use is not counted
    began = time.perf_counter()
    inference = prepared(len(arrays["train_theta"]))
    usual, until = inference._converged, began + options["seconds"]
    ends: list[float] = [time.perf_counter()]

    def converged(epoch: int, patience: int) -> bool:
        over = usual(epoch, patience)
        ends.append(time.perf_counter())
        if not over and epoch and 2 * ends[-1] - ends[-2] > until:
            inference._neural_net.load_state_dict(inference._best_model_state_dict)
            return True
        return bool(over)

    inference._converged = converged  # sbi has no limit of time
    estimator = inference.train()
    took = time.perf_counter() - began
    stack = np.log1p(arrays["y"])
    inside = np.concatenate(
        [share_inside(estimator, arrays, stack[i : i + 500]) for i in range(0, len(stack), 500)]
    )
    density = log_density(estimator, arrays["theta"], stack[arrays["of"]]) - np.log(inside)[arrays["of"]]
    posterior = inference.build_posterior(estimator)
    draws = [
        posterior.sample((options["draws"],), x=torch.tensor(y).float(), show_progress_bars=False).numpy()
        for y in np.log1p(arrays["observed"])
    ]
    facts = {
        "seconds": took,
        "epochs": inference.summary["epochs_trained"][-1],
        "inside": float(inside.mean()),
    }
    return {"log_density": density, "draws": np.stack(draws)}, facts


def step(
    arrays: dict[str, np.ndarray], options: dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Milliseconds per training step, validation included: a long run minus a short one."""
    sizes = {
        "num_transforms": options["steps"],
        "num_bins": options["bins"],
        "training_batch_size": options["batch"],
    }
    clock = CLOCKS[options.get("clock", "wall")]
    settings = {**sizes, "stop_after_epochs": 1000}
    took = [
        train(arrays, None, clock, **settings, max_num_epochs=epochs)[2]
        for epochs in (1, 1, 1 + options["epochs"])
    ]
    rows = int(0.9 * len(arrays["theta"]))
    return {}, {"ms": 1000 * (took[2] - took[1]) / (options["epochs"] * (rows // options["batch"]))}


JOBS = {"cell": cell, "ricker": ricker, "ricker_by_clock": ricker_by_clock, "step": step}


if __name__ == "__main__":
    import logging
    import warnings

    import sbi
    import torch

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    place = Path(sys.argv[2])
    asked = json.loads((place / "options.json").read_text())
    torch.manual_seed(asked["seed"])
    with np.load(place / "in.npz") as given:
        result, said = JOBS[sys.argv[1]](dict(given), asked)
    np.savez(place / "out.npz", **result)
    said["peer"] = {"sbi": sbi.__version__, "torch": torch.__version__, "threads": torch.get_num_threads()}
    (place / "facts.json").write_text(json.dumps(said))
