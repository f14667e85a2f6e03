"""A run of sequential ABC that the tests kill: python -m tests.faults.sequential METHOD STORE WORKERS. It
leaves STORE.npz.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

import sbi_flows as sf
from tests.faults.models import waiting

METHODS = ("smc", "pmc", "synthetic_likelihood")
OBSERVED = (0.6, 0.5, 0.7)
_SETTINGS = {
    "smc": sf.ABCSettings(particles=100, simulate=sf.SimulateSettings(block_size=50)),
    "pmc": sf.ABCSettings(particles=100, simulate=sf.SimulateSettings(block_size=50)),
    "synthetic_likelihood": sf.ABCSettings(pilot=100, simulations_each=12, chains=2),
}
_BUDGET = {"smc": 4_000, "pmc": 4_000, "synthetic_likelihood": 3_500}


def draws_of(method: str, store: Path, workers: int) -> dict[str, np.ndarray]:
    """What the run finds, as arrays."""
    draws = sf.abc(
        waiting,
        OBSERVED,
        method=method,  # type: ignore[arg-type]
        n_simulations=_BUDGET[method],
        seed=3,
        settings=_SETTINGS[method],
        store=store,
        workers=workers,
    )
    told = {name: value for name, value in draws.facts.items() if name != "seconds"}
    text = json.dumps([told, str(draws.verdict)], default=str)
    weights = np.ones(1) if draws.weights is None else draws.weights
    return {"values": draws.values, "weights": weights, "told": np.frombuffer(text.encode(), dtype=np.uint8)}


if __name__ == "__main__":
    place = Path(sys.argv[2])
    np.savez(place.with_suffix(".npz"), **draws_of(sys.argv[1], place, int(sys.argv[3])))
