"""Missing values, from the first refusal to the posterior that was trained for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.errors import ObservationError, SettingsError, SimulatorContractError, TooManyFailuresError

PRIOR = sf.Prior(a=norm(0, 1), b=uniform(0, 1))
QUICK = sf.FitSettings(
    width=16, layers=2, summary_features=8, members=1, flow="maf", train=sf.TrainSettings(epochs=2)
)
Y = np.random.default_rng(0).standard_normal(8)
GAPPY = np.where(np.isin(np.arange(8), [2, 5]), np.nan, Y)


def make(kind: Any = None, *, share: float = 0.0, missing: bool = False) -> sf.Simulator:
    @sf.simulator(PRIOR, data=kind, missing=missing, event_shape=(8,))
    def model(theta: Any, rng: np.random.Generator) -> np.ndarray:
        y = theta["a"][:, None] + theta["b"][:, None] * rng.standard_normal((len(theta["a"]), 8))
        return np.where(rng.random(y.shape) < share, np.nan, y)

    return model


def fit(simulator: sf.Simulator, **options: Any) -> sf.Posterior:
    return sf.fit(simulator, n_simulations=400, settings=QUICK, say=None, **options)


@pytest.fixture(scope="module")
def gappy() -> sf.Posterior:
    """A fit for gaps and lengths of a series."""
    return fit(make(sf.Series()), observe=[sf.gaps((0, 0.4)), sf.lengths(3, 8)])


@pytest.mark.parametrize("kind", [None, sf.Vector(), sf.Series(), sf.Set()], ids=str)
def test_the_advice_of_the_refusal_leads_to_draws(kind: Any) -> None:
    with pytest.raises(ObservationError, match=r"sf.fit\(simulator, like=y_obs\)"):
        fit(make(kind)).sample(GAPPY, 10)
    draws = fit(make(kind), like=GAPPY).sample(GAPPY, 10)
    assert np.isfinite(draws.values).all()
    assert "missing" not in draws.verdict.text


def test_the_advice_for_simulators_that_return_nan_is_not_circular() -> None:
    with pytest.raises(TooManyFailuresError, match="missing=True"):
        fit(make(share=0.3))
    posterior = fit(make(share=0.3, missing=True))
    assert posterior.facts["failed"] == 0
    for y in (Y, GAPPY):
        assert np.isfinite(posterior.sample(y, 10).values).all()


def test_what_stands_under_a_mask_changes_nothing(gappy: sf.Posterior) -> None:
    wanted = gappy.sample(GAPPY, 20, seed=1).values
    for hidden in (0.0, 1e300, np.inf):
        given = np.ma.masked_array(np.where(np.isnan(GAPPY), hidden, GAPPY), mask=np.isnan(GAPPY))
        np.testing.assert_array_equal(gappy.sample(given, 20, seed=1).values, wanted)


def test_a_shorter_series_is_one_that_ends_in_nan(gappy: sf.Posterior) -> None:
    short = gappy.sample(Y[:5], 20, seed=1)
    padded = np.concatenate([Y[:5], [np.nan] * 3])
    np.testing.assert_array_equal(short.values, gappy.sample(padded, 20, seed=1).values)
    stack = gappy.sample([Y[:5], Y, GAPPY], 20, seed=1)
    assert stack.values.shape == (3, 20, 2)
    np.testing.assert_allclose(stack.values[0], short.values, atol=1e-9)
    theta = np.array([0.0, 0.5])
    one = [float(gappy.log_prob(theta, y)) for y in (Y[:5], Y, GAPPY)]
    np.testing.assert_allclose(gappy.log_prob(np.stack([theta] * 3), [Y[:5], Y, GAPPY]), one, atol=1e-9)
    assert gappy.summaries([Y[:5], Y, GAPPY]).shape == (3, 8)


def test_a_posterior_for_gaps_is_saved_and_loaded(gappy: sf.Posterior, tmp_path: Path) -> None:
    gappy.save(tmp_path / "p.safetensors")
    loaded = sf.load(tmp_path / "p.safetensors")
    for y in (Y, GAPPY, Y[:4]):
        np.testing.assert_array_equal(loaded.sample(y, 20).values, gappy.sample(y, 20).values)
        assert loaded.sample(y, 20).verdict == gappy.sample(y, 20).verdict
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "p.safetensors").read_bytes()
    assert "gaps allowed" in repr(loaded)
    with pytest.raises(SettingsError, match="without a function observe"):
        sf.load(tmp_path / "p.safetensors", observe=hide_some)


def hide_some(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    y[rng.random(len(y)) < 0.5, :3] = np.nan
    return y


def test_a_function_of_the_users_own_is_passed_again(tmp_path: Path) -> None:
    simulator, path = make(), tmp_path / "p.safetensors"
    posterior = fit(simulator, observe=hide_some)
    posterior.save(path)
    without, with_it = sf.load(path), sf.load(path, observe=hide_some)
    wanted = posterior.sample(Y, 10).values
    for loaded in (without, with_it):
        np.testing.assert_array_equal(loaded.sample(Y, 10).values, wanted)
        loaded.save(tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    with pytest.raises(SettingsError, match="observe=hide_some"):
        sf.check(without, simulator, n=100)
    assert sf.check(with_it, simulator, n=100).posterior is with_it


def test_the_same_seed_gives_the_same_bytes_with_gaps(gappy: sf.Posterior) -> None:
    again = fit(make(sf.Series()), observe=[sf.gaps((0, 0.4)), sf.lengths(3, 8)])
    np.testing.assert_array_equal(again.sample(GAPPY, 20).values, gappy.sample(GAPPY, 20).values)


def test_patterns_are_asked_for_once_and_must_suit() -> None:
    simulator = make(sf.Series())
    with pytest.raises(SettingsError, match="give one, not both"):
        fit(simulator, like=Y, observe=sf.gaps(0.1))
    with pytest.raises(SettingsError, match="Let it make the longest, 30"):
        fit(simulator, observe=sf.lengths(5, 30))
    with pytest.raises(SettingsError, match="lengths are of series and of sets"):
        fit(make(sf.Vector()), observe=sf.lengths(5, 8))
    with pytest.raises(SimulatorContractError, match=r"\(40, 5\) for events of shape \(40, 8\)"):
        fit(simulator, observe=lambda y, rng: y[:, :5])
    with pytest.raises(ObservationError, match="no observed value"):
        fit(simulator, like=np.full(8, np.nan))


def test_a_fit_that_observes_nothing_has_learned_nothing() -> None:
    posterior = fit(make(), observe=lambda y, rng: np.full_like(y, np.nan))
    assert any(note.kind == "nothing learned" for note in posterior.notes)
    assert posterior.sample(Y, 10).verdict.level != "trust"


def test_the_patterns_of_a_simulator_hold_unless_others_are_asked_for() -> None:
    posterior = fit(sf.replicates(make(), 1, 3))
    assert posterior.observe is not None
    assert posterior.observe.to_json() == [{"pattern": "lengths", "least": 1, "most": 3, "table": None}]
    other = fit(sf.replicates(make(), 1, 3), observe=sf.lengths(2, 3))
    assert other.observe is not None
    assert other.observe.to_json()[0]["least"] == 2


@pytest.mark.parametrize("large", [1e120, 1e160, 1e307])
def test_observations_too_large_for_floating_point_are_refused(large: float, gappy: sf.Posterior) -> None:
    for y in (np.where(np.arange(8) == 1, large, Y), np.where(np.arange(8) == 1, -large, GAPPY)):
        with pytest.raises(ObservationError, match="too large to be scaled"):
            gappy.sample(y, 10)
    far = gappy.sample(np.where(np.arange(8) == 1, 1e60, Y), 10)
    assert np.isfinite(far.values).all()
    assert far.verdict.level == "do not trust"


SD, VALUES = 1.0, 10


@pytest.mark.slow
@pytest.mark.parametrize("one_pattern", [False, True], ids=["gaps", "like"])
def test_the_posterior_of_a_normal_mean_is_exact_with_gaps(one_pattern: bool) -> None:
    """mu ~ N(0, 1), n values N(mu, 1) there: mu | y ~ N(sum y / (1 + n), 1 / (1 + n)). 200 observations.

    KL(exact || normal of the same mean and sd as the draws) is below 0.02 nats on average: of an error of the
    mean of 0.15 posterior sd and of the sd of 10% it is 0.02. Noise of 4,000 draws adds 0.0003.
    """

    @sf.simulator(sf.Prior(mu=norm(0, 1)), data=sf.Set(), event_shape=(VALUES,))
    def model(theta: Any, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(theta["mu"][:, None] + SD * rng.standard_normal((len(theta["mu"]), VALUES)))

    rng = np.random.default_rng(5)
    theta = model.prior.sample(200, rng)
    y = model.run(theta, rng)
    hidden = rng.random(y.shape) < rng.uniform(0, 0.5, (200, 1))
    if one_pattern:
        hidden[:] = np.isin(np.arange(VALUES), [1, 2, 7])
    y[hidden] = np.nan
    asked: dict[str, Any] = {"like": y[:1]} if one_pattern else {"observe": sf.gaps((0, 0.5))}
    settings = sf.FitSettings(members=1, flow="maf", train=sf.TrainSettings(epochs=25))
    posterior = sf.fit(model, n_simulations=3000, seed=1, settings=settings, say=None, **asked)
    draws = posterior.sample(y, 4000, seed=2).values[..., 0]
    precision = 1 + (~hidden).sum(axis=1) / SD**2
    mean, sd = np.nansum(y, axis=1) / SD**2 / precision, precision**-0.5
    found_mean, found_sd = draws.mean(axis=1), draws.std(axis=1)
    kl = np.log(found_sd / sd) + (sd**2 + (mean - found_mean) ** 2) / (2 * found_sd**2) - 0.5
    assert kl.mean() < 0.02
