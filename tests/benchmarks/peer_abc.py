"""Rejection by sbi (tried with 0.27) and pyABC (tried with 0.13) on given simulations, in a process and
environment of their own (see `peer_sbi.call`).

Both simulate as they go. Here the simulator gives back rows of the bank, already in units of their spread,
so that what is timed is distances and acceptance. sbi gets all rows in one batch; pyABC, on one core, calls
the model once for each row, and stops at the first population, at a tolerance that is passed.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def sbi(arrays: dict[str, np.ndarray], options: dict[str, Any]) -> dict[str, Any]:
    """`MCABC` with the L2 distance and a quantile."""
    import torch
    from sbi.inference import MCABC

    torch.set_num_threads(1)
    theta, y = (torch.tensor(arrays[name]).float() for name in ("theta", "y"))

    class Bank(torch.distributions.MultivariateNormal):
        def sample(self, sample_shape: Any = ()) -> Any:
            n = int(torch.Size(sample_shape).numel())
            return theta[:n].reshape(*sample_shape, theta.shape[1])

    d = theta.shape[1]
    prior = Bank(torch.zeros(d), torch.eye(d))
    inference = MCABC(
        lambda given: y[: len(given)], prior, simulation_batch_size=len(y), show_progress_bars=False
    )
    seconds = []
    for _ in range(options["repeats"]):
        began = time.process_time()
        found = inference(torch.tensor(arrays["observed"]).float(), len(y), quantile=options["quantile"])
        seconds.append(time.process_time() - began)
    return {"seconds": min(seconds), "accepted": len(found), "rows": len(y)}


def pyabc(arrays: dict[str, np.ndarray], options: dict[str, Any]) -> dict[str, Any]:
    """`ABCSMC` with one population: rejection at a fixed tolerance."""
    import pyabc as package

    logging.getLogger("ABC").setLevel(logging.ERROR)
    y, observed = arrays["y"], arrays["observed"]
    at = iter(range(10**9))
    model = lambda parameters: {"y": y[next(at) % len(y)]}  # noqa: E731
    distance = lambda one, other: float(np.linalg.norm(one["y"] - other["y"]))  # noqa: E731
    inference = package.ABCSMC(
        model,
        package.Distribution(a=package.RV("norm", 0, 1)),
        distance,
        population_size=options["accepted"],
        eps=package.ListEpsilon([options["tolerance"]]),
        sampler=package.SingleCoreSampler(),
    )
    inference.new("sqlite://", {"y": observed})
    began = time.process_time()
    history = inference.run(max_nr_populations=1)
    took = time.process_time() - began
    return {"seconds": took, "accepted": options["accepted"], "rows": int(history.total_nr_simulations)}


if __name__ == "__main__":
    job, folder = sys.argv[1], Path(sys.argv[2])
    with np.load(folder / "in.npz") as given:
        facts = {"sbi": sbi, "pyabc": pyabc}[job](
            dict(given), json.loads((folder / "options.json").read_text())
        )
    np.savez(folder / "out.npz")
    (folder / "facts.json").write_text(json.dumps(facts))
