"""Semi-automatic summaries, and those of the user."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.baselines.nearest import sample
from sbi_flows.baselines.semiautomatic import learn_posterior_mean
from sbi_flows.baselines.target import Target
from sbi_flows.errors import SettingsError, TooFewSimulationsError


@sf.simulator(sf.Prior(a=norm(0, 1)), event_shape=(20,))
def noisy(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Two columns of 20 depend on a; the posterior mean is (y_0 + y_1) / 2.25 with sd 1/3."""
    y = rng.standard_normal((len(theta["a"]), 20))
    y[:, :2] = theta["a"][:, None] + 0.5 * y[:, :2]
    return y


@sf.simulator(sf.Prior(a=norm(0, 1)), event_shape=(2,))
def curved(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """a is the product of what is seen."""
    scale = np.exp(rng.standard_normal(len(theta["a"])))
    return np.column_stack([theta["a"] * scale, 1 / scale])


@pytest.fixture(scope="module")
def simulations() -> sf.Simulations:
    return sf.simulate(noisy, 8000, seed=1)


def test_of_many_columns_they_find_those_that_matter(simulations: sf.Simulations) -> None:
    """On y itself the nearest are near in noise: too wide. Of 120 draws 5 standard errors of sd are 32%."""
    y = np.zeros(20)
    learned = sf.rejection_abc(noisy, y, simulations=simulations, quantile=0.02, summaries="semi-automatic")
    plain = sf.rejection_abc(noisy, y, simulations=simulations, quantile=0.02)
    assert float(learned.summary()["sd"].iloc[0]) == pytest.approx(1 / 3, rel=0.32)
    assert float(plain.summary()["sd"].iloc[0]) > 1.4 / 3
    assert learned.facts["simulations"] == 8000
    assert "2000 simulations that the summaries were learned from" in learned.facts["left_out"]
    note = learned.facts["learned"]
    assert note.kind == "learned summaries"
    assert note.values["rows"] == 2000
    assert note.values["error"] == pytest.approx(1 / 9, abs=0.03)


def test_the_regression_is_chosen_by_its_error_on_rows_that_none_has_seen() -> None:
    bank = sf.simulate(curved, 8000, seed=1)
    target = Target.of(curved, [0.5, 1.0], bank, "a test")
    found = learn_posterior_mean(target, sample(bank, 4000, "a test"), 1)
    assert found.note.values["method"] == "networks"
    assert found.note.values["error"] < 0.1
    assert found(np.array([[0.5, 1.0], [0.25, 2.0]]))[:, 0] == pytest.approx([0.5, 0.5], abs=0.15)


def test_what_is_missing_and_declared_summaries_are_taken() -> None:
    @sf.simulator(
        sf.Prior(a=norm(0, 1)),
        event_shape=(3,),
        missing=True,
        summaries=lambda y: np.nanmean(y, axis=1)[:, None],
    )
    def gappy(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        y = theta["a"][:, None] + 0.5 * rng.standard_normal((len(theta["a"]), 3))
        y[rng.random(len(y)) < 0.3, 2] = np.nan
        return y

    bank = sf.simulate(gappy, 6000, seed=1)
    draws = sf.rejection_abc(
        gappy, [0.5, np.nan, 0.6], simulations=bank, nearest=200, summaries="semi-automatic", adjust="ridge"
    )
    exact = 1.1 / 0.25 / (1 + 2 / 0.25)
    assert float(draws.summary()["mean"].iloc[0]) == pytest.approx(exact, abs=0.15)


def test_summaries_of_ones_own_or_of_an_object(simulations: sf.Simulations) -> None:
    class Learned:
        def summaries(self, y: np.ndarray) -> np.ndarray:
            return y[:, :2].mean(axis=1, keepdims=True)

    own, given = Learned(), {"simulations": simulations, "quantile": 0.02}
    by_object = sf.rejection_abc(noisy, np.zeros(20), summaries=own, **given)
    by_function = sf.rejection_abc(noisy, np.zeros(20), summaries=own.summaries, **given)
    assert by_object.facts["summaries"] == 1
    assert by_object.values.tobytes() == by_function.values.tobytes()
    assert float(by_object.summary()["sd"].iloc[0]) == pytest.approx(1 / 3, rel=0.32)


def test_what_cannot_be_summaries_is_refused(simulations: sf.Simulations) -> None:
    for wrong in ("automatic", 3, np.zeros(3)):
        with pytest.raises(SettingsError, match="summaries must be"):
            sf.rejection_abc(noisy, np.zeros(20), simulations=simulations, summaries=wrong)
    with pytest.raises(SettingsError, match="declares no summaries"):
        sf.rejection_abc(noisy, np.zeros(20), simulations=simulations, summaries="declared")
    few = sf.simulate(noisy, 500, seed=1)
    with pytest.raises(TooFewSimulationsError, match="quarter"):
        sf.rejection_abc(noisy, np.zeros(20), simulations=few, quantile=0.1, summaries="semi-automatic")
