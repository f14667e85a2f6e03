"""The verdict on an observation: the false-alarm rate is the stated one, and what is far is called."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binom, norm, uniform

import sbi_flows as sf
from sbi_flows.misspecification.detector import CAUTION_AT, Detector, Examples

from ..conftest import QUICK


def detector(train: np.ndarray, held_out: np.ndarray) -> Detector:
    """Of vectors; corrupted is what is twice as far from the centre."""
    labels = np.zeros(len(train), dtype=np.int64)
    return Detector.of(Examples(train, held_out, 2 * train, labels, ("spread",), 0, train.shape[1]), seed=0)


def level(made: Detector, point: list[float]) -> str:
    return made.verdicts(np.array([point]), np.zeros((1, 3), dtype=np.int64))[0].level


def test_the_share_of_simulated_data_that_are_flagged_is_the_stated_one() -> None:
    """Flags among 5,000 fresh points lie within binomial limits (false-alarm rate 1e-4), widened by 4 sd of
    the reference's own error.
    """
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((5, 5))
    fresh = np.random.default_rng(1).standard_normal((5000, 5)) @ mix
    made = detector(rng.standard_normal((3000, 5)) @ mix, rng.standard_normal((3000, 5)) @ mix)
    flagged = sum(not verdict.ok for verdict in made.verdicts(fresh, np.zeros((5000, 3), dtype=np.int64)))
    share_error = 4 * np.sqrt(CAUTION_AT / 3000)
    low, high = (
        binom.isf(1 - 5e-5, 5000, CAUTION_AT - share_error if share_error < CAUTION_AT else 1e-9),
        binom.isf(5e-5, 5000, CAUTION_AT + share_error),
    )
    assert low <= flagged <= high


def test_far_points_and_holes_in_the_cloud_are_flagged() -> None:
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 6000)
    ring = np.column_stack([np.cos(angle), np.sin(angle)]) + 0.02 * rng.standard_normal((6000, 2))
    made = detector(ring[:3000], ring[3000:])
    assert level(made, [1.0, 0.0]) == "trust"
    assert level(made, [0.0, 0.0]) == "do not trust"
    assert level(made, [3.0, 0.0]) == "do not trust"
    unlike = np.array([[0, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 1]])
    levels = [verdict.level for verdict in made.verdicts(np.array([[1.0, 0.0]] * 4), unlike)]
    assert levels == ["trust", "caution", "caution", "do not trust"]


def test_what_only_the_critic_looks_at_is_called_with_the_kind_that_it_looks_like() -> None:
    """Features 2 and 3 are not in the cloud: a shift of either is seen, and said."""
    rng = np.random.default_rng(0)
    train, held_out = rng.standard_normal((2, 3000, 3))
    labels = rng.integers(0, 2, 3000)
    corrupted = rng.standard_normal((3000, 3)) + 4 * np.eye(3)[1 + labels]
    made = Detector.of(Examples(train, held_out, corrupted, labels, ("a drift", "a step"), 0, 1), seed=0)
    inside, drift, step = made.verdicts(
        np.array([[0.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 5.0]]), np.zeros((3, 3), dtype=np.int64)
    )
    assert inside.ok
    for found, words in ((drift, "a drift"), (step, "a step")):
        assert found.level == "do not trust"
        assert words in found.text
    again = Detector.from_arrays(made.arrays(), made.kinds)
    assert again.verdicts(np.array([[0.1, 0.2, 2.0]]), np.zeros((1, 3), dtype=np.int64)) == made.verdicts(
        np.array([[0.1, 0.2, 2.0]]), np.zeros((1, 3), dtype=np.int64)
    )


def test_an_observation_from_the_simulator_is_trusted_and_one_from_elsewhere_is_not(
    bounded_posterior: sf.Posterior,
) -> None:
    assert bounded_posterior.sample([0.5, 0.2, 0.1], 10).verdict.ok
    verdict = bounded_posterior.sample([0.5, 0.2, 40.0], 10).verdict
    assert verdict.level == "do not trust"
    assert "outside" in verdict.text


@pytest.mark.slow
def test_a_drift_and_a_stuck_detector_are_flagged_in_a_series() -> None:
    """AR(1) series of 60 steps: an added trend and 15 steps at one value are flagged, 2,000 from the
    simulator at 1% (binomial, 1e-5).
    """

    @sf.simulator(sf.Prior(rho=uniform(0, 0.95), level=norm(0, 1)), event_shape=(60,))
    def autoregressive(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        y = np.empty((len(theta["rho"]), 60))
        y[:, 0] = rng.standard_normal(len(y))
        for t in range(1, 60):
            y[:, t] = theta["rho"] * y[:, t - 1] + rng.standard_normal(len(y))
        return y + theta["level"][:, None]

    posterior = sf.fit(autoregressive, n_simulations=20_000, seed=1, settings=QUICK, say=None)
    held_out = len(posterior.detector.together)
    y = sf.simulate(autoregressive, 2000, seed=9).y.astype(float)

    def flagged(events: np.ndarray) -> int:
        return sum(not verdict.ok for verdict in posterior.verdicts(events))

    assert flagged(y) <= binom.isf(5e-6, 2000, CAUTION_AT + 4 * np.sqrt(CAUTION_AT / held_out))
    stuck = y[:200].copy()
    stuck[:, 20:35] = stuck[:, 20, None]
    assert flagged(stuck) >= 190
    assert flagged(y[:200] + np.linspace(0, 8, 60)) >= 150


def test_values_that_no_count_can_take_are_a_warning(counts_posterior: sf.Posterior) -> None:
    y = np.asarray(
        sf.simulate(sf.load_simulator("simulators.ricker:ricker"), 1, seed=5).y[0, :30], dtype=float
    )
    assert "negative or fractional" not in counts_posterior.sample(y, 10).verdict.text
    corrupted = y.copy()
    corrupted[3], corrupted[5] = -2, 4.5
    verdict = counts_posterior.sample(corrupted, 10).verdict
    assert not verdict.ok
    assert "2 of its values are negative or fractional" in verdict.text


def test_a_stack_reports_the_worst_and_keeps_each(bounded_posterior: sf.Posterior) -> None:
    draws = bounded_posterior.sample([[0.5, 0.2, 0.1], [0.5, 0.2, 40.0], [0.5, 0.2, 0.1]], 10)
    assert [verdict.level for verdict in draws.verdicts] == ["trust", "do not trust", "trust"]
    assert draws.verdict.level == "do not trust"
    assert "of 3 observations: 2 trust, 1 do not trust. Observation 1:" in draws.verdict.text
    assert draws.observation(0).verdict.ok


@pytest.mark.parametrize("level", ["trust", "caution", "do not trust"])
def test_ok_means_trust(level: str) -> None:
    assert sf.Verdict(level, "words").ok == (level == "trust")  # type: ignore[arg-type]


@pytest.mark.parametrize("law", ["bernoulli", "binomial", "poisson"])
def test_discrete_scalar_data_are_judged_like_any_other(law: str) -> None:
    """At most 4% of 500 fresh data sets are flagged (expected 1%; P(more than 20) < 1e-6), and a value far
    outside is.
    """
    prior = sf.Prior(p=beta(2, 5))

    @sf.simulator(prior, event_shape=())
    def discrete(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        p = theta["p"]
        return {
            "bernoulli": rng.binomial(1, p),
            "binomial": rng.binomial(20, p),
            "poisson": rng.poisson(30 * p),
        }[law]

    posterior = sf.fit(discrete, n_simulations=3000, seed=1, settings=QUICK, say=None)
    levels = [verdict.level for verdict in posterior.verdicts(sf.simulate(discrete, 500, seed=9).y)]
    assert sum(level != "trust" for level in levels) <= 20
    assert posterior.sample(500.0, 10).verdict.level == "do not trust"


def test_a_value_that_no_simulation_has_in_a_constant_column_is_not_trusted() -> None:
    @sf.simulator(sf.Prior(a=norm(0, 1)))
    def padded(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        y = theta["a"][:, None] + 0.3 * rng.standard_normal((len(theta["a"]), 2))
        return np.column_stack([y, np.full(len(y), 7.0)])

    posterior = sf.fit(padded, n_simulations=400, seed=1, settings=QUICK, say=None)
    right, wrong = posterior.verdicts([[0.1, 0.2, 7.0], [0.1, 0.2, 8.0]])
    assert right.ok
    assert wrong.level == "do not trust"
    assert "1 of its values differ from the one value that the simulations have there" in wrong.text
