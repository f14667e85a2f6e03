"""A refining in rounds that is killed again and again ends as one that is not."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

import sbi_flows as sf
from tests.faults.conftest import KILLS, Group, files
from tests.faults.refining import QUICK, one_by_one

_KILLS = max(2, KILLS // 6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sbi_flows.errors.SimulationWarning")
def test_rounds_that_are_killed_end_with_the_draws_of_rounds_that_are_not(tmp_path: Path) -> None:
    posterior = tmp_path / "posterior.safetensors"
    sf.fit(one_by_one, n_simulations=400, seed=1, settings=QUICK, say=None).save(posterior)

    def begin(name: str) -> Group:
        places = (str(tmp_path / f"{name}.bank"), str(tmp_path / f"{name}.draws"))
        return Group("-W", "ignore", "-m", "tests.faults.refining", str(posterior), *places)

    began = time.monotonic()
    whole = begin("whole")
    said = whole.end()
    assert whole.process.returncode == 0, said
    seconds, rng, kills, runs = time.monotonic() - began, random.Random(5), 0, 0
    while kills < _KILLS:
        killed, runs = True, runs + 1
        while killed:
            group = begin(f"killed {runs}")
            if kills < _KILLS:
                time.sleep(rng.uniform(0.2, 1.0) * seconds)
            killed = kills < _KILLS and group.process.poll() is None
            if killed:
                group.send(signal.SIGKILL)
                kills += 1
            said = group.end()
            assert killed or group.process.returncode == 0, said
        assert (tmp_path / f"killed {runs}.draws").read_bytes() == (tmp_path / "whole.draws").read_bytes()
        made, wanted = (files(tmp_path / f"{name}.bank") for name in (f"killed {runs}", "whole"))
        stored = {name for name in wanted if name.endswith(".safetensors")}
        assert {name: made[name] for name in stored} == {name: wanted[name] for name in stored}
    print(f"{kills} kills in {runs} runs of {seconds:.1f} s")
