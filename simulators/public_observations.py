"""The ten public observations, "1" to "10", of each task of Lueckmann et al. (2021, arXiv:2101.04653).

`public_observations.npz` holds one array (10, *event) per task, in the single precision of its source: the
repository sbi-benchmark/sbibm at commit f0bc440, MIT licence.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

F = NDArray[np.float64]

_FILE = Path(__file__).with_suffix(".npz")


def public_observations(task: str) -> dict[str, F]:
    """The observations of `task`, name -> (*event,)."""
    with np.load(_FILE) as arrays:
        return {str(number): y.astype(np.float64) for number, y in enumerate(arrays[task], start=1)}
