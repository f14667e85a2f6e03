"""Programs whose answers name several arrays, leave values out, or end early."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import uniform

import sbi_flows as sf
from sbi_flows.errors import SettingsError, SimulatorContractError
from sbi_flows.testing import check_simulator

Make = Callable[..., sf.Simulator]
PRIOR = sf.Prior(a=uniform(0, 1), b=uniform(1, 1))
LOOP = """
import json, random, sys
for line in sys.stdin:
    request = json.loads(line)
    rng, theta, n = random.Random(request["seed"]), request["theta"], request.get("n")
    def counts(a): return [rng.gauss(a, 1) for _ in range(4)]
    def grid(b): return [[rng.gauss(b, 1) for _ in range(3)] for _ in range(2)]
"""
BOTH = "y = {'counts': counts(theta['a']), 'map': grid(theta['b'])}"
ROWS = "y = {'map': [grid(b) for b in theta['b']], 'counts': [counts(a) for a in theta['a']]}"
KINDS = {"counts": sf.Series(), "map": sf.Grid()}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A simulator from the line of a Python program that makes y."""

    def make(body: str, **options: Any) -> sf.Simulator:
        path = tmp_path / "model.py"
        path.write_text(f"{LOOP}    {body}\n    print(json.dumps({{'y': y}}), flush=True)\n")
        return sf.command_simulator([sys.executable, "-S", path], PRIOR, **options)

    return make


@pytest.mark.parametrize(("body", "vectorized"), [(BOTH, False), (ROWS, True)])
def test_an_object_of_arrays_is_a_mapping(body: str, vectorized: bool, make: Make) -> None:
    model = make(body, vectorized=vectorized, data=KINDS)
    assert model.events.describe() == "counts (4,), series; map (2, 3), grid"
    sims = sf.simulate(model, 30, seed=1)
    assert sims.y["counts"].shape == (30, 4)
    assert sims.y["map"].shape == (30, 2, 3)
    assert sims.ok.all()
    report = check_simulator(model)
    assert report.ok, report


def test_null_is_not_observed_and_a_list_may_end_early_where_values_may_be_missing(make: Make) -> None:
    model = make("y = [0.5, None, *counts(theta['a'])[: rng.randint(0, 3)]]", missing=True, event_shape=5)
    sims = sf.simulate(model, 40, seed=1)
    assert sims.ok.all()
    assert np.isnan(sims.y[:, 1]).all()
    assert (sims.y[:, 0] == 0.5).all()
    assert len(set(np.isnan(sims.y).sum(axis=1))) > 2
    assert check_simulator(model).ok
    strict = make("y = [0.5, None, *counts(theta['a'])]", event_shape=6)
    assert "missing=True" in str(check_simulator(strict))


def test_answers_and_declarations_that_differ_are_refused_in_words(make: Make) -> None:
    rng = np.random.default_rng(0)
    theta = PRIOR.sample(2, rng)
    with pytest.raises(SimulatorContractError, match="mapping of 'counts', 'map'; data= declares one array"):
        make(BOTH, data=sf.Series()).run(theta, rng)
    with pytest.raises(SimulatorContractError, match="declares a mapping of 'counts', 'sizes'"):
        make(BOTH, data={"counts": sf.Series(), "sizes": sf.Grid()}).run(theta, rng)
    with pytest.raises(SettingsError, match="missing must be True or False"):
        make(BOTH, missing="yes")
