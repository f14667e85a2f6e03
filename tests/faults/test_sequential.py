"""Sequential ABC that is killed, and whose simulator fails and hangs.

SBI_FLOWS_KILLS is how many kills there are in all.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.errors import SimulationWarning
from tests.faults.conftest import Group, needs_proc
from tests.faults.models import awkward
from tests.faults.sequential import METHODS, OBSERVED, draws_of

KILLS = int(os.environ.get("SBI_FLOWS_KILLS", "8"))


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Group]]:
    """Start the driver; whatever is left in the end is killed."""
    groups: list[Group] = []

    def start(method: str, workers: int) -> Group:
        folder = str(tmp_path / method)
        groups.append(Group("-m", "tests.faults.sequential", method, folder, str(workers)))
        return groups[-1]

    yield start
    for group in groups:
        group.close()


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "workers"), [("smc", 1), ("pmc", 1), ("synthetic_likelihood", 1), ("smc", 2)]
)
def test_a_run_that_is_killed_again_and_again_ends_with_the_draws_of_one_that_is_not(
    method: str, workers: int, begin: Callable[..., Group], tmp_path: Path
) -> None:
    """At random moments, of which one in four is while the program starts."""
    rng, wanted = random.Random(f"{method} {workers}"), draws_of(method, tmp_path / "whole", 1)
    store, left = tmp_path / method, max(1, round(KILLS / 4))
    while True:
        group = begin(method, workers)
        if left:
            _wait(group, store, rng)
        if left and group.process.poll() is None:
            group.send(signal.SIGKILL)
            left -= 1
            group.end()
            continue
        said = group.end()
        assert group.process.returncode == 0, said
        if not left:
            break
        left -= 1
    with np.load(tmp_path / f"{method}.npz") as found:
        assert found["values"].tobytes() == wanted["values"].tobytes()
        assert found["weights"].tobytes() == wanted["weights"].tobytes()
        assert found["told"].tobytes() == wanted["told"].tobytes()


def _wait(group: Group, store: Path, rng: random.Random) -> None:
    """Until a moment to kill at: while it starts, or once some more files are there."""
    if rng.random() < 0.25:
        time.sleep(rng.uniform(0.05, 2.0))
        return
    wanted = _files(store) + rng.randrange(1, 12)
    while group.process.poll() is None and _files(store) < wanted:
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.05))


def _files(store: Path) -> int:
    return len(list(store.glob("*.generation"))) + len(list(store.glob("*/*.bank/*/*.safetensors")))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_simulator_that_fails_and_hangs_ends_and_says_what_was_lost(method: str) -> None:
    """5% of the rows raise, 1% hang until their time limit."""
    settings = sf.ABCSettings(
        simulate=sf.SimulateSettings(warn_failures=0.02),
        particles=None if method == "synthetic_likelihood" else 100,
        pilot=100 if method == "synthetic_likelihood" else None,
        chains=2 if method == "synthetic_likelihood" else None,
        simulations_each=12 if method == "synthetic_likelihood" else None,
    )
    n = 2_300 if method == "synthetic_likelihood" else 300
    with pytest.warns(SimulationWarning, match=r"raised.*timeout|timeout.*raised"):
        draws = sf.abc(
            awkward,
            OBSERVED,
            method=method,
            n_simulations=n,
            seed=1,
            settings=settings,
            time_limit=0.3,
            workers=2,  # type: ignore[arg-type]
        )
    lost, made = draws.facts["failures"], draws.facts["simulations"]
    assert set(lost) == {"raised", "timeout"}
    assert abs(lost["raised"] - 0.05 * made) < 4.5 * np.sqrt(0.05 * made)
    assert abs(lost["timeout"] - 0.01 * made) < 4.5 * np.sqrt(0.01 * made)
    assert np.isfinite(draws.values).all()
