"""Exact draws: against a closed form, with a noisy likelihood, from proposals that are wrong, under budgets.

Means of 4,000 draws are held within 4.5 standard errors of the draws and of the weights together: for the two
means of one test the false-alarm rate is 1e-5. The sd of 4,000 normal draws has a standard error of 1.1%.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.exact.exact import Exact
from tests.exact.gaussian_toy import (
    COVARIANCE,
    EVIDENCE,
    MEAN,
    RIGHT,
    SD,
    Normal,
    moments,
    noisy_toy,
    sampled,
    toy,
)

F = NDArray[np.float64]

WRONG = {
    "shifted": Normal(MEAN + 3 * SD, COVARIANCE),
    "far away": Normal(MEAN + 12 * SD, COVARIANCE),
    "too narrow": Normal(MEAN, 0.04 * COVARIANCE),
    "narrow and shifted": Normal(MEAN + 2 * SD, 0.01 * COVARIANCE),
    "too wide": Normal(MEAN, 100 * COVARIANCE),
}


def assert_exact(found: Exact, mean: F = MEAN, sd: F = SD) -> None:
    assert found.monte_carlo.level == "trust", found.monte_carlo.note
    own_mean, own_sd = moments(found)
    error = sd * np.sqrt(found.monte_carlo.error**2 + 1 / len(found.theta))
    assert (np.abs(own_mean - mean) < 4.5 * error).all()
    assert (np.abs(own_sd / sd - 1) < 0.06).all()


def test_the_closed_form_is_found_with_its_evidence() -> None:
    found = sampled(toy())
    assert_exact(found)
    assert found.monte_carlo.note.kind == "exact, weights"
    assert abs(found.facts["log_evidence"] - EVIDENCE) < 4.5 * found.facts["log_evidence_error"] < 0.1
    assert found.facts["ess"] >= 8000
    assert found.facts["noise"] < 1e-20
    assert found.facts["efficiency"] > 0.9
    assert len(np.unique(found.theta, axis=0)) == 4000


def test_a_noisy_unbiased_likelihood_gives_the_same_posterior_and_says_how_noisy_it_is() -> None:
    """The variance of ten normal numbers of variance 0.49 lies between 0.05 and 2.1 but once in 100,000."""
    found = sampled(toy(noise=0.7))
    assert_exact(found)
    assert abs(found.facts["log_evidence"] - EVIDENCE) < 4.5 * found.facts["log_evidence_error"] < 0.1
    assert 0.05 < found.facts["noise"] < 2.1


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_proposal_ends_in_the_same_posterior(name: str) -> None:
    found = sampled(toy(noise=0.3), WRONG[name])
    assert_exact(found)
    assert abs(found.facts["log_evidence"] - EVIDENCE) < 4.5 * found.facts["log_evidence_error"]


def test_a_mode_that_the_proposal_misses_is_found() -> None:
    """Two modes of sd 0.1 at -2 and 2 with masses 1/4 and 3/4; q knows the smaller one. The share of the
    larger in 4,000 draws: standard error 0.007.
    """

    def log_likelihood(theta: Mapping[str, F], y: F, rng: np.random.Generator) -> F:
        modes = [np.log(share) + norm.logpdf(theta["x"], at, 0.1) for at, share in ((-2, 0.25), (2, 0.75))]
        return np.asarray(logsumexp(modes, axis=0))

    @sf.simulator(sf.Prior(x=uniform(-5, 10)), event_shape=(1,), log_likelihood=log_likelihood)
    def two_modes(theta: Mapping[str, F], rng: np.random.Generator) -> F:
        return theta["x"][:, None] + 0.1 * rng.standard_normal((len(theta["x"]), 1))

    class Smaller:
        def sample(self, n: int, rng: np.random.Generator) -> F:
            return np.asarray(two_modes.prior.to_unconstrained(rng.normal(-2, 0.1, (n, 1)))[0])

        def log_prob(self, z: F) -> F:
            theta = two_modes.prior.from_unconstrained(z)
            return np.asarray(norm.logpdf(theta[:, 0], -2, 0.1) - two_modes.prior.to_unconstrained(theta)[1])

    found = sampled(two_modes, Smaller(), np.zeros(1))
    assert found.monte_carlo.level == "trust"
    weights = np.full(4000, 1 / 4000) if found.weights is None else found.weights
    assert weights[found.theta[:, 0] > 0].sum() == pytest.approx(0.75, abs=0.035)
    assert found.facts["log_evidence"] == pytest.approx(-np.log(10), abs=0.1)


def test_where_the_weights_are_too_uneven_chains_run_and_are_judged_by_their_own_numbers() -> None:
    """Log-normal noise of variance 9: no proposal can make the weights even, and the chains stick."""
    found = sampled(toy(noise=3.0), evaluations=45_000)
    assert found.facts["k_hat"] > 0.7
    assert found.facts["rhat"] > 0
    assert found.monte_carlo.chains is not None
    assert found.facts["ess"] == min(found.facts["bulk_ess"], found.facts["tail_ess"])
    assert found.monte_carlo.origin == "exact, particle MCMC"
    if found.monte_carlo.level == "trust":
        assert_exact(found)
    else:
        assert found.monte_carlo.note.kind == "not exact, chains"


@pytest.mark.parametrize("budget", [1, 60, 1500, 5000])
def test_the_budget_is_obeyed_and_what_is_too_little_is_not_called_exact(budget: int) -> None:
    found = sampled(toy(), WRONG["far away"], evaluations=budget)
    assert found.facts["evaluations"] <= budget
    assert found.theta.shape == (4000, 2)
    if found.monte_carlo.level == "trust":
        assert_exact(found)
    assert budget > 100 or found.monte_carlo.level == "do not trust"


def test_when_the_time_is_over_what_there_is_is_judged() -> None:
    found = sampled(toy(), seconds=1e-9)
    assert found.facts["evaluations"] == 1
    assert found.monte_carlo.level == "do not trust"


def test_the_result_depends_on_the_seed_and_not_on_the_workers() -> None:
    simulator = noisy_toy
    small = {"n": 500, "ess": 1000.0}
    one, two, other = (
        sampled(simulator, **small, place={"workers": workers}, seed=seed)
        for workers, seed in ((1, 1), (2, 1), (1, 2))
    )
    np.testing.assert_array_equal(one.theta, two.theta)
    np.testing.assert_array_equal(one.weights, two.weights)
    assert one.facts["log_evidence"] == two.facts["log_evidence"] != other.facts["log_evidence"]


def test_what_is_done_is_said() -> None:
    said: list[str] = []
    sampled(toy(), RIGHT, n=500, ess=1000.0, say=said.append)
    assert [note.kind for note in said if hasattr(note, "kind")][-1] == "exact draws"
    assert any(getattr(note, "kind", "") == "exact round" for note in said)
