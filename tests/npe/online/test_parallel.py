"""Further networks by the clock: one per core, on rows of their own, mixed; and why there is but one."""

from __future__ import annotations

import pickle
import time
from collections.abc import Mapping
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.errors import NonFiniteLossError
from sbi_flows.files import read_file
from sbi_flows.npe.network import PosteriorEstimator
from sbi_flows.npe.online import parallel, throughput
from sbi_flows.simulation.simulations import Block
from sbi_flows.simulation.supply import Supply

LOSS = PosteriorEstimator.loss
SMALL = {"width": 16, "layers": 2, "summary_features": 8}


@sf.simulator(sf.Prior(a=norm(0, 1), b=uniform(0.5, 1)))
def spread_out(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    return theta["a"][:, None] + theta["b"][:, None] * rng.standard_normal((len(theta["a"]), 3))


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    monkeypatch.setattr(parallel, "_LEAST_SECONDS", 0.5)
    monkeypatch.setattr(parallel, "_CLEARLY_FASTER", 0.0)
    # a busy machine may not move the simulator to a process
    monkeypatch.setattr(throughput, "_WORKERS_START_SECONDS", float("inf"))


class Pool(ThreadPoolExecutor):
    """A pool whose tasks end as `outcome` says; what they were given is kept."""

    outcome: BaseException | parallel.Trained
    given: list[bytes]

    def submit(self, function: Any, *args: Any, **options: Any) -> Future[Any]:
        self.given.append(args[0])
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        if isinstance(self.outcome, BaseException):
            future.set_exception(self.outcome)
        else:
            future.set_result(self.outcome)
        return future


def of_kind(posterior: sf.Posterior, kind: str) -> Mapping[str, Any]:
    """The values of the one note of a kind."""
    (note,) = (note for note in posterior.notes if note.kind == kind)
    return note.values


def pool(outcome: BaseException | parallel.Trained) -> tuple[type[Pool], list[bytes]]:
    given: list[bytes] = []
    return type("Made", (Pool,), {"outcome": outcome, "given": given}), given


def test_two_networks_are_trained_on_two_cores_and_mixed(two_cores: None, tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "run.checkpoint"
    settings = sf.FitSettings(**SMALL)
    posterior = sf.fit(spread_out, minutes=0.5, seed=1, settings=settings, checkpoint=path, say=said.append)
    assert said[1:-1] == [*posterior.notes]
    assert of_kind(posterior, "networks in parallel")["networks"] == 2
    assert len(of_kind(posterior, "mixture")["weights"]) == 2
    assert posterior.settings.members == 2
    network = posterior.estimator
    assert float(network.mixture_weights.sum()) == pytest.approx(1)
    one, other = (member.flow.state_dict() for member in network.members)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert posterior.facts["simulations"] > of_kind(posterior, "rows of other networks")["used"]
    posterior.save(tmp_path / "p.safetensors")
    assert sf.load(tmp_path / "p.safetensors").sample([0.1, 0.2, 0.3], 500, seed=1).verdict.ok
    assert (tmp_path / "run.checkpoint").is_file()
    assert (tmp_path / "run.checkpoint.1").is_file()


def test_a_further_network_trains_on_blocks_of_its_own_from_other_weights(
    two_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, given = pool(BrokenExecutor("a worker was killed"))
    monkeypatch.setattr(parallel, "local_workers", lambda count: lambda: made(1))
    sf.fit(spread_out, minutes=0.1, seed=1, settings=sf.FitSettings(**SMALL), say=None)
    numbers: list[int] = []
    take = Supply.take

    def counted(supply: Supply, seconds: float = 0.0) -> Block | None:
        block = take(supply, seconds)
        numbers.extend([] if block is None else [supply.number(block)])
        return block

    monkeypatch.setattr(Supply, "take", counted)
    task = parallel.unpacked(given[0])
    numbers_of, tensors = task.start.train
    few = replace(task.start, train=(numbers_of[:100], tuple(part[:100] for part in tensors)))
    found = parallel._train(parallel.packed(replace(task, start=few, until=time.monotonic() + 3)))
    assert found.used > 0
    assert found.history.valid_loss[-1] < found.history.valid_loss[0] + 0.5
    assert min(numbers) >= 2**28
    assert len(set(numbers)) == len(numbers)


def test_a_network_whose_process_ends_is_left_out_and_noted(
    two_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "local_workers", lambda count: lambda: pool(BrokenExecutor("killed"))[0](1))
    posterior = sf.fit(spread_out, minutes=0.1, seed=1, settings=sf.FitSettings(**SMALL), say=None)
    assert posterior.settings.members == 1
    assert of_kind(posterior, "network left out") == {"network": 2, "reason": "BrokenExecutor: killed"}
    assert len(posterior.sample([0.1, 0.2, 0.3], 100, seed=1)) == 100


def test_a_further_network_that_diverges_leaves_its_rows_on_disk(
    two_cores: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, given = pool(BrokenExecutor("a worker was killed"))
    monkeypatch.setattr(parallel, "local_workers", lambda count: lambda: made(1))
    sf.fit(spread_out, minutes=0.1, seed=1, settings=sf.FitSettings(**SMALL), say=None)
    task = parallel.unpacked(given[0])
    path = str(tmp_path / "run.1")
    monkeypatch.setattr(
        PosteriorEstimator, "loss", lambda self, u, y: -self.flow.log_prob(u, self.summary(y)) * float("nan")
    )
    with pytest.raises(NonFiniteLossError) as caught:
        parallel._train(parallel.packed(replace(task, checkpoint=path, until=time.monotonic() + 60)))
    sent = pickle.loads(pickle.dumps(caught.value))
    assert sent.__notes__ == [f"theta and y of those rows are in {path}.rows."]
    arrays, _ = read_file(f"{path}.rows", "offending rows")
    assert sorted(arrays["rows"]) == sorted(caught.value.rows)
    few = arrays["rows"] < len(task.start.train[0])
    simulations = sf.simulate(spread_out, len(task.start.train[0]), seed=1)
    assert few.any()
    assert np.array_equal(arrays["theta"][few], simulations.theta[arrays["rows"][few]])

    monkeypatch.setattr(parallel, "local_workers", lambda count: lambda: pool(sent)[0](1))
    monkeypatch.setattr(PosteriorEstimator, "loss", LOSS)
    posterior = sf.fit(spread_out, minutes=0.1, seed=1, settings=sf.FitSettings(**SMALL), say=None)
    assert f"{path}.rows" in of_kind(posterior, "network left out")["reason"]


def test_a_network_that_began_too_late_is_left_out_and_noted(
    two_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained = parallel.Trained({}, parallel.History(), 0, 0)
    monkeypatch.setattr(parallel, "local_workers", lambda count: lambda: pool(untrained)[0](1))
    posterior = sf.fit(spread_out, minutes=0.1, seed=1, settings=sf.FitSettings(**SMALL), say=None)
    assert "too late" in of_kind(posterior, "network left out")["reason"]


@pytest.mark.parametrize(
    "error",
    [NonFiniteLossError("the loss became nan", np.array([3])), ModuleNotFoundError("No module named 'mine'")],
)
def test_whatever_happens_to_a_further_network_the_fit_stands(
    two_cores: None, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "local_workers", lambda count: lambda: pool(error)[0](1))
    posterior = sf.fit(spread_out, minutes=0.1, seed=1, settings=sf.FitSettings(**SMALL), say=None)
    assert posterior.settings.members == 1
    assert of_kind(posterior, "network left out")["reason"] == f"{type(error).__name__}: {error}"


def test_where_no_process_can_be_started_one_network_is_trained(
    two_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> None:
        raise OSError("no semaphores here")

    monkeypatch.setattr(parallel, "local_workers", lambda count: refused)
    posterior = sf.fit(spread_out, minutes=0.1, seed=1, settings=sf.FitSettings(**SMALL), say=None)
    assert "OSError: no semaphores here" in of_kind(posterior, "one network")["error"]


def test_a_simulator_that_cannot_be_sent_has_one_network_and_it_is_noted(two_cores: None) -> None:
    lock = __import__("threading").Lock()

    @sf.simulator(spread_out.prior)
    def bound(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        with lock:
            return theta["a"][:, None] + theta["b"][:, None] * rng.standard_normal((len(theta["a"]), 3))

    posterior = sf.fit(bound, minutes=0.1, seed=1, settings=sf.FitSettings(**SMALL), say=None)
    assert posterior.settings.members == 1
    assert "cannot be sent" in of_kind(posterior, "one network")["error"]


@pytest.mark.parametrize(
    ("asked", "cores", "faster", "left", "wanted"),
    [
        (None, 2, 10.0, 60.0, (2, "")),
        (None, 16, 10.0, 60.0, (4, "")),
        (3, 16, 10.0, 60.0, (3, "")),
        (8, 2, 10.0, 60.0, (2, "cores")),
        (8, 1, 10.0, 60.0, (1, "cores")),
        (1, 16, 10.0, 60.0, (1, "")),
        (None, 1, 10.0, 60.0, (1, "")),
        (None, 2, 1.5, 60.0, (1, "slow simulator")),
        (None, 2, 10.0, 20.0, (1, "time")),
    ],
)
def test_there_is_one_network_per_core_where_simulating_leaves_them_idle(
    asked: int | None,
    cores: int,
    faster: float,
    left: float,
    wanted: tuple[int, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parallel, "usable_cores", lambda: cores)
    assert parallel.how_many(asked, faster, left) == wanted


def test_fewer_networks_than_asked_for_are_noted() -> None:
    posterior = sf.fit(
        spread_out, minutes=0.1, seed=1, settings=sf.FitSettings(**SMALL, members=64), say=None
    )
    fewer = of_kind(posterior, "fewer networks")
    assert (fewer["networks"], fewer["asked"]) == (1, 64)


def test_a_further_network_resumes_only_from_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "run"
    sf.fit(
        spread_out,
        minutes=0.05,
        seed=1,
        settings=sf.FitSettings(**SMALL, members=1),
        checkpoint=tmp_path / "run.1",
        say=None,
    )
    assert parallel._path(str(path), 1, resumes=True) == f"{path}.1"
    assert parallel._path(str(path), 2, resumes=True) is None
    assert parallel._path(None, 1, resumes=False) is None
    assert parallel._path(str(path), 1, resumes=False) == f"{path}.1"
    assert not (tmp_path / "run.1").exists(), "a new run does not take up what another has left"
