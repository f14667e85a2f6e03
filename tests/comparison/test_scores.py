"""Proper scores: their closed forms, and that the exact posterior has the best ones."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from sbi_flows.comparison.scores import by_parameter, crps, energy
from sbi_flows.draws import Draws
from sbi_flows.verdict import Verdict


def draws_of(values: np.ndarray, weights: np.ndarray | None = None) -> Draws:
    names = tuple(f"p{j}" for j in range(values.shape[1]))
    groups = {name: j for j, name in enumerate(names)}
    return Draws(values, groups, names, Verdict("trust", "."), "test", weights)


def test_the_crps_of_a_normal_is_the_closed_form() -> None:
    """sd (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)); the sample of 20,000 has an error of about 0.005."""
    x = 2 + 3 * np.random.default_rng(1).standard_normal(20_000)
    for truth in (2.0, 5.0, -4.0):
        z = (truth - 2) / 3
        exact = 3 * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
        assert abs(crps(x, truth) - exact) < 0.04


def test_the_energy_score_in_one_dimension_is_the_crps() -> None:
    x = np.random.default_rng(2).standard_normal((20_000, 1))
    assert abs(energy(draws_of(x), np.array([0.7]), np.ones(1)) - crps(x[:, 0], 0.7)) < 0.03


def test_too_wide_and_too_narrow_posteriors_score_worse_on_average() -> None:
    """Of 400 pairs; the differences are tens of standard errors."""
    rng = np.random.default_rng(3)
    scores = {scale: [] for scale in (0.4, 1.0, 2.5)}
    for _ in range(400):
        centre, truth = rng.standard_normal((2, 2))
        for scale, found in scores.items():
            x = centre + scale * rng.standard_normal((300, 2))
            found.append(energy(draws_of(x), centre + truth, np.ones(2)))
    means = {scale: np.mean(found) for scale, found in scores.items()}
    assert means[1.0] < means[0.4] - 0.02
    assert means[1.0] < means[2.5] - 0.02


def test_rows_know_weights_and_units() -> None:
    values = np.array([[0.0, 10.0], [1.0, 20.0], [2.0, 30.0], [3.0, 40.0]])
    weights = np.array([0.5, 0.5, 0.0, 0.0])
    first, second = by_parameter(draws_of(values, weights), np.array([1.0, 12.0]), np.array([1.0, 10.0]))
    assert first["mean"] == 0.5
    assert second["mean"] == 15
    assert second["error"] == 0.3
    assert second["rank"] == 0.5
    assert first["rank"] == 0.75  # half of the draws that equal the truth count
    assert first["sd"] == 0.5
