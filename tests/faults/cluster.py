"""A Dask scheduler and two worker processes, of two threads each, on loopback: writes its address, ends with
its standard input.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        Path(sys.argv[1]).write_text(cluster.scheduler_address)
        sys.stdin.read()
