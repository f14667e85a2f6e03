"""What a fit learned, in nats over the prior, and the verdict where that is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.diagnostics.recovery import Gain
from sbi_flows.posterior.amortised import nothing_learned
from sbi_flows.posterior.gain import gain_over_prior

QUICK = sf.FitSettings(
    width=16, layers=2, summary_features=8, members=1, flow="maf", train=sf.TrainSettings(epochs=10)
)


def model(*, informative: bool, missing: bool = False) -> sf.Simulator:
    @sf.simulator(sf.Prior(a=norm(0, 1), b=uniform(0, 1)), event_shape=(3,), missing=missing)
    def model(theta: Any, rng: np.random.Generator) -> np.ndarray:
        noise = rng.standard_normal((len(theta["a"]), 3))
        return np.asarray(theta["a"][:, None] + 0.6 * noise) if informative else noise

    return model


@pytest.fixture(scope="module")
def learned() -> sf.Posterior:
    """A fit of data that tell much of a."""
    return sf.fit(model(informative=True), n_simulations=600, settings=QUICK, say=None)


@pytest.fixture(scope="module")
def nothing() -> sf.Posterior:
    """A fit of data that tell nothing."""
    return sf.fit(model(informative=False), n_simulations=600, settings=QUICK, say=None)


Y = np.array([[0.1, 0.2, 0.15], [-0.3, -0.2, -0.4]])


def test_a_fit_that_learned_nothing_says_so_and_is_never_trusted(nothing: sf.Posterior) -> None:
    (note,) = (note for note in nothing.notes if note.kind == "nothing learned")
    assert note.values["gain"] == nothing.facts["gain"]
    draws = nothing.sample(Y, 10)
    assert {verdict.level for verdict in draws.verdicts} <= {"caution", "do not trust"}
    assert all("learned nothing" in verdict.text for verdict in draws.verdicts)
    rng = np.random.default_rng(0)
    fresh = nothing.sample(rng.standard_normal((100, 3)), 1).verdicts
    assert not any(verdict.ok for verdict in fresh)


def test_a_fit_that_learned_something_says_how_much_and_what_the_verdict_covers(
    learned: sf.Posterior,
) -> None:
    gain = learned.facts["gain"]
    mutual_information = 0.5 * np.log(1 + 3 / 0.1**2)
    assert 3 * learned.facts["gain_error"] < gain < mutual_information + 5 * learned.facts["gain_error"]
    assert not any(note.kind == "nothing learned" for note in learned.notes)
    verdict = learned.sample(Y[0], 10).verdict
    assert verdict.ok
    assert f"gained {gain:.2f} nats" in verdict.text
    assert "sf.check" in verdict.text


def test_the_gain_is_in_the_file(nothing: sf.Posterior, tmp_path: Path) -> None:
    nothing.save(tmp_path / "p.safetensors")
    loaded = sf.load(tmp_path / "p.safetensors")
    assert loaded.facts["gain"] == nothing.facts["gain"]
    assert loaded.sample(Y[0], 10).verdict == nothing.sample(Y[0], 10).verdict


def test_the_gain_is_the_mean_log_density_over_that_of_the_prior(learned: sf.Posterior) -> None:
    sims = sf.simulate(model(informative=True), 50, seed=9)
    rows = np.arange(50)
    gained = learned.log_prob(sims.theta, sims.y) - learned.prior.log_prob(sims.theta)
    found = gain_over_prior(learned, sims, rows, 0)
    assert found.mean == pytest.approx(gained.mean())
    assert found.error == pytest.approx(gained.std(ddof=1) / np.sqrt(50))
    assert np.isnan(gain_over_prior(learned, sims, rows[:1], 0).mean)


def test_nothing_is_less_than_three_standard_errors() -> None:
    assert nothing_learned(Gain(0.29, 0.1))
    assert not nothing_learned(Gain(0.31, 0.1))
    assert nothing_learned(Gain(-1.0, 0.1))
    assert nothing_learned(Gain(0.0, 0.0))
    assert not nothing_learned(Gain(float("nan"), float("nan")))


def test_a_map_under_the_vector_network_that_learns_nothing_is_not_trusted() -> None:
    """A blob at a place on a map; too few simulations for a vector of 144 numbers to tell."""

    @sf.simulator(sf.Prior(a=uniform(0, 1), b=uniform(0, 1)), data=sf.Vector(), event_shape=(12, 12))
    def blob(theta: Any, rng: np.random.Generator) -> np.ndarray:
        place = np.linspace(0, 1, 12)
        near = np.exp(-((place[:, None] - theta["a"]) ** 2) / 0.02).T[:, :, None]
        near = near * np.exp(-((place[:, None] - theta["b"]) ** 2) / 0.02).T[:, None, :]
        return np.asarray(rng.random((len(theta["a"]), 12, 12)) < 0.02 + 0.1 * near).astype(np.float64)

    settings = sf.FitSettings(
        width=16, layers=2, summary_features=8, members=1, flow="maf", train=sf.TrainSettings(epochs=1)
    )
    posterior = sf.fit(blob, n_simulations=400, settings=settings, say=None)
    y = sf.simulate(blob, 20, seed=3).y
    assert not any(verdict.ok for verdict in posterior.sample(y, 1).verdicts)
