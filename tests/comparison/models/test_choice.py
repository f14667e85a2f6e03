"""Probabilities from log evidences, and their errors."""

from __future__ import annotations

import numpy as np
import pytest

from sbi_flows.comparison.models.choice import ModelChoice


def test_prior_probabilities_enter_by_bayes() -> None:
    evidence, prior = np.log([2.0, 6.0, 1.0]), np.array([0.5, 0.25, 0.25])
    found = ModelChoice(evidence, np.zeros((3, 3)), prior)
    np.testing.assert_allclose(found.probabilities, np.array([1.0, 1.5, 0.25]) / 2.75)
    np.testing.assert_allclose(found.log_bayes_factors(1)[0], np.log([1 / 3, 1, 1 / 6]))
    np.testing.assert_array_equal(found.errors, 0)


def test_errors_are_those_of_draws_of_the_log_evidence() -> None:
    """Of 200,000 draws with small errors: within 2%, first order."""
    rng = np.random.default_rng(0)
    root = 0.02 * rng.standard_normal((3, 3))
    covariance, evidence = root @ root.T, np.array([0.0, 0.7, -0.4])
    prior = np.array([0.2, 0.3, 0.5])
    found = ModelChoice(evidence, covariance, prior)
    draws = evidence + rng.standard_normal((200_000, 3)) @ root.T
    p = np.exp(draws) * prior
    p /= p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.errors, p.std(axis=0), rtol=0.02)
    factors = (draws - draws[:, :1]).std(axis=0)
    np.testing.assert_allclose(found.log_bayes_factors(0)[1], factors, rtol=0.02, atol=1e-12)


def test_a_huge_evidence_is_no_overflow() -> None:
    found = ModelChoice(np.array([-1e5, -1e5 + 3]), np.zeros((2, 2)), np.array([0.5, 0.5]))
    assert found.probabilities[1] == pytest.approx(1 / (1 + np.exp(-3)))
