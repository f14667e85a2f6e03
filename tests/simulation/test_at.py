"""Simulating at given theta."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import uniform

import sbi_flows as sf
from sbi_flows.errors import BankMismatchError, SettingsError, ShapeError
from sbi_flows.simulation.at import in_memory, simulate_at

PRIOR = sf.Prior(a=uniform(0, 1), b=uniform(-1, 2))
THETA = PRIOR.sample(2_300, np.random.default_rng(3))


@sf.simulator(PRIOR)
def vector(theta: Any, rng: np.random.Generator) -> Any:
    return np.stack([theta["a"], theta["b"]], 1) + rng.standard_normal((len(theta["a"]), 2))


@sf.simulator(PRIOR, vectorized=False)
def one(theta: Any, rng: np.random.Generator) -> Any:
    if theta["a"] > 0.9:
        raise ValueError("too large")
    return [theta["a"] + rng.standard_normal(), theta["b"]]


@pytest.mark.parametrize("model", [vector, one])
def test_rows_have_their_theta_and_the_same_bytes_for_any_number_of_workers(
    model: sf.Simulator, tmp_path: Path
) -> None:
    alone, _ = simulate_at(model, THETA, seed=1, workers=1)
    there, _ = simulate_at(model, THETA, seed=1, workers=2, store=tmp_path / "bank")
    again, _ = simulate_at(model, THETA, seed=1, store=tmp_path / "bank")
    assert len(alone) == len(THETA)
    assert np.array_equal(alone.theta, THETA)
    for other in (there, again):
        assert np.array_equal(other.theta, THETA)
        assert np.array_equal(other.flat_y, alone.flat_y, equal_nan=True)
        assert np.array_equal(other.codes, alone.codes)


def test_failures_are_rows_with_their_cause() -> None:
    found, texts = simulate_at(one, THETA, seed=1)
    assert np.array_equal(found.status == "raised", THETA[:, 0] > 0.9)
    assert "too large" in texts[0]


def test_a_bank_of_given_theta_is_of_no_other_theta_and_no_bank_to_fit_on(tmp_path: Path) -> None:
    simulate_at(vector, THETA, seed=1, store=tmp_path / "bank")
    with pytest.raises(BankMismatchError, match="another campaign"):
        simulate_at(vector, THETA[::-1], seed=1, store=tmp_path / "bank")
    with pytest.raises(BankMismatchError, match="another campaign"):
        sf.simulate(vector, 2_000, seed=1, store=tmp_path / "bank")
    with pytest.raises(BankMismatchError, match="not draws from the prior"):
        sf.read_bank(tmp_path / "bank")


def test_what_is_not_theta_is_refused() -> None:
    with pytest.raises(ShapeError, match="inside the prior"):
        simulate_at(vector, THETA + 2, seed=1)
    with pytest.raises(SettingsError, match="no option cores"):
        simulate_at(vector, THETA, seed=1, cores=2)


def test_rows_of_several_runs_are_held_as_one() -> None:
    found, _ = simulate_at(vector, THETA, seed=1)
    held = in_memory(vector, found.theta[::-1].copy(), found.flat_y[::-1].copy())
    assert held.ok.all()
    assert len(held) == len(THETA)
    assert held.events.same_arrays(vector.events)
    rows = np.array([0, 1_500, 2_299])
    assert np.array_equal(held.gather(rows)[0], THETA[::-1][rows])
    blocks = [held.read_block(k) for k in range(held.n_blocks)]
    assert np.array_equal(np.concatenate([block.y for block in blocks]), held.flat_y)
