"""The Ricker model against exact posteriors by particle MCMC, and against its own held-out pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sbi_flows as sf
from simulators.ricker import ricker

pytestmark = pytest.mark.slow

EXACT = np.load(Path(__file__).parent.parent / "data" / "ricker_exact.npz")
SETS = sorted({name.split("/")[0] for name in EXACT.files})


@pytest.fixture(scope="module")
def posterior() -> sf.Posterior:
    """100,000 simulations, 500,000 rows seen: about a minute on two cores."""
    settings = sf.FitSettings(members=1, train=sf.TrainSettings(epochs=10, weight_decay=0.03))
    return sf.fit(ricker, n_simulations=100_000, seed=1, settings=settings, say=None)


def test_held_out_pairs_have_high_density(posterior: sf.Posterior) -> None:
    """5,000 pairs; the Monte Carlo error of the mean is about 0.03 nats."""
    rng = np.random.default_rng(77)
    theta = ricker.prior.sample(5000, rng)
    assert -posterior.log_prob(theta, ricker.run(theta, rng)).mean() <= -1.5


def test_posterior_means_and_widths_agree_with_the_exact_ones(posterior: sf.Posterior) -> None:
    offsets, ratios = [], []
    for name in SETS:
        draws = posterior.sample(EXACT[f"{name}/x_obs"], 4000, seed=1)
        assert draws.verdict.ok, f"{name}: {draws.verdict}"
        values = draws.to_numpy()
        offsets.append(np.abs((values.mean(axis=0) - EXACT[f"{name}/mean"]) / EXACT[f"{name}/sd"]).max())
        ratios.append(values.std(axis=0) / EXACT[f"{name}/sd"])
    assert np.mean(offsets) <= 1.5
    assert np.min(ratios) >= 0.8
    assert np.max(ratios) <= 3.0


@pytest.mark.parametrize("name", ["classic_T100_1", "prior_T100_3"])
def test_importance_sampling_from_the_neural_posterior_gives_the_exact_one(
    posterior: sf.Posterior, name: str
) -> None:
    """Means within 5 standard errors of both samples together (false-alarm rate 3e-6 for six of them), sd
    within a quarter.
    """
    draws = posterior.refine(EXACT[f"{name}/x_obs"].astype(float), ricker, n=1500, seed=2)
    assert draws.facts["exact"], draws.verdict
    mean, sd = EXACT[f"{name}/mean"], EXACT[f"{name}/sd"]
    summary = draws.summary()
    error = sd * np.sqrt(1 / draws.ess + 1 / 1500)
    assert (np.abs(summary["mean"].to_numpy() - mean) < 5 * error).all()
    assert (np.abs(summary["sd"].to_numpy() / sd - 1) < 0.25).all()
    assert draws.facts["log_evidence"] == pytest.approx(float(EXACT[f"{name}/log_evidence"]), abs=0.5)


def test_what_the_simulator_cannot_make_is_not_trusted(posterior: sf.Posterior) -> None:
    y = EXACT["classic_T100_0/x_obs"].astype(float)
    for changed in (100 * y, y + np.linspace(0, 300, 100), np.sort(y)):
        assert not posterior.sample(changed.round(), 100, seed=1).verdict.ok
