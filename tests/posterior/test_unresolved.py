"""A posterior far narrower than its network resolves is called so: by the fit, the verdict and the check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.diagnostics.resolution import Resolution
from sbi_flows.machine import torch_threads
from sbi_flows.posterior.betting import unresolved
from sbi_flows.posterior.unresolved import Unresolved

QUICK = sf.FitSettings(
    width=32, layers=2, summary_features=8, members=1, flow="maf", train=sf.TrainSettings(epochs=60)
)
WIDE = 1e5
Y_OBS = np.array([5e4, 0.3])


@sf.simulator(sf.Prior(a=uniform(0, WIDE), b=norm(0, 1)))
def far_apart(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Of a prior 1e5 wide one value with noise 1; of b, one with noise 0.5."""
    noise = rng.standard_normal((len(theta["a"]), 2))
    return np.stack([theta["a"], theta["b"]], axis=1) + np.array([1.0, 0.5]) * noise


@sf.simulator(sf.Prior(a=norm(0, 1), b=norm(0, 1)))
def plain(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Both with noise 0.5."""
    noise = rng.standard_normal((len(theta["a"]), 2))
    return np.stack([theta["a"], theta["b"]], axis=1) + 0.5 * noise


@pytest.fixture(scope="module")
def limited() -> sf.Posterior:
    """Of `far_apart`: the exact sd of a is 1."""
    return sf.fit(far_apart, n_simulations=1000, settings=QUICK, say=None)


@pytest.fixture(scope="module")
def resolved() -> sf.Posterior:
    return sf.fit(plain, n_simulations=1000, settings=QUICK, say=None)


def note_of(posterior: sf.Posterior) -> Any:
    return next((note for note in posterior.notes if note.kind == "not resolved"), None)


def test_the_fit_names_the_parameter_and_how_much_narrower_it_could_be(limited: sf.Posterior) -> None:
    """The half-width of the draws over the factor is the exact one, 1: to a factor of 3, since the posterior
    is not everywhere as wide.
    """
    note = note_of(limited)
    assert note.values["names"] == ["a"]
    low, high = np.quantile(limited.sample(Y_OBS, 2000)["a"], [0.16, 0.84])
    assert (high - low) / 2 > 50
    assert 1 / 3 < (high - low) / 2 / note.values["factors"][0] < 3


def test_the_verdict_is_caution_and_offers_to_refine(limited: sf.Posterior) -> None:
    verdict = limited.sample(Y_OBS, 10).verdict
    assert (verdict.level, verdict.of_data) == ("caution", "trust")
    assert "posterior.refine(y_obs, simulator)" in verdict.text
    assert limited.verdicts(np.array([5e7, 0.3]))[0].level == "do not trust"


def test_what_was_found_is_in_the_file(limited: sf.Posterior, tmp_path: Path) -> None:
    limited.save(tmp_path / "limited.safetensors")
    loaded = sf.load(tmp_path / "limited.safetensors")
    stack = np.column_stack([np.linspace(1e4, 9e4, 7), np.zeros(7)])
    assert loaded.verdicts(stack) == limited.verdicts(stack)
    assert loaded.notes == limited.notes
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "limited.safetensors").read_bytes()


def test_the_check_says_that_the_network_limits_it(limited: sf.Posterior) -> None:
    check = sf.check(limited, far_apart, n=400, y_obs=Y_OBS)
    found = {one.test: one for one in check.outcomes}
    assert found["resolution"].level == "caution"
    assert found["resolution"].quantity == "a"
    assert found["resolution"].statistic > found["resolution"].limit
    assert "posterior.refine(y_obs, simulator)" in check.text
    assert found["resolution at y_obs"].level == "caution"
    assert found["misspecification"].level == "trust"


def test_a_resolved_posterior_is_not_called(resolved: sf.Posterior, tmp_path: Path) -> None:
    assert resolved.unresolved is None
    assert note_of(resolved) is None
    assert resolved.sample(np.zeros(2), 10).verdict.ok
    found = {one.test: one for one in sf.check(resolved, plain, n=400, y_obs=[0.1, 0.2]).outcomes}
    assert found["resolution"].level == found["resolution at y_obs"].level == "trust"
    resolved.save(tmp_path / "resolved.safetensors")
    assert sf.load(tmp_path / "resolved.safetensors").unresolved is None


def test_what_is_found_is_the_same_for_any_number_of_torch_threads(limited: sf.Posterior) -> None:
    simulations, rows = sf.simulate(far_apart, 400, seed=9), np.arange(400)
    found = []
    for threads in (1, 2):
        with torch_threads(threads):
            lost = unresolved(limited, simulations, rows[:300], rows[300:], 0)
        assert lost is not None
        found.append(lost)
    np.testing.assert_array_equal(found[0].log_e, found[1].log_e)
    assert found[0].summaries.shape == (100, 8)
    assert found[0].factors == found[1].factors


def test_gaps_are_those_of_training() -> None:
    """With one of both values missing in 30%, a is still called."""
    settings, gaps = replace(QUICK, train=sf.TrainSettings(epochs=15)), sf.gaps(share=(0, 0.3))
    posterior = sf.fit(far_apart, n_simulations=600, observe=gaps, settings=settings, say=None)
    assert note_of(posterior).values["names"] == ["a"]
    assert posterior.sample([5e4, np.nan], 10).verdict.level == "caution"


def test_a_fault_in_a_part_of_the_data_space_is_said_there_only() -> None:
    places = np.linspace(0, 1, 100)[:, None]
    log_e = np.where(places[:, 0] < 0.3, 2.0, 0.0)
    found = Resolution("a", log_e, float(log_e.sum()), 0.3, 40.0)
    lost = Unresolved.of([found, Resolution("b", 0 * log_e, 0.0, 0.0, 1.0)], places)
    assert lost is not None
    here, elsewhere = lost.at(np.array([[0.1], [0.8]]))
    assert elsewhere is None
    assert here is not None
    assert (here.kind, here.values) == ("not resolved here", {"names": ["a"], "factors": [40.0]})
    assert "a about 40 times" in here


@pytest.mark.parametrize(("evidence", "factor"), [(9.0, 50.0), (500.0, 2.9)])
def test_little_evidence_or_a_slight_fault_is_not_kept(evidence: float, factor: float) -> None:
    found = Resolution("a", np.full(200, evidence / 200), evidence, 1.0, factor)
    assert Unresolved.of([found], np.zeros((200, 1))) is None
