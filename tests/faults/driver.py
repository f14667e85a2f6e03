"""A run that the tests kill: python -m tests.faults.driver ROAD STORE BLOCKS."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import sbi_flows as sf
from tests.faults.models import logged

ROWS, WORKERS = 50, 2


def main(road: str, store: str, blocks: int) -> None:
    """Simulate into the store on that road."""
    with ExitStack() as stack:
        options: dict[str, object] = {"workers": 1}
        if road == "limited":
            options["time_limit"] = 20.0
        elif road == "loky":
            options["workers"] = WORKERS
        elif road == "dask":
            from distributed import Client, LocalCluster

            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=WORKERS,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    silence_logs=50,
                )
            )
            client = stack.enter_context(Client(cluster))
            options = {"executor": client.get_executor(pure=False), "workers": WORKERS}
        sf.simulate(
            logged,
            ROWS * blocks,
            seed=5,
            store=store,
            settings=sf.SimulateSettings(block_size=ROWS),
            **options,
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
