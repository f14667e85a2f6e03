"""A campaign of very many small blocks: python -m tests.faults.scale STORE BLOCKS WORKERS prints, as JSON,
seconds and megabytes.

made, scanned: seconds to simulate, and to make the same call again; growth: how much higher the memory of the
driver rose, in MB, than in a campaign of 100 blocks; rows: how many there are.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import sbi_flows as sf
from tests.faults.models import PRIOR, numbers

ROWS = 100
SETTINGS = sf.SimulateSettings(block_size=ROWS)


def peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def main(store: str, blocks: int, workers: int) -> None:
    """Simulate, and simulate again."""
    model = sf.simulator(PRIOR)(numbers)
    sf.simulate(model, 100 * ROWS, seed=5, store=f"{store}.small", workers=workers, settings=SETTINGS)
    before, began = peak(), time.perf_counter()
    sf.simulate(model, blocks * ROWS, seed=5, store=store, workers=workers, settings=SETTINGS)
    made, growth, began = time.perf_counter() - began, peak() - before, time.perf_counter()
    sims = sf.simulate(model, blocks * ROWS, seed=5, store=store, workers=workers, settings=SETTINGS)
    scanned = time.perf_counter() - began
    print(
        json.dumps(
            {
                "rows": len(sims),
                "made": round(made, 1),
                "scanned": round(scanned, 2),
                "growth": round(growth, 1),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
