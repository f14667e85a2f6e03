"""BayesFlow (Radev et al. 2023; tried with 2.0, on Keras with torch) on given Ricker simulations; `peer_sbi`
starts it.

TimeSeriesNetwork and CouplingFlow, batches of 32, defaults otherwise; parameters are mapped from their box to
R, counts to log(1 + y).
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.peer_sbi import CLOCKS


def ricker(arrays: dict[str, np.ndarray], options: dict[str, Any]) -> dict[str, Any]:
    """Seconds of training, and the held-out log density then, in nats on the original scale."""
    import bayesflow as bf
    import keras

    keras.utils.set_random_seed(options["seed"])
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
    workflow = bf.BasicWorkflow(
        adapter=adapter,
        inference_network=bf.networks.CouplingFlow(),
        summary_network=bf.networks.TimeSeriesNetwork(),
        standardize=["inference_variables", "summary_variables"],
    )
    clock = CLOCKS[options["clock"]]
    began = clock()
    workflow.fit_offline({"theta": arrays["theta"], "y": arrays["y"]}, epochs=options["epochs"], verbose=0)
    seconds = clock() - began
    density = workflow.log_prob({"theta": arrays["held_out_theta"], "y": arrays["held_out_y"]})
    return {"train_seconds": seconds, "epochs": options["epochs"], "log_density": float(np.mean(density))}


if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "torch"
    logging.disable(logging.INFO)
    place = Path(sys.argv[2])
    asked = json.loads((place / "options.json").read_text())
    with np.load(place / "in.npz") as given:
        said = {"ricker": ricker}[sys.argv[1]](dict(given), asked)
    np.savez(place / "out.npz")
    (place / "facts.json").write_text(json.dumps(said))
