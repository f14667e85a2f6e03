"""The bank on disk: what was committed comes back, and nothing else ever does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats as st

import sbi_flows as sf
from sbi_flows.errors import (
    BankMismatchError,
    CorruptFileError,
    FormatVersionError,
    PriorError,
    SimulationWarning,
    StorageError,
)
from sbi_flows.files import read_file, write_file

PRIOR = sf.Prior(a=st.uniform(0, 1))
pytestmark = pytest.mark.filterwarnings("ignore:.*simulations failed:sbi_flows.errors.SimulationWarning")


def simulate(simulator: Any, n: Any, **options: Any) -> sf.Simulations:
    """sf.simulate, in blocks of 20 where the simulator runs one draw at a time."""
    if isinstance(simulator, sf.Simulator) and not simulator.vectorized:
        options.setdefault("settings", sf.SimulateSettings(block_size=20))
    return sf.simulate(simulator, n, **options)


def make(
    name: str = "model", prior: sf.Prior = PRIOR, numbers: int = 2, vectorized: bool = False
) -> sf.Simulator:
    def model(theta: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
        a = np.asarray(theta["a"])
        return a[..., None] + rng.standard_normal((*a.shape, numbers))

    model.__name__ = name
    return sf.simulator(prior, vectorized=vectorized)(model)


def shard(bank: Path, k: int) -> Path:
    return bank / "0000" / f"{k:08d}.safetensors"


def contents(sims: sf.Simulations) -> tuple[bytes, ...]:
    return sims.theta.tobytes(), sims.y.tobytes(), sims.codes.tobytes()


def files(bank: Path) -> dict[str, bytes]:
    return {str(path.relative_to(bank)): path.read_bytes() for path in bank.rglob("*") if path.is_file()}


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """Three blocks of 20 rows."""
    simulate(make(), 60, seed=5, store=tmp_path / "bank")
    return tmp_path / "bank"


def test_a_bank_read_without_its_simulator_is_what_was_simulated(bank: Path) -> None:
    back, sims = sf.read_bank(bank), simulate(make(), 60, seed=5)
    assert contents(back) == contents(sims)
    assert (back.prior, back.seed, back.block_size, back.simulator_name) == (PRIOR, 5, 20, "model")
    assert back.y.dtype == sims.y.dtype


def test_failures_come_back_with_their_tracebacks_and_y_in_its_precision(tmp_path: Path) -> None:
    @sf.simulator(PRIOR, vectorized=False)
    def fragile(theta: dict[str, float], rng: np.random.Generator) -> np.ndarray:
        if theta["a"] < 0.2:
            raise ValueError("a is “too small” \udcff")
        return np.float32(rng.standard_normal(2))

    sims = simulate(fragile, 60, seed=5, store=tmp_path / "bank")
    back = sf.read_bank(tmp_path / "bank")
    assert back.records == sims.records
    assert contents(back) == contents(sims)
    assert back.y.dtype == np.float32


def test_the_bytes_on_disk_do_not_depend_on_how_they_came_there(bank: Path, tmp_path: Path) -> None:
    for n in (15, 33, 60):
        simulate(make(), n, seed=5, store=tmp_path / "slowly")
    assert files(tmp_path / "slowly") == files(bank)


def test_any_changed_byte_is_refused_by_readers_and_made_good_by_the_call_that_made_it(bank: Path) -> None:
    """300 places, each given another byte: never silently other simulations, by either way of reading."""
    data, rng = shard(bank, 1).read_bytes(), np.random.default_rng(0)
    wanted = contents(sf.read_bank(bank))
    refused = 0
    for place in rng.choice(len(data), size=300, replace=False):
        changed = data[:place] + bytes([data[place] ^ rng.integers(1, 256)]) + data[place + 1 :]
        shard(bank, 1).write_bytes(changed)
        try:
            assert contents(sf.read_bank(bank)) == wanted
        except CorruptFileError:
            refused += 1
            with pytest.warns(SimulationWarning, match="damaged"):
                assert contents(simulate(make(), 60, seed=5, store=bank)) == wanted
            assert shard(bank, 1).read_bytes() == data
            kept = {place.read_bytes() for place in shard(bank, 1).parent.glob("*.damaged*")}
            assert changed in kept
            assert len(kept) == refused
    assert refused > 270


@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("keep", [0, 7, 300, -1])
def test_a_truncated_block_is_refused_by_name_and_made_again(k: int, keep: int, bank: Path) -> None:
    whole, wanted = shard(bank, k).read_bytes(), contents(sf.read_bank(bank))
    shard(bank, k).write_bytes(whole[:keep])
    with pytest.raises(CorruptFileError, match=shard(bank, k).name):
        sf.read_bank(bank)
    with pytest.warns(SimulationWarning, match=shard(bank, k).name):
        assert contents(simulate(make(), 60, seed=5, store=bank)) == wanted
    assert shard(bank, k).read_bytes() == whole


def test_a_block_that_is_damaged_after_the_bank_was_opened_is_refused_when_it_is_read(bank: Path) -> None:
    sims = sf.read_bank(bank)
    data = shard(bank, 1).read_bytes()
    shard(bank, 1).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CorruptFileError, match=shard(bank, 1).name):
        _ = sims.y


def test_a_block_of_a_newer_format_is_refused_and_left_alone(bank: Path) -> None:
    arrays, manifest = read_file(shard(bank, 2), "simulation block")
    write_file(shard(bank, 2), arrays, {**manifest, "format_version": 99})
    before = files(bank)
    for read in (lambda: sf.read_bank(bank), lambda: simulate(make(), 60, seed=5, store=bank)):
        with pytest.raises(FormatVersionError, match="99"):
            read()
    assert files(bank) == before


def test_a_block_under_the_name_of_another_is_refused_and_made_again(bank: Path) -> None:
    wanted = contents(sf.read_bank(bank))
    shutil.copy(shard(bank, 1), shard(bank, 2))
    with pytest.raises(CorruptFileError, match="holds block 1, not 2"):
        sf.read_bank(bank)
    with pytest.warns(SimulationWarning, match=shard(bank, 2).name):
        assert contents(simulate(make(), 60, seed=5, store=bank)) == wanted


@pytest.mark.parametrize(
    ("simulator", "seed", "words"),
    [
        (make(), 6, "seed: 5 there, 6 here"),
        (make("other"), 5, "simulator: model there, other here"),
        (
            make(prior=sf.Prior(a=st.uniform(0, 2))),
            5,
            r"prior: Prior\(a=uniform\(0, 1\)\) there, Prior\(a=uniform\(0, 2\)\) here",
        ),
        (make(numbers=3), 5, r"event_shape: \[2\] there, \[3\] here"),
        (make(vectorized=True), 5, "vectorized: False there, True here; block_size: 20 there, 1000 here"),
    ],
)
def test_a_bank_of_another_campaign_is_refused_with_the_difference_named(
    simulator: sf.Simulator, seed: int, words: str, bank: Path
) -> None:
    before = files(bank)
    with pytest.raises(BankMismatchError, match=words) as caught:
        simulate(simulator, 60, seed=seed, store=bank)
    assert caught.value.exit_code == 2
    assert files(bank) == before


@pytest.mark.parametrize("k", [0, 1, 2])
def test_one_block_of_another_campaign_among_the_right_ones_is_refused(
    k: int, bank: Path, tmp_path: Path
) -> None:
    simulate(make(), 60, seed=6, store=tmp_path / "other")
    shutil.copy(shard(tmp_path / "other", k), shard(bank, k))
    with pytest.raises(BankMismatchError, match="seed"):
        simulate(make(), 60, seed=5, store=bank)
    with pytest.raises(BankMismatchError, match="seed"):
        sf.read_bank(bank)


def test_leftovers_of_killed_writers_and_foreign_files_are_ignored(bank: Path) -> None:
    wanted = contents(sf.read_bank(bank))
    (bank / "0000" / ".00000003.safetensors.0a1b2c.part").write_bytes(b"half a block")
    (bank / "0000" / "00000003.safetensors.bak").write_bytes(b"?")
    (bank / "notes.txt").write_text("mine")
    assert contents(sf.read_bank(bank)) == wanted
    assert contents(simulate(make(), 60, seed=5, store=bank)) == wanted


def test_reading_stops_at_the_first_gap(bank: Path) -> None:
    shard(bank, 1).unlink()
    with pytest.warns(SimulationWarning, match="block 1 .*the 1 blocks after it"):
        assert len(sf.read_bank(bank)) == 20


def test_a_bank_without_its_first_block_is_refused(bank: Path) -> None:
    shard(bank, 0).unlink()
    with pytest.raises(StorageError, match="first block"):
        sf.read_bank(bank)


def test_reading_stops_after_a_block_that_is_not_full(tmp_path: Path) -> None:
    """Rows after a half block would continue another row than the one they belong to."""
    simulate(make(), 45, seed=5, store=tmp_path / "bank")
    simulate(make(), 80, seed=5, store=tmp_path / "longer")
    shutil.copy(shard(tmp_path / "longer", 3), shard(tmp_path / "bank", 3))
    with pytest.warns(SimulationWarning, match="missing"):
        assert contents(sf.read_bank(tmp_path / "bank")) == contents(simulate(make(), 45, seed=5))
    assert contents(simulate(make(), 80, seed=5, store=tmp_path / "bank")) == contents(
        simulate(make(), 80, seed=5)
    )


def test_a_simulator_that_changed_for_some_theta_only_is_refused(tmp_path: Path) -> None:
    def change(above: float) -> sf.Simulator:
        def model(theta: dict[str, float], rng: np.random.Generator) -> np.ndarray:
            return theta["a"] + rng.standard_normal(2) + (theta["a"] > above)

        return sf.simulator(PRIOR, vectorized=False)(model)

    simulate(change(2.0), 200, seed=5, store=tmp_path / "bank")
    for above in (0.5, 0.9, 0.98):
        with pytest.raises(BankMismatchError, match=r"y of row \d+"):
            simulate(change(above), 220, seed=5, store=tmp_path / "bank")


@pytest.mark.parametrize("place", ["missing", "empty"])
def test_where_there_is_no_bank_the_message_says_how_to_make_one(place: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match=f"{place}: .*sf.simulate") as caught:
        sf.read_bank(tmp_path / place)
    assert caught.value.exit_code == 2


def test_a_bank_cannot_take_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="is a file"):
        simulate(make(), 20, store=tmp_path / "file")
    with pytest.raises(StorageError, match="is a file"):
        sf.read_bank(tmp_path / "file")


@pytest.mark.parametrize(
    "marginal", [st.truncnorm(0, np.inf), st.uniform(loc=np.float32(0), scale=1), st.halfcauchy()]
)
def test_any_marginal_of_scipy_can_be_kept_in_a_bank(marginal: Any, tmp_path: Path) -> None:
    sims = simulate(make(prior=sf.Prior(a=marginal)), 20, store=tmp_path / "bank")
    back = sf.read_bank(tmp_path / "bank")
    assert back.prior == sims.prior
    assert contents(back) == contents(sims)


def test_a_bank_with_a_users_own_marginal_resumes_with_it_but_cannot_be_read_without_it(
    tmp_path: Path,
) -> None:
    class Triangle(st.rv_continuous):
        def _pdf(self, x: Any, *_: Any) -> Any:
            return 2 * x

    model = make(prior=sf.Prior(a=Triangle(a=0, b=1, name="triangle")()))
    first = simulate(model, 40, seed=5, store=tmp_path / "bank")
    assert contents(simulate(model, 40, seed=5, store=tmp_path / "bank")) == contents(first)
    with pytest.raises(PriorError, match="rebuilt"):
        sf.read_bank(tmp_path / "bank")
