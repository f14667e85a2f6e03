"""Which simulations a posterior has not been trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.errors import SettingsError
from sbi_flows.simulation.held_out import held_out, some_pairs

PRIOR = sf.Prior(mean=norm(0, 1))
FACTS = {"simulator": "model", "simulation_seed": 1, "simulations": 290, "failed": 10, "minutes": None}


@sf.simulator(PRIOR, event_shape=(1,))
def model(theta: Any, rng: np.random.Generator) -> np.ndarray:
    y = theta["mean"] + rng.standard_normal(len(theta["mean"]))
    y[::50] = np.nan
    return y[:, None]


def test_rows_of_another_seed_are_all_held_out() -> None:
    sims = sf.simulate(model, 500, seed=2)
    theta, y, failed = held_out(sims, FACTS, 100)
    assert len(theta) == len(y) == 100
    assert np.array_equal(theta, sims.usable()[0][:100])
    assert failed == 3
    assert len(held_out(sims, FACTS, 10_000)[0]) == 490


def test_of_the_same_seed_those_beyond_the_last_row_used() -> None:
    sims = sf.simulate(model, 500, seed=1)
    theta, _, failed = held_out(sims, FACTS, 1000)
    assert np.array_equal(theta, sims.theta[300:][sims.ok[300:]])
    assert failed == 4
    with pytest.raises(SettingsError, match="beyond row 300"):
        held_out(sf.simulate(model, 300, seed=1), FACTS, 100)
    with pytest.raises(SettingsError, match="another seed"):
        held_out(sims, {**FACTS, "minutes": 0.1}, 100)


def test_only_pairs_made_elsewhere_are_remembered() -> None:
    sims = sf.simulate(model, 500, seed=1)
    assert some_pairs(sims) == {}
    given = sf.Simulations.from_arrays(PRIOR, *sims.usable())
    [kept] = some_pairs(given).values()
    assert len(set(kept)) == 64
    assert some_pairs(sf.Simulations.from_arrays(PRIOR, *sims.usable(), name="model", seed=1)) == {}
