"""What a fit is made of: settings that are checked, notes that say what was chosen, rows that are saved when
training fails.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sbi_flows as sf
from sbi_flows.errors import (
    NonFiniteLossError,
    SettingsError,
    ShapeError,
    SimulationWarning,
    TooFewSimulationsError,
)
from sbi_flows.files import read_file
from sbi_flows.notes import Notes
from sbi_flows.npe.design import sized
from sbi_flows.npe.network import PosteriorEstimator
from sbi_flows.npe.settings import size_for, training_for
from simulators.gaussian import make_gaussian

from ..conftest import QUICK


def test_settings_are_checked_and_survive_json() -> None:
    settings = sf.FitSettings(flow="maf", layers=3, train=sf.TrainSettings(epochs=7))
    assert sf.FitSettings.from_json(settings.to_json()) == settings
    assert sf.FitSettings.from_json(sf.FitSettings().to_json()) == sf.FitSettings()
    for wrong, words in (
        ({"flow": "x"}, "flow must be .auto., one of"),
        ({"layers": 1}, "layers must be"),
        ({"steps": 3}, "layers=3"),
        ({"hidden": 3}, "width=3"),
        ({"features": 3}, "summary_features=3"),
        ({"size": "huge"}, "size must be 'auto', 'small', 'medium', 'large', got 'huge'"),
        ({"summary": "image"}, "summary must be"),
    ):
        with pytest.raises(SettingsError, match=words):
            sf.FitSettings(**wrong)


def test_a_size_fills_in_what_is_left_open_and_is_said(bounded: sf.Simulator) -> None:
    assert [
        size_for(d, "vector", timed=timed)[0]
        for d, timed in ((1, False), (3, True), (16, False), (17, False), (17, True))
    ] == [*("medium", "small", "medium", "large", "large")]
    assert size_for(3, "series", timed=False)[0] == "small"
    notes = Notes()
    assert sized(sf.FitSettings(width=16), 3, "vector", False, notes).built == (5, 16, 32)
    assert sized(sf.FitSettings(size="large", layers=2), 3, "vector", False, notes).built == (2, 256, 64)
    assert sized(QUICK, 3, "vector", True, notes).built == (2, 16, 8)
    assert [(note.kind, note.values["size"], note.values["reason"]) for note in notes] == [
        ("size", "medium", "vector")
    ]
    settings = sf.FitSettings(size="small", members=1, train=sf.TrainSettings(epochs=1))
    posterior = sf.fit(bounded, n_simulations=200, seed=1, settings=settings, say=None)
    assert (posterior.settings.layers, posterior.settings.width, posterior.settings.summary_features) == (
        3,
        64,
        32,
    )


def test_fewer_simulations_are_seen_more_often_and_decay_more() -> None:
    few, some, many, timed = (
        training_for(1_000, timed=False),
        training_for(10_000, timed=False),
        training_for(200_000, timed=False),
        training_for(200_000, timed=True),
    )
    assert few.epochs == 200
    assert some.epochs == 100
    assert many.epochs == 60
    assert training_for(10_000_000, timed=False).epochs == 200
    assert (few.batch_size, some.batch_size, many.batch_size, timed.batch_size) == (64, 128, 256, 128)
    assert few.weight_decay > many.weight_decay
    assert timed.epochs > 10_000
    assert (
        training_for(10_000, timed=False, kind="series").weight_decay
        > training_for(10_000, timed=False).weight_decay
    )


def test_what_was_chosen_is_said_and_kept(bounded: sf.Simulator) -> None:
    said: list[Any] = []
    posterior = sf.fit(bounded, n_simulations=400, seed=1, settings=QUICK, say=said.append)
    assert [note.kind for note in said] == [
        "simulations held", "summary network", "scaling", "flow", "training ended", "not resolved"
    ]  # fmt: skip
    assert (said[0].values["buffers"], said[0].values["needed"]) == (False, 400 * (5 * 8 + 5 * 4))
    assert posterior.notes == (*said[1:4], said[5])
    assert posterior.notes[0].values["network"] == "vector"
    assert (said[3].values["flow"], said[3].values["layers"], said[3].values["width"]) == (
        "nsf_natural",
        2,
        16,
    )
    assert str(said[2]) == "scaling of y: 3 columns linear, then standardised"
    assert posterior.settings.summary == "vector"


def test_rows_that_failed_are_left_out_and_said() -> None:
    @sf.simulator(sf.Prior(a=make_gaussian(1).prior.marginals["theta_1"].distribution), event_shape=(2,))
    def leaky(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        y = theta["a"][:, None] + rng.standard_normal((len(theta["a"]), 2))
        y[theta["a"] > 1] = np.nan
        return y

    with pytest.warns(SimulationWarning, match="simulations failed"):
        posterior = sf.fit(leaky, n_simulations=1000, seed=1, settings=QUICK, say=None)
    assert posterior.facts["simulations"] + posterior.facts["failed"] == 1000
    assert (
        f"{posterior.facts['failed']} of 1,000 simulations failed ({posterior.facts['failed']} nonfinite)"
        in posterior.notes[0]
    )
    assert "truncates the prior" in posterior.notes[0]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_diverging_fit_stops_with_its_rows_on_disk(
    bounded: sf.Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    if streamed:
        monkeypatch.setattr("sbi_flows.npe.out_of_core.free_memory", lambda: 0)

    def broken(self: PosteriorEstimator, u: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return -self.flow.log_prob(u, self.summary(y)) * float("nan")

    monkeypatch.setattr(PosteriorEstimator, "loss", broken)
    with pytest.raises(NonFiniteLossError, match="epoch 0 in step 0") as caught:
        sf.fit(bounded, n_simulations=400, seed=1, settings=QUICK, say=None, checkpoint=tmp_path / "run")
    arrays, _ = read_file(tmp_path / "run.rows", "offending rows")
    simulations = sf.simulate(bounded, 400, seed=1)
    assert np.array_equal(arrays["theta"], simulations.theta[caught.value.rows])
    assert np.array_equal(arrays["y"], simulations.y[caught.value.rows])


def test_a_fit_with_a_checkpoint_has_the_weights_of_one_without(
    bounded: sf.Simulator, tmp_path: Path
) -> None:
    posteriors = [
        sf.fit(bounded, n_simulations=400, seed=1, settings=QUICK, say=None, checkpoint=path)
        for path in (None, tmp_path / "run", tmp_path / "run")
    ]
    weights = [
        {name: value.numpy().tobytes() for name, value in p.estimator.state_dict().items()}
        for p in posteriors
    ]
    assert weights[0] == weights[1] == weights[2]


def test_a_time_budget_is_split_between_simulating_and_training(bounded: sf.Simulator) -> None:
    posterior = sf.fit(bounded, minutes=0.03, seed=1, say=None)
    assert posterior.history.stopped in ("time", "patience")
    assert posterior.facts["minutes"] == 0.03
    assert posterior.facts["simulations"] >= 100


def test_options_that_do_not_go_together_are_refused_in_words(bounded: sf.Simulator) -> None:
    simulations = sf.simulate(bounded, 400, seed=1)
    with pytest.raises(SettingsError, match="give one of simulations, n_simulations and minutes"):
        sf.fit(bounded, simulations=simulations, n_simulations=10)
    with pytest.raises(SettingsError, match="minutes must be a positive number"):
        sf.fit(bounded, minutes=-1)
    with pytest.raises(TooFewSimulationsError, match="49 usable simulations"):
        sf.fit(bounded, n_simulations=49, say=None)
    with pytest.raises(ShapeError, match="Simulate again"):
        sf.fit(make_gaussian(2), simulations=simulations)
    with pytest.raises(SettingsError, match="takes a simulator made with"):
        sf.fit(lambda theta, rng: theta)  # type: ignore[arg-type]
