"""Rows from memory and rows from a bank: one contract for both; and what only reading can get wrong."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.errors import BankMismatchError, CorruptFileError, TooFewSimulationsError
from sbi_flows.npe import out_of_core as stream
from sbi_flows.npe.out_of_core import Split, StreamedRows
from sbi_flows.training.rows import Rows, TensorRows
from simulators.gaussian import make_gaussian, posterior_moments

from ..conftest import QUICK

Open = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("ignore:.*simulations failed:sbi_flows.errors.SimulationWarning")


@sf.simulator(sf.Prior(a=norm(0, 1), b=norm(0, 1)), event_shape=(3,))
def leaky(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    y = np.stack([theta["a"], theta["b"], theta["a"] + theta["b"]], axis=1) + 0.1 * rng.standard_normal(
        (len(theta["a"]), 3)
    )
    y[theta["a"] > 1.5] = np.nan
    return y


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("banks") / "leaky.bank"
    sf.simulate(leaky, 5300, seed=1, store=path)
    return path


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BUFFER_BYTES", 100_000)


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "free_memory", lambda: 0)


def plain(theta: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    return theta.astype(np.float32), y.astype(np.float32)


def from_bank(sims: sf.Simulations, settings: sf.TrainSettings, seed: int) -> StreamedRows:
    return StreamedRows(Split(sims, settings, seed), plain, settings, seed)


def from_memory(sims: sf.Simulations, settings: sf.TrainSettings, seed: int) -> nullcontext[TensorRows]:
    return nullcontext(TensorRows([torch.from_numpy(part) for part in plain(*sims.usable())], settings, seed))


def one_pass(rows: Rows, epochs: range) -> tuple[np.ndarray, list[torch.Tensor]]:
    numbers, tensors = zip(*(batch for epoch in epochs for batch in rows.batches(epoch)), strict=True)
    return np.concatenate(numbers), [torch.cat(parts) for parts in zip(*tensors, strict=True)]


@pytest.fixture(params=[from_memory, from_bank])
def source(request: pytest.FixtureRequest, small_buffers: None) -> Open:
    return request.param


@pytest.mark.parametrize(("epoch_rows", "batch_size"), [(50_000, 1), (3000, 1), (3000, 128)])
def test_a_pass_has_every_training_row_once_and_no_other(
    bank: Path, source: Open, epoch_rows: int, batch_size: int
) -> None:
    sims = sf.read_bank(bank)
    settings = sf.TrainSettings(epochs=20, epoch_rows=epoch_rows, batch_size=batch_size)
    theta, y = sims.usable()
    names = np.arange(len(sims)) if source is from_bank else np.cumsum(sims.ok) - 1
    with source(sims, settings, 1) as rows:
        assert isinstance(rows, Rows)
        usable = names[sims.ok]
        held_out = rows.valid_rows
        assert len(held_out) == int(0.1 * len(usable)) == len(rows.valid[0])
        assert set(held_out) <= set(usable)
        pieces = -(-(len(usable) - len(held_out)) // epoch_rows)
        for number in range(2):
            numbers, (u, x) = one_pass(rows, range(number * pieces, (number + 1) * pieces))
            assert (
                len(numbers)
                == pieces * rows.steps * batch_size
                > len(usable) - len(held_out) - pieces * batch_size
            )
            assert len(set(numbers)) == len(numbers)
            assert set(numbers) <= set(usable) - set(held_out)
            places = np.searchsorted(usable, numbers)
            assert np.array_equal(u.numpy(), theta[places].astype(np.float32))
            assert np.array_equal(x.numpy(), y[places].astype(np.float32))
        places = np.searchsorted(usable, held_out)
        assert np.array_equal(rows.valid[1].numpy(), y[places].astype(np.float32))


def test_the_order_is_a_function_of_the_seed_and_the_epoch(bank: Path, source: Open) -> None:
    settings = sf.TrainSettings(epochs=20, epoch_rows=3000, batch_size=100)

    def order(seed: int, *epochs: int) -> list[list[int]]:
        with source(sf.read_bank(bank), settings, seed) as rows:
            return [one_pass(rows, range(epoch, epoch + 1))[0].tolist() for epoch in epochs]

    first = order(1, 0, 1, 2, 3)
    assert order(1, 3, 0, 2)[:2] == [first[3], first[0]]
    assert order(2, 0) != first[:1]
    assert first[0] != sorted(first[0])
    assert first[0] != first[3]


def test_a_buffer_mixes_its_blocks_and_passes_group_them_anew(bank: Path, small_buffers: None) -> None:
    settings = sf.TrainSettings(epochs=20, batch_size=100)
    with from_bank(sf.read_bank(bank), settings, 1) as rows:
        blocks = [[set(batch // 1000) for batch, _ in rows.batches(epoch)] for epoch in range(2)]
    assert [len(found) for found in blocks[0]].count(1) == 0
    assert max(len(found) for found in blocks[0]) <= 6
    assert blocks[0][0] != blocks[1][0]


def test_the_split_maps_places_to_rows_as_a_list_of_all_rows_would(bank: Path) -> None:
    sims = sf.read_bank(bank)
    split = Split(sims, sf.TrainSettings(), 4)
    rows = [k * 1000 + split.train_rows(k) for k in range(sims.n_blocks)]
    assert [len(part) for part in rows] == split.counts.tolist()
    assert sorted([*np.concatenate(rows), *split.valid_rows]) == np.flatnonzero(sims.ok).tolist()
    theta, y, numbers = split.sample(4)
    assert np.array_equal(theta, sims.theta[numbers])
    assert np.array_equal(y, sims.y[numbers])
    assert set(numbers) <= set(np.concatenate(rows))
    with pytest.raises(TooFewSimulationsError, match="40 usable simulations"):
        Split(sf.simulate(make_gaussian(1), 40, seed=1), sf.TrainSettings(), 1)


def test_no_more_than_two_buffers_are_alive(
    bank: Path, small_buffers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[int] = []
    now: set[int] = set()

    class Counted(stream._Buffer):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            now.add(id(self))
            alive.append(len(now))

        def __del__(self) -> None:
            now.discard(id(self))

    monkeypatch.setattr(stream, "_Buffer", Counted)
    with from_bank(sf.read_bank(bank), sf.TrainSettings(epochs=9, batch_size=100), 1) as rows:
        for epoch in range(9):
            for _ in rows.batches(epoch):
                pass
    assert len(alive) > 9
    assert max(alive) <= 2


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("sbi_flows reader")]


def test_a_shard_that_rots_while_training_is_the_error_of_the_fit(
    bank: Path, tmp_path: Path, small_buffers: None, no_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = Path(shutil.copytree(bank, tmp_path / "bank"))
    sims = sf.read_bank(bank)
    shard = sorted(bank.glob("*/*.safetensors"))[3]
    whole = shard.read_bytes()
    steps = 0

    def rot(done: int, total: int, text: str) -> None:
        nonlocal steps
        steps = done
        if done > 40:
            shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    with pytest.raises(CorruptFileError, match="do not match the SHA-256"):
        sf.fit(leaky, simulations=sims, seed=1, settings=QUICK, say=None, progress=rot)
    assert steps > 40
    assert readers() == []


def test_the_thread_ends_with_the_fit_however_it_ends(
    bank: Path, small_buffers: None, no_memory: None
) -> None:
    sims = sf.read_bank(bank)

    def interrupt(done: int, total: int, text: str) -> None:
        assert len(readers()) == 1
        if done > 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sf.fit(leaky, simulations=sims, seed=1, settings=QUICK, say=None, progress=interrupt)
    assert readers() == []
    sf.fit(leaky, simulations=sims, seed=1, settings=QUICK, say=None)
    assert readers() == []


def test_what_is_larger_than_a_quarter_of_the_free_memory_is_never_loaded(
    bank: Path, small_buffers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sims = sf.read_bank(bank)
    needed = 2 * sims.n_bytes + 4 * len(sims) * 5
    for free, buffers in ((4 * needed, False), (4 * needed - 1, True)):
        monkeypatch.setattr(stream, "free_memory", lambda free=free: free)
        said: list[Any] = []
        posterior = sf.fit(leaky, simulations=sims, seed=1, settings=QUICK, say=said.append)
        assert said[0] == posterior.notes[0]
        assert [note.kind for note in said[:2]] == ["failures", "simulations held"]
        assert said[1].values == {"buffers": buffers, "needed": needed, "free": free, "checkpoint": False}
        assert ("theta" in vars(sims)) == ("flat_y" in vars(sims)) == (not buffers)
        assert (posterior.notes[1].kind == "buffers") == buffers
        assert posterior.facts["failed"] == (~sims.ok).sum()
        sims = sf.read_bank(bank)


def test_a_streamed_fit_killed_in_mid_training_resumes_to_the_same_weights(
    bank: Path, small_buffers: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sbi_flows.training.loop._CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(stream, "free_memory", lambda: 0)
    settings = sf.FitSettings(
        width=16,
        layers=2,
        summary_features=8,
        members=1,
        train=sf.TrainSettings(epochs=7, batch_size=100, epoch_rows=2500),
    )

    def weights(**options: Any) -> dict[str, bytes]:
        posterior = sf.fit(
            leaky, simulations=sf.read_bank(bank), seed=1, settings=settings, say=None, **options
        )
        return {name: value.numpy().tobytes() for name, value in posterior.estimator.state_dict().items()}

    def kill(done: int, total: int, text: str) -> None:
        if done > 0.6 * total:
            raise KeyboardInterrupt

    expected = weights()
    with pytest.raises(KeyboardInterrupt):
        weights(checkpoint=tmp_path / "run", progress=kill)
    monkeypatch.setattr(stream, "free_memory", lambda: 10**12)
    assert weights(checkpoint=tmp_path / "run") == expected, (
        "it resumes as it began, although there is memory now"
    )
    monkeypatch.setattr(stream, "BUFFER_BYTES", 200_000)
    with pytest.raises(BankMismatchError, match="another run \\(other rows\\)"):
        weights(checkpoint=tmp_path / "run")


@pytest.mark.slow
def test_a_streamed_posterior_is_as_good_as_one_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = make_gaussian(2)
    sims = sf.simulate(simulator, 10_000, seed=1, store=tmp_path / "bank")
    rng = np.random.default_rng(5)
    theta = simulator.prior.sample(2000, rng)
    y = np.asarray(simulator.run(theta, rng))
    means = np.array([posterior_moments(row)[0] for row in y])
    covariance = posterior_moments(y[0])[1]
    offsets = theta - means
    exact = -0.5 * (
        np.einsum("ni,ij,nj->n", offsets, np.linalg.inv(covariance), offsets)
        + np.log(np.linalg.det(2 * np.pi * covariance))
    )
    settings = sf.FitSettings(width=32, layers=2, members=1, train=sf.TrainSettings(epochs=10))
    short: list[float] = []
    for free in (10**12, 0):
        monkeypatch.setattr(stream, "free_memory", lambda free=free: free)
        monkeypatch.setattr(stream, "BUFFER_BYTES", 150_000)
        posterior = sf.fit(simulator, simulations=sims, seed=1, settings=settings, say=None)
        short.append(float((exact - posterior.log_prob(theta, y)).mean()))
    assert posterior.notes[0].kind == "buffers"
    assert abs(short[1] - short[0]) < 0.02
    assert short[1] < 0.05
