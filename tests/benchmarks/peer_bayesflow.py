"""BayesFlow (Radev et al. 2023; tried with 2.0, on Keras with torch) on Ricker simulations; `peer_sbi`
starts it.

TimeSeriesNetwork and CouplingFlow, batches of 32, defaults otherwise; parameters are mapped from their box to
R, counts to log(1 + y).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.peer_sbi import CLOCKS

_TRIAL, _FIRST, _EPOCHS, _SPARE = 20, 5, 10, 0.97


def _workflow(arrays: dict[str, np.ndarray], seed: int, simulator: Any = None) -> Any:
    import bayesflow as bf
    import keras

    keras.utils.set_random_seed(seed)
    adapter = (
        bf.Adapter()
        .to_array()
        .convert_dtype("float64", "float32")
        .constrain("theta", lower=arrays["lower"], upper=arrays["upper"])
        .log("y", p1=True)
        .as_time_series("y")
        .rename("theta", "inference_variables")
        .rename("y", "summary_variables")
    )
    return bf.BasicWorkflow(
        simulator=simulator,
        adapter=adapter,
        inference_network=bf.networks.CouplingFlow(),
        summary_network=bf.networks.TimeSeriesNetwork(),
        standardize=["inference_variables", "summary_variables"],
    )


def ricker(
    arrays: dict[str, np.ndarray], options: dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Seconds of training, and the held-out log density then, in nats on the original scale."""
    workflow = _workflow(arrays, options["seed"])
    clock = CLOCKS[options["clock"]]
    began = clock()
    workflow.fit_offline({"theta": arrays["theta"], "y": arrays["y"]}, epochs=options["epochs"], verbose=0)
    seconds = clock() - began
    density = workflow.log_prob({"theta": arrays["held_out_theta"], "y": arrays["held_out_y"]})
    return {}, {"train_seconds": seconds, "epochs": options["epochs"], "log_density": float(np.mean(density))}


def _simulator(lower: np.ndarray, upper: np.ndarray, seed: int, steps: int) -> Any:
    """The Ricker model of `simulators/ricker.py`, N_0 = 1, with theta from the box of the prior."""
    import bayesflow as bf

    rng = np.random.default_rng(seed)

    def sample(batch_shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        theta = rng.uniform(lower, upper, (*batch_shape, 3))
        log_r, sigma, rho = np.moveaxis(theta, -1, 0)
        log_n, y = np.zeros(batch_shape), np.empty((*batch_shape, steps))
        for t in range(steps):
            log_n = log_r + log_n - np.exp(log_n) + sigma * rng.standard_normal(batch_shape)
            y[..., t] = rng.poisson(rho * np.exp(log_n))
        return {"theta": theta, "y": y}

    return bf.simulators.LambdaSimulator(sample, is_batched=True)


def ricker_by_clock(
    arrays: dict[str, np.ndarray], options: dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Ricker in a budget of wall-clock seconds: online training, every batch simulated anew.

    The learning rate falls to zero at the end, which must be known before: a trial of 20 batches, which is
    not counted, gives the time of a batch, and 97% of the budget the number of batches. Where they take
    longer all the same, training stops at the budget.
    """
    import keras

    steps, batch, seed = arrays["y"].shape[1], options["batch"], options["seed"]
    trial = _workflow(arrays, seed, _simulator(arrays["lower"], arrays["upper"], seed + 1, steps))
    trial.fit_online(epochs=1, num_batches_per_epoch=_FIRST, batch_size=batch, verbose=0)
    began = time.perf_counter()
    trial.fit_online(epochs=1, num_batches_per_epoch=_TRIAL, batch_size=batch, verbose=0)
    each = (time.perf_counter() - began) / _TRIAL
    of_epoch = max(1, round(_SPARE * options["seconds"] / each / _EPOCHS))
    began = time.perf_counter()

    class Stop(keras.callbacks.Callback):
        batches = 0

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            Stop.batches += 1
            if time.perf_counter() - began > options["seconds"]:
                self.model.stop_training = True

    workflow = _workflow(arrays, seed, _simulator(arrays["lower"], arrays["upper"], seed, steps))
    workflow.fit_online(
        epochs=_EPOCHS, num_batches_per_epoch=of_epoch, batch_size=batch, verbose=0, callbacks=[Stop()]
    )
    took = time.perf_counter() - began
    series = arrays["y"][arrays["of"]]
    density = np.concatenate(
        [
            np.asarray(workflow.log_prob({"theta": arrays["theta"][i : i + 1000], "y": series[i : i + 1000]}))
            for i in range(0, len(series), 1000)
        ]
    )
    draws = workflow.sample(num_samples=options["draws"], conditions={"y": arrays["observed"]})["theta"]
    facts = {
        "seconds": took,
        "simulations": Stop.batches * batch,
        "batches": [Stop.batches, _EPOCHS * of_epoch],
    }
    return {"log_density": density, "draws": np.asarray(draws)}, facts


JOBS = {"ricker": ricker, "ricker_by_clock": ricker_by_clock}


if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "torch"
    logging.disable(logging.INFO)
    place = Path(sys.argv[2])
    asked = json.loads((place / "options.json").read_text())
    with np.load(place / "in.npz") as given:
        result, said = JOBS[sys.argv[1]](dict(given), asked)
    np.savez(place / "out.npz", **result)
    (place / "facts.json").write_text(json.dumps(said))
