"""A refining in rounds that the tests kill: python -m tests.faults.refining POSTERIOR STORE DRAWS."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.files import write_bytes
from tests.conftest import QUICK

FIT = replace(QUICK, flow="maf", train=sf.TrainSettings(epochs=10, batch_size=64))
SETTINGS = sf.RefineSettings(fit=FIT, rounds=3, simulate=sf.SimulateSettings(block_size=25))
Y = (0.8, -1.0)


@sf.simulator(sf.Prior(a=norm(0, 1), b=norm(0, 1)), vectorized=False)
def one_by_one(theta: Any, rng: np.random.Generator) -> Any:
    """y = theta + e; one in twenty fails."""
    if rng.random() < 0.05:
        raise ValueError("no luck")
    return [theta["a"] + 0.1 * rng.standard_normal(), theta["b"] + 0.1 * rng.standard_normal()]


def main(posterior: str, store: str, draws: str) -> None:
    """Refine, and write the draws as bytes."""
    found = sf.load(posterior).refine(
        Y, one_by_one, method="rounds", n=500, n_simulations=1_400, seed=2, settings=SETTINGS, store=store
    )
    write_bytes(draws, found.to_numpy().tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
