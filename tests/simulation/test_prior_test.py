"""Does theta look like draws of the prior? Draws of it almost never fail, others are named.

Thresholds: at a rate r, the number of 300 seeded sets that are doubted is binomial(300, r) at most, by the
Bonferroni bound; it exceeds its limit below with a chance under 1e-4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, gamma, norm, uniform
from torch import tensor
from torch.distributions import Dirichlet, MultivariateNormal

import sbi_flows as sf
from sbi_flows.simulation import prior_test
from sbi_flows.simulation.prior_test import doubts

PRIOR = sf.Prior(a=uniform(0, 1), b=norm(0, 1), c=gamma(2.0))
BLOCKS = sf.Prior(
    a=uniform(0, 1),
    w=Dirichlet(tensor([1.0, 2.0, 3.0])),
    m=MultivariateNormal(tensor([0.0, 1.0]), tensor([[1.0, 0.9], [0.9, 1.0]])),
)
PAIR = sf.Prior(m=MultivariateNormal(tensor([0.0, 1.0]), tensor([[1.0, 0.9], [0.9, 1.0]])))
SETS = 300


def draws(prior: sf.Prior, n: int, seed: int) -> np.ndarray:
    return prior.sample(n, np.random.default_rng(10_000 + seed))


@pytest.mark.slow
@pytest.mark.parametrize("prior", [PRIOR, BLOCKS, PAIR], ids=["scalars", "blocks", "dependent"])
def test_draws_of_the_prior_are_not_doubted(prior: sf.Prior) -> None:
    limit = int(binom.isf(1e-4, SETS, prior_test.FALSE_ALARMS))
    assert sum(bool(doubts(prior, draws(prior, 1000, seed))) for seed in range(SETS)) <= limit


@pytest.mark.slow
@pytest.mark.parametrize("n", [20, 100, 1000])
def test_the_rate_of_false_alarms_is_that_stated(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior_test, "FALSE_ALARMS", 0.1)
    found = sum(bool(doubts(PRIOR, draws(PRIOR, n, seed))) for seed in range(SETS))
    assert binom.ppf(1e-5, SETS, 0.03) <= found <= binom.isf(1e-4, SETS, 0.1)


def test_the_answer_is_the_same_each_time() -> None:
    theta = draws(PRIOR, 200, 0) * [1, 2, 1]
    assert doubts(PRIOR, theta) == doubts(PRIOR, theta) != ""


def moved(theta: np.ndarray) -> np.ndarray:
    return np.column_stack([theta[:, 0], theta[:, 1] + 0.5, theta[:, 2]])


def narrower(theta: np.ndarray) -> np.ndarray:
    return np.column_stack([theta[:, 0], 0.6 * theta[:, 1], theta[:, 2]])


def correlated(theta: np.ndarray) -> np.ndarray:
    """The same marginals; a and b have rank correlation 0.3."""
    z = 0.31 * norm.ppf(theta[:, 0]) + np.sqrt(1 - 0.31**2) * theta[:, 1]
    return np.column_stack([theta[:, 0], z, theta[:, 2]])


def cut(theta: np.ndarray) -> np.ndarray:
    return theta[theta[:, 1] < 0.7]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (moved, "the prior: b (its quartiles lie at the prior's "),
        (narrower, "the prior: b (its quartiles lie at the prior's "),
        (cut, "the prior: b (its quartiles lie at the prior's "),
        (correlated, "the prior: a and b together (rank correlation 0."),
    ],
)
def test_what_differs_is_named(change: Any, words: str) -> None:
    said = doubts(PRIOR, change(draws(PRIOR, 1000, 1)))
    assert words in said
    assert "in place of the prior that was passed" in said


def test_blocks_that_lose_their_dependence_are_named() -> None:
    theta = draws(BLOCKS, 1000, 1)
    theta[:, 4] = draws(BLOCKS, 1000, 2)[:, 4]
    said = doubts(BLOCKS, theta)
    assert "m[0] and m[1] together" in said
    assert "under the prior 0.9" in said or "under the prior 0.8" in said


def test_a_few_rows_say_nothing_and_many_are_thinned() -> None:
    assert doubts(PRIOR, draws(PRIOR, 19, 0) * [0.01, 1, 1]) == ""
    prior = sf.Prior(b=norm(0, 1))
    theta = draws(prior, 250_000, 3)
    assert doubts(prior, theta) == ""
    assert "100,000" not in doubts(prior, theta + 0.1) != ""


def test_each_theta_simulated_many_times_is_no_reason_for_doubt() -> None:
    assert doubts(PRIOR, np.repeat(draws(PRIOR, 100, 0), 50, axis=0)) == ""
    skewed = draws(PRIOR, 2000, 0)
    weights = np.exp(skewed[:, 1])
    rows = np.random.default_rng(0).choice(2000, 2000, p=weights / weights.sum())
    assert "b (" in doubts(PRIOR, skewed[rows])
