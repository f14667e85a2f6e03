"""sf.fit(minutes=...): what it says and records, and how it ends when the simulator, the user or the machine
will not play along.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.errors import (
    NonFiniteLossError,
    SimulationWarning,
    TooFewSimulationsError,
    TooManyFailuresError,
    WorkerError,
)
from sbi_flows.files import read_file
from sbi_flows.npe.network import PosteriorEstimator
from sbi_flows.simulation.simulations import Block
from sbi_flows.training.checkpoint import recorded_state

F = np.ndarray
SMALL = sf.FitSettings(width=16, layers=2, summary_features=8)
MINUTES = 0.03


def left_behind() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sbi_flows supply"]


def model(trouble: Any = lambda y: y, *, vectorized: bool = True) -> sf.Simulator:
    @sf.simulator(sf.Prior(a=norm(0, 1), b=uniform(0.5, 1)), vectorized=vectorized)
    def model(theta: dict[str, Any], rng: np.random.Generator) -> F:
        a, b = np.asarray(theta["a"]), np.asarray(theta["b"])
        return np.asarray(trouble(a[..., None] + b[..., None] * rng.standard_normal((*a.shape, 3))))

    return model


class Gate:
    """Lets n calls of a simulator through, then holds them up until it is opened."""

    def __init__(self, calls: int) -> None:
        self.left, self.opened = calls, threading.Event()

    def __call__(self, y: F) -> F:
        self.left -= 1
        if self.left < 0:
            self.opened.wait(60)
        return y

    def open(self) -> None:
        self.opened.set()
        for thread in left_behind():
            thread.join(60)
        assert left_behind() == []


def test_simulating_continues_while_training_and_is_noted(tmp_path: Path) -> None:
    said: list[Any] = []
    threads = torch.get_num_threads()
    posterior = sf.fit(model(), minutes=MINUTES, seed=1, settings=SMALL, say=said.append)
    trained, apart = posterior.history, posterior.facts["simulations"]
    assert [note.kind for note in said[:1]] == ["starting set"]
    notes = {note.kind: note.values for note in posterior.notes}
    assert notes["rates"]["workers"] == 0
    assert notes["rates"]["training"] > 0
    assert notes["threads"]["threads"] >= 1
    assert notes["rows used"]["used"] < apart
    assert trained.stopped == "time"
    assert posterior.facts["failed"] == 0
    assert posterior.facts["minutes"] == MINUTES
    assert posterior.facts["block_size"] == 1000
    assert set(posterior.seconds) == {"simulate", "train"}
    assert torch.get_num_threads() == threads
    assert left_behind() == []
    posterior.save(tmp_path / "p")
    assert sf.load(tmp_path / "p").facts["simulations"] == apart
    assert posterior.sample(np.zeros(3), 100, seed=1).to_numpy().shape == (100, 2)


def test_a_simulator_that_stops_answering_does_not_hold_up_the_fit() -> None:
    gate = Gate(40)
    with pytest.warns(SimulationWarning, match="left behind in a thread"):
        posterior = sf.fit(model(gate), minutes=MINUTES, seed=1, settings=SMALL, say=None)
    assert posterior.history.stopped == "time"
    gate.open()


def test_a_simulator_that_never_answers_is_given_up_in_words() -> None:
    gate = Gate(0)
    with pytest.raises(
        TooFewSimulationsError,
        match="0 usable simulations in 0.48 s, of the 50 without which training cannot begin",
    ):
        sf.fit(model(gate), minutes=0.01, seed=1, settings=SMALL, say=None)
    gate.open()


def test_too_many_failures_and_lost_machines_end_the_fit_with_their_own_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def often(y: F) -> F:
        y[y[:, 0] > -1.0] = np.nan
        return y

    with pytest.raises(
        TooManyFailuresError, match="simulations failed, more than max_failures=0.5"
    ) as caught:
        sf.fit(model(often), minutes=MINUTES, seed=1, settings=SMALL, say=None)
    assert "fit itself has no max_failures: to allow more, simulate with" in " ".join(caught.value.__notes__)

    from sbi_flows.simulation.supply import make_block

    def lost(campaign: Any, k: int, rows: int, runner: Any) -> Block:
        if k > 30:
            raise WorkerError("lost")
        return make_block(campaign, k, rows, runner)

    monkeypatch.setattr("sbi_flows.simulation.supply.make_block", lost)
    with pytest.raises(WorkerError, match="lost"):
        sf.fit(model(), minutes=0.2, seed=1, settings=SMALL, say=None)
    assert left_behind() == []


def test_rows_that_fail_now_and_then_are_left_out_and_counted() -> None:
    def sometimes(y: F) -> F:
        y[y[:, 0] > 1.0] = np.nan
        return y

    with pytest.warns(SimulationWarning, match="simulations of model failed"):
        posterior = sf.fit(model(sometimes), minutes=MINUTES, seed=1, settings=SMALL, say=None)
    assert posterior.facts["failed"] > 0.05 * posterior.facts["simulations"]
    assert posterior.notes[0].kind == "failures"


def test_ctrl_c_leaves_nothing_running() -> None:
    def pressed(done: int, total: int, text: str) -> None:
        raise KeyboardInterrupt

    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        sf.fit(model(), minutes=1, seed=1, settings=SMALL, say=None, progress=pressed)
    assert left_behind() == []
    assert torch.get_num_threads() == threads


def test_a_checkpoint_resumes_with_later_rows_in_the_time_that_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sbi_flows.training.loop._CHECKPOINT_SECONDS", -1.0)

    class Killed(Exception):
        pass

    def kill(done: int, total: int, text: str) -> None:
        if (tmp_path / "run").exists():
            raise Killed

    with pytest.raises(Killed):
        sf.fit(
            model(),
            minutes=0.06,
            seed=1,
            settings=SMALL,
            say=None,
            checkpoint=tmp_path / "run",
            progress=kill,
        )
    _, first = recorded_state(tmp_path / "run")
    posterior = sf.fit(model(), minutes=0.06, seed=1, settings=SMALL, say=None, checkpoint=tmp_path / "run")
    _, last = recorded_state(tmp_path / "run")
    assert first["start"] == last["start"]
    assert first["held_out"] == last["held_out"]
    assert first["next"] <= last["next"]
    assert first["used"] < last["used"]
    assert posterior.facts["simulations"] == last["used"] + last["held_out"]
    assert posterior.history.stopped == "time"
    again = sf.fit(model(), minutes=0.06, seed=1, settings=SMALL, say=None, checkpoint=tmp_path / "run")
    assert again.history == posterior.history
    with pytest.raises(sf.errors.BankMismatchError, match="another run"):
        sf.fit(model(), n_simulations=400, seed=1, settings=SMALL, say=None, checkpoint=tmp_path / "run")


def test_a_diverging_fit_leaves_the_rows_of_the_campaign_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [0]

    def broken(self: PosteriorEstimator, u: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        steps[0] += self.training
        return -self.flow.log_prob(u, self.summary(y)) * (float("nan") if steps[0] > 300 else 1.0)

    monkeypatch.setattr(PosteriorEstimator, "loss", broken)
    with pytest.raises(NonFiniteLossError) as caught:
        sf.fit(model(), minutes=1, seed=1, settings=SMALL, say=None, checkpoint=tmp_path / "run")
    arrays, _ = read_file(tmp_path / "run.rows", "offending rows")
    simulations = sf.simulate(model(), int(caught.value.rows.max()) + 1, seed=1)
    assert sorted(arrays["rows"]) == sorted(caught.value.rows)
    assert np.array_equal(arrays["theta"], simulations.theta[arrays["rows"]])
    assert np.array_equal(arrays["y"], simulations.y[arrays["rows"]])
