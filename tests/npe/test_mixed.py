"""Ensembles whose members have different flows: trained, weighed, saved and drawn from as one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.errors import SettingsError
from sbi_flows.flows.matching import FlowMatching

from ..conftest import QUICK

MIXED = replace(QUICK, flow=("nsf", "matching"), members=2)


@pytest.fixture(scope="module")
def posterior(unbounded: sf.Simulator) -> sf.Posterior:
    return sf.fit(unbounded, n_simulations=600, seed=2, settings=MIXED, say=None)


def test_several_flows_are_checked_and_survive_json() -> None:
    settings = sf.FitSettings(flow=["nsf", "matching"])  # type: ignore[arg-type]
    assert settings.flow == settings.flows == ("nsf", "matching")
    assert sf.FitSettings(flow="maf").flows == ("maf",)
    assert sf.FitSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    for wrong, words in (
        ({"flow": ()}, "flow must be .auto., one of .*matching.*, or a tuple"),
        ({"flow": ("nsf", "x")}, r"got \('nsf', 'x'\)"),
        ({"flow": ("nsf", "matching"), "members": 1}, "members must be at least 2, .* nsf, matching, got 1"),
    ):
        with pytest.raises(SettingsError, match=words):
            sf.FitSettings(**wrong)  # type: ignore[arg-type]


def test_members_take_the_flows_in_turn(posterior: sf.Posterior, unbounded: sf.Simulator) -> None:
    assert [isinstance(flow, FlowMatching) for flow in posterior.estimator.flows()] == [False, True]
    three = sf.fit(unbounded, n_simulations=200, seed=1, settings=replace(MIXED, members=3), say=None)
    assert [isinstance(flow, FlowMatching) for flow in three.estimator.flows()] == [False, True, False]
    left_open = replace(MIXED, members=None)
    both = sf.fit(unbounded, n_simulations=200, seed=1, settings=left_open, say=None)
    assert len(both.estimator.members) >= 2


def test_the_mixture_is_weighed_by_exact_densities(posterior: sf.Posterior, unbounded: sf.Simulator) -> None:
    (mixture,) = [note for note in posterior.notes if note.kind == "mixture"]
    losses, weights = mixture.values["losses"], mixture.values["weights"]
    assert mixture.values["loss"] < np.mean(losses)
    assert weights[int(np.argmin(losses))] > 0.5
    theta = np.linspace(-12, 12, 2001)[:, None]
    mass = np.exp(posterior.log_prob(theta, 1.0)).sum() * (theta[1, 0] - theta[0, 0])
    assert mass == pytest.approx(1, abs=1e-3)


def test_a_mixed_ensemble_is_saved_loaded_and_recalibrated(
    posterior: sf.Posterior, unbounded: sf.Simulator, tmp_path: Path
) -> None:
    posterior.save(tmp_path / "mixed.safetensors")
    loaded = sf.load(tmp_path / "mixed.safetensors")
    theta = np.linspace(-2, 2, 5)[:, None]
    assert np.array_equal(loaded.log_prob(theta, 1.0), posterior.log_prob(theta, 1.0))
    assert np.array_equal(loaded.sample(1.0, 50, seed=1).values, posterior.sample(1.0, 50, seed=1).values)
    better = sf.recalibrate(loaded, unbounded, n=600, n_check=200).posterior
    assert np.isfinite(better.log_prob(theta, 1.0)).all()


def test_a_known_posterior_is_recovered_by_flow_matching_alone() -> None:
    """theta ~ N(0, 1), y ~ N(theta, 0.5^2): the posterior is N(0.8 y, 0.2)."""

    @sf.simulator(sf.Prior(theta=norm(0, 1)), event_shape=(1,))
    def noisy(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return (theta["theta"] + 0.5 * rng.standard_normal(len(theta["theta"])))[:, None]

    settings = sf.FitSettings(flow="matching", size="small", members=1, width=32)
    fitted = sf.fit(noisy, n_simulations=3000, seed=1, settings=settings, say=None)
    fresh = sf.simulate(noisy, 500, seed=9)
    exact = norm(0.8 * fresh.y[:, 0], np.sqrt(0.2)).logpdf(fresh.theta[:, 0])
    gap = exact - fitted.log_prob(fresh.theta, fresh.y)
    assert gap.mean() < 0.03  # nats; not to know y would cost 0.8
    draws = fitted.sample([1.0], 4000, seed=1).values[:, 0]
    assert draws.mean() == pytest.approx(0.8, abs=0.06)
    assert draws.std() == pytest.approx(np.sqrt(0.2), abs=0.04)
