"""Pairs without their simulator: what can be done is done, what would need it says so."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.errors import SettingsError, TooFewSimulationsError
from sbi_flows.simulation.stand_in import stand_in

PRIOR = sf.Prior(mean=norm(0, 1))
QUICK = sf.FitSettings(train=sf.TrainSettings(epochs=3), members=2)


def given(n: int, seed: int) -> sf.Simulations:
    rng = np.random.default_rng(seed)
    theta = PRIOR.sample(n, rng)
    return sf.Simulations.from_arrays(PRIOR, theta, theta + 0.5 * rng.standard_normal((n, 4)))


SIMS = given(1500, 1)


@pytest.fixture(scope="module")
def posterior() -> sf.Posterior:
    return sf.fit(simulations=SIMS, settings=QUICK, say=None)


def test_it_has_the_face_of_a_simulator_and_says_why_it_cannot_be_called() -> None:
    found = stand_in(SIMS)
    assert (found.name, found.prior, found.event_shape) == ("given pairs", PRIOR, (4,))
    for one in (found, pickle.loads(pickle.dumps(found))):
        with pytest.raises(SettingsError, match="made elsewhere"):
            one.run(SIMS.theta[:3], np.random.default_rng(0))


def test_a_posterior_of_given_pairs_is_one(posterior: sf.Posterior) -> None:
    assert "1,500 simulations of 'given pairs'" in repr(posterior)
    draws = posterior.sample(SIMS.y[0], 200)
    assert draws.values.shape == (200, 1)


@pytest.mark.parametrize("option", [{"n_simulations": 500}, {"minutes": 0.1}, {}])
def test_a_fit_without_simulator_and_simulations_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="simulat"):
        sf.fit(say=None, **option)
    with pytest.raises(SettingsError, match="by name: simulations="):
        sf.fit(SIMS, say=None, **option) if not option else sf.fit(SIMS, say=None)  # type: ignore[arg-type]


def test_abc_on_given_pairs() -> None:
    draws = sf.rejection_abc(y_obs=SIMS.y[0], simulations=SIMS, quantile=0.1)
    assert draws.values.shape == (150, 1)
    assert draws.facts["simulator"] == "given pairs"
    with pytest.raises(SettingsError, match="y_obs="):
        sf.rejection_abc(simulations=SIMS)


def test_compare_on_given_pairs(posterior: sf.Posterior, tmp_path: Path) -> None:
    found = sf.compare(posterior, SIMS.y[0], simulations=given(1500, 2))
    assert list(found.draws) == ["neural posterior", "rejection ABC", "ABC, linear adjustment"]
    assert not found.predictive
    assert any("made elsewhere" in text for text in map(str, found.left_out))
    found.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "given pairs" in page
    assert "sbi-flows fit given" not in page
    with pytest.raises(SettingsError, match="without a simulator needs simulations="):
        sf.compare(posterior, SIMS.y[0])


def test_check_on_held_out_pairs(posterior: sf.Posterior) -> None:
    found = sf.check(posterior, simulations=given(300, 3))
    assert found.n == 300
    assert found.failed == 0
    at = sf.check(posterior, simulations=given(300, 3), n=250, y_obs=SIMS.y[0])
    assert at.n == 250
    assert any("made elsewhere" in text for text in map(str, at.left_out))
    with pytest.raises(TooFewSimulationsError, match="50 of 50 simulations are usable"):
        sf.check(posterior, simulations=given(50, 3))


def test_check_on_pairs_that_were_trained_on_is_refused(posterior: sf.Posterior) -> None:
    part = sf.Simulations.from_arrays(PRIOR, SIMS.theta[200:700], SIMS.y[200:700])
    for pairs in (SIMS, part):
        with pytest.raises(SettingsError, match="was trained on these pairs"):
            sf.check(posterior, simulations=pairs)
