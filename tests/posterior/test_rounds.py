"""Rounds of simulations for one observation: nearer to the exact posterior, the same for the same seed, and
nothing lost unsaid.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.errors import BankMismatchError, PriorError, SettingsError
from sbi_flows.posterior.pool import Limits
from sbi_flows.posterior.request import RefineRequest
from sbi_flows.posterior.rounds import planned
from tests.conftest import QUICK

FIT = replace(QUICK, flow="maf", train=sf.TrainSettings(epochs=15, batch_size=64))
SETTINGS = sf.RefineSettings(fit=FIT, rounds=2)
NOISE = 0.1


def narrow(*, d: int = 3, **options: Any) -> sf.Simulator:
    """theta ~ N(0, 1), y = theta + e, e ~ N(0, 0.01): the posterior is N(y / 1.01, 0.01 / 1.01)."""
    names = [f"t{i}" for i in range(d)]

    @sf.simulator(sf.Prior(**{name: norm(0, 1) for name in names}), **options)
    def narrow(theta: Any, rng: np.random.Generator) -> Any:
        values = np.stack([theta[name] for name in names], axis=-1)
        return values + NOISE * rng.standard_normal(values.shape)

    return narrow


def apart(draws: sf.Draws, y: Any) -> float:
    """KL in nats from the exact posterior of `narrow` to the normal distribution of the moments of draws."""
    exact_mean, exact_variance = np.asarray(y) / (1 + NOISE**2), NOISE**2 / (1 + NOISE**2)
    values = draws.to_numpy()
    covariance = np.cov(values, rowvar=False)
    precision, offset = np.linalg.inv(covariance), values.mean(axis=0) - exact_mean
    log_ratio = np.linalg.slogdet(covariance)[1] - len(offset) * np.log(exact_variance)
    trace = exact_variance * np.trace(precision)
    return float(0.5 * (trace + offset @ precision @ offset - len(offset) + log_ratio))


@pytest.fixture(scope="module")
def model() -> sf.Simulator:
    return narrow()


@pytest.fixture(scope="module")
def posterior(model: sf.Simulator) -> sf.Posterior:
    return sf.fit(model, n_simulations=500, seed=1, settings=FIT, say=None)


Y = [0.8, -1.0, 0.3]


def test_it_is_nearer_to_the_exact_posterior_and_the_amortised_one_is_unchanged(
    model: sf.Simulator, posterior: sf.Posterior, tmp_path: Path
) -> None:
    posterior.save(tmp_path / "before")
    before = posterior.sample(Y, 4_000)
    draws = posterior.refine(Y, model, method="rounds", n_simulations=1_500, seed=1, settings=SETTINGS)
    posterior.save(tmp_path / "after")
    assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()
    assert apart(draws, Y) < 0.1 < apart(before, Y)
    facts = draws.facts
    assert facts["simulations"] == 1_500
    assert facts["simulations_in_all"] == 2_000
    assert [row["simulations"] for row in facts["rounds"]] == [750, 750]
    shares = [row["share_of_prior"] for row in facts["rounds"]]
    assert 0 < shares[1] < shares[0] < 1
    assert any(row["weight"] > 0 for row in facts["rounds"])
    assert facts["apart"] > 0.05
    assert "Refined by 1,500 simulations in 2 rounds" in draws.verdict.text
    assert draws.origin == "neural posterior, refined by rounds"


def test_a_good_amortised_posterior_is_not_given_up_for_a_few_simulations(model: sf.Simulator) -> None:
    longer = replace(FIT, train=sf.TrainSettings(epochs=20, batch_size=64))
    good = sf.fit(model, n_simulations=3_000, seed=1, settings=longer, say=None)
    draws = good.refine(Y, model, method="rounds", n_simulations=200, seed=1, settings=SETTINGS)
    assert draws.facts["rounds"][0]["weight"] == 0
    assert "so these are its draws" in draws.verdict.text
    assert draws.facts["apart"] == pytest.approx(0, abs=1e-3)
    assert apart(draws, Y) < apart(good.sample(Y), Y) + 0.02


def test_the_seed_decides_whether_it_is_stored_or_not(
    model: sf.Simulator, posterior: sf.Posterior, tmp_path: Path
) -> None:
    def refined(**options: Any) -> Any:
        asked = {"method": "rounds", "n": 100, "n_simulations": 500, "seed": 1, "settings": SETTINGS}
        return posterior.refine(Y, model, **{**asked, **options}).values

    once = refined()
    assert np.array_equal(refined(store=tmp_path / "rounds.bank"), once)
    assert np.array_equal(refined(store=tmp_path / "rounds.bank"), once)
    assert not np.array_equal(refined(seed=2), once)
    with pytest.raises(BankMismatchError):
        refined(store=tmp_path / "rounds.bank", seed=2)


def test_simulations_of_the_fit_join_where_they_lie_in_the_region(
    model: sf.Simulator, posterior: sf.Posterior
) -> None:
    fitted = sf.simulate(model, 5_000, seed=9)
    asked = {"method": "rounds", "n": 100, "n_simulations": 300, "seed": 1}
    alone = posterior.refine(Y, model, **asked, settings=SETTINGS)
    joined = posterior.refine(Y, model, **asked, settings=replace(SETTINGS, simulations=fitted))
    first, other = (draws.facts["rounds"][0] for draws in (alone, joined))
    assert first["rows"] == 300
    assert other["rows"] == pytest.approx(300 + 5_000 * other["share_of_prior"], rel=0.25)
    assert joined.facts["simulations"] == 300


def test_one_draw_at_a_time_with_failures_and_hangs_ends_and_says_what_was_lost(
    posterior: sf.Posterior,
) -> None:
    """5% raise, 1% hang."""

    @sf.simulator(posterior.prior, vectorized=False)
    def awful(theta: Any, rng: np.random.Generator) -> Any:
        luck = rng.random()
        if luck < 0.05:
            raise ValueError("no luck")
        if luck < 0.06:
            time.sleep(60)
        return [theta[name] + NOISE * rng.standard_normal() for name in ("t0", "t1", "t2")]

    with pytest.warns(sf.errors.SimulationWarning):
        draws = posterior.refine(
            Y, awful, method="rounds", n=500, n_simulations=300, seed=4, settings=SETTINGS, time_limit=0.3,
            workers=1,
        )  # fmt: skip
    failed = draws.facts["failed"]
    assert failed["raised"] > 0
    assert failed["timeout"] > 0
    assert draws.facts["rounds"][0]["rows"] == 300 - sum(failed.values())
    assert f"{sum(failed.values())} of 300 simulations failed" in draws.verdict.text


def test_gaps_of_the_observation_are_those_of_the_rounds() -> None:
    model = narrow(missing=True)
    posterior = sf.fit(
        model, n_simulations=600, seed=1, settings=FIT, observe=sf.gaps(share=(0, 0.6)), say=None
    )
    y = [0.8, np.nan, 0.3]
    draws = posterior.refine(y, model, method="rounds", n_simulations=600, seed=1, settings=SETTINGS)
    spread = draws.to_numpy().std(axis=0)
    assert spread[1] > 0.7
    assert max(spread[0], spread[2]) < 0.3


def test_by_the_clock_it_makes_what_fits_and_not_more_than_it_is_told(
    model: sf.Simulator, posterior: sf.Posterior
) -> None:
    draws = posterior.refine(
        Y, model, method="rounds", n=100, minutes=0.05, n_simulations=900, seed=1, settings=SETTINGS
    )
    assert 0 < draws.facts["simulations"] <= 900
    little = posterior.refine(Y, model, method="rounds", n=100, minutes=1e-6, seed=1, settings=SETTINGS)
    assert len(little) == 100
    assert little.facts["ended"] == "time"
    assert not little.verdict.ok
    assert "No round was made" in little.verdict.text
    assert "the time is up" in little.verdict.text


def test_data_of_another_model_stay_what_they_are(model: sf.Simulator, posterior: sf.Posterior) -> None:
    far = [60.0, -60.0, 60.0]
    draws = posterior.refine(far, model, method="rounds", n=100, n_simulations=300, seed=1, settings=SETTINGS)
    assert draws.verdict.level == posterior.verdicts(far)[0].level == "do not trust"


def test_rounds_that_cannot_reach_the_data_say_so_and_give_no_distance_as_if_it_were_agreement() -> None:
    model = narrow(d=1)
    posterior = sf.fit(model, n_simulations=500, seed=1, settings=FIT, say=None)
    draws = posterior.refine(
        [60.0], model, method="rounds", n=100, n_simulations=500, seed=1, settings=SETTINGS
    )
    assert draws.facts["ended"] == "region"
    assert "The rounds stopped before round" in draws.verdict.text
    assert "too little of the prior is left" in draws.verdict.text
    assert "nats from it" not in draws.verdict.text


def test_rounds_are_of_one_size_and_never_too_small() -> None:
    assert planned(2, RefineRequest(n_simulations=7_001)) == [2_333, 2_334, 2_334]
    assert planned(2, RefineRequest(n_simulations=500)) == [250, 250]
    assert planned(2, RefineRequest(n_simulations=299)) == [299]
    assert sum(planned(4, RefineRequest(n_simulations=9_999))) == 9_999
    with pytest.raises(SettingsError, match="too few for a round of 10 parameters, which needs at least 500"):
        planned(10, RefineRequest(n_simulations=499))


def test_parts_of_a_round_by_the_clock_grow_and_end() -> None:
    assert list(Limits(1_000).parts()) == [1_000]
    assert list(Limits(100, until=0.0).parts()) == [20, 20, 40, 20]


def test_what_cannot_be_used_is_refused(model: sf.Simulator, posterior: sf.Posterior) -> None:
    with pytest.raises(SettingsError, match="rounds"):
        sf.RefineSettings(rounds=0)
    with pytest.raises(SettingsError, match="fit must be sf.FitSettings"):
        sf.RefineSettings(fit="fast")  # type: ignore[arg-type]
    other = sf.simulate(
        sf.Simulator(model.function, sf.Prior(**{f"t{i}": uniform(-1, 2) for i in range(3)})), 300
    )
    with pytest.raises(PriorError, match="drawn from"):
        posterior.refine(
            Y, model, method="rounds", n_simulations=300, settings=replace(SETTINGS, simulations=other)
        )
    with pytest.raises(SettingsError, match="one observation at a time"):
        posterior.refine([Y, Y], model, method="rounds", n_simulations=300)
