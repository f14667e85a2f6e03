"""One pass over the simulations: what is found does not depend on where they lie, and little is held."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.baselines.distance import Distance
from sbi_flows.baselines.nearest import in_memory, nearest_share, parts, sample, within
from sbi_flows.baselines.target import Target
from sbi_flows.errors import TooFewSimulationsError
from simulators.gaussian import make_gaussian

GAUSSIAN = make_gaussian(2)
Y = np.array([0.3, -0.2])


def target_of(simulations: sf.Simulations) -> Target:
    return Target.of(GAUSSIAN, Y, simulations, "a test")


def test_a_bank_on_disk_gives_the_same_draws_as_in_memory_and_is_not_held(tmp_path: Path) -> None:
    memory = sf.simulate(GAUSSIAN, 6000, seed=1)
    sf.simulate(GAUSSIAN, 6000, seed=1, store=tmp_path / "a.bank")
    disk = sf.read_bank(tmp_path / "a.bank")
    assert not in_memory(disk)
    target, distance = target_of(disk), Distance(Y, np.ones(2))
    one, two = (within(0.4, target, distance, bank) for bank in (memory, disk))
    assert one.theta.tobytes() == two.theta.tobytes()
    assert one.usable == two.usable == 6000
    draws = sf.rejection_abc(GAUSSIAN, Y, simulations=disk, quantile=0.02, adjust="linear")
    same = sf.rejection_abc(GAUSSIAN, Y, simulations=memory, quantile=0.02, adjust="linear")
    assert draws.values.tobytes() == same.values.tobytes()
    assert draws.verdict.ok
    assert len(draws) == 120
    assert not in_memory(disk)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 1.0])
def test_the_nearest_are_found_whatever_the_bound_was(share: float) -> None:
    bank = sf.simulate(GAUSSIAN, 5000, seed=1)
    target, distance = target_of(bank), Distance(Y, np.ones(2))
    far = np.linalg.norm(bank.y - Y, axis=1)
    count = int(np.ceil(share * 5000))
    wanted = np.sort(far)[:count]
    good, too_small = distance(bank.y[:1000]), np.full(1000, 1e-9)
    for sampled in (good, too_small):
        found = nearest_share(share, target, distance, bank, sampled).first(count)
        assert found.distances == pytest.approx(wanted)
        assert np.linalg.norm(found.summaries - Y, axis=1) == pytest.approx(found.distances)


def test_rows_that_failed_or_were_learned_from_are_not_visited() -> None:
    theta = np.random.default_rng(1).standard_normal((500, 1))
    y = theta.repeat(2, axis=1)
    y[::25] = np.nan
    bank = sf.Simulations.from_arrays(sf.Prior(a=norm(0, 1)), theta, y)
    rows = np.concatenate([part.rows for part in parts(bank, np.arange(100))])
    assert (rows >= 100).all()
    assert not (rows % 25 == 0).any()
    chosen = sample(bank, 50, "a test").rows
    assert len(set(chosen)) == 50
    assert not (chosen % 25 == 0).any()


def test_a_sample_of_a_bank_on_disk_is_that_of_memory(tmp_path: Path) -> None:
    sf.simulate(GAUSSIAN, 20_000, seed=1, store=tmp_path / "a.bank")
    bank = sf.read_bank(tmp_path / "a.bank")
    chosen = sample(bank, 2500, "a test")
    assert len(chosen.rows) == 2500
    memory = sample(sf.simulate(GAUSSIAN, 20_000, seed=1), 2500, "a test")
    assert (chosen.rows == memory.rows).all()
    assert (chosen.y == memory.y).all()


def test_a_million_rows_are_never_held_twice() -> None:
    n, k = 1_000_000, 13
    rng = np.random.default_rng(1)
    y = rng.standard_normal((n, k))
    bank = sf.Simulations.from_arrays(sf.Prior(a=norm(0, 1)), rng.standard_normal((n, 1)), y)
    tracemalloc.start()
    draws = sf.rejection_abc(y_obs=np.zeros(k), simulations=bank, quantile=0.01)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(draws) == 10_000
    assert peak < y.nbytes / 2


def test_simulations_of_which_none_can_be_used_are_refused() -> None:
    @sf.simulator(sf.Prior(a=norm(0, 1)), event_shape=(1,), summaries=lambda y: np.full((len(y), 1), np.nan))
    def nothing(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return theta["a"][:, None]

    bank = sf.simulate(nothing, 500, seed=1)
    target = Target.of(nothing, [0.0], bank, "a test")
    with pytest.raises(TooFewSimulationsError, match="500 simulations are not finite"):
        within(1.0, target, Distance(np.zeros(1), np.ones(1)), bank)
