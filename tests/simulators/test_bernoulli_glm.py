"""The Bernoulli GLM: stimulus, prior, spikes and likelihood, against loops over bins and lags."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import bernoulli, kstest, norm

from simulators.bernoulli_glm import (
    DESIGN,
    PRIOR,
    bernoulli_glm,
    bernoulli_glm_log_likelihood,
    bernoulli_glm_raw,
    bernoulli_glm_raw_log_likelihood,
)

F = NDArray[np.float64]
RNG = np.random.default_rng(0)


def chances(theta: F) -> F:
    """The probability of a spike in each bin, term by term."""
    stimulus = np.random.RandomState(42).randn(100).astype(np.float32)
    logits = [
        theta[0] + sum(theta[1 + lag] * float(stimulus[t - lag]) for lag in range(9) if t >= lag)
        for t in range(100)
    ]
    return 1 / (1 + np.exp(-np.array(logits)))


def test_the_prior_is_a_wide_offset_and_a_smooth_filter() -> None:
    """Its precision as published; 4,000 draws whitened by it are standard normal, at 1e-6 each."""
    difference = np.eye(9) - np.diag(np.ones(8), -1)
    root = difference @ difference + np.diag([np.sqrt(i / 9) for i in range(9)])
    precision = np.zeros((10, 10))
    precision[0, 0], precision[1:, 1:] = 0.5, root.T @ root
    theta = PRIOR.sample(4000, np.random.default_rng(1))
    quadratic = np.einsum("ni,ij,nj->n", theta, precision, theta)
    wanted = -quadratic / 2 + np.linalg.slogdet(precision)[1] / 2 - 5 * np.log(2 * np.pi)
    np.testing.assert_allclose(PRIOR.log_prob(theta), wanted, rtol=1e-9)
    white = theta @ np.linalg.cholesky(precision)
    assert all(kstest(column, norm.cdf).pvalue > 1e-6 for column in white.T)
    assert PRIOR.names == ("offset", *(f"filter[{i}]" for i in range(9)))


def test_spikes_have_the_chances_of_the_model_and_are_independent() -> None:
    """100 z-scores of bins and 4,950 correlations of pairs, below 5.5 and 6: false alarm rates 4e-6 and
    1e-5.
    """
    theta, n = np.array([0.3, 0.5, -0.4, 0.6, 0.2, -0.5, 0.1, 0.3, -0.2, 0.4]), 4000
    spikes = bernoulli_glm_raw.run(np.repeat([theta], n, axis=0), np.random.default_rng(2))
    assert set(np.unique(spikes)) == {0, 1}
    p = chances(theta)
    z = (spikes.mean(axis=0) - p) / np.sqrt(p * (1 - p) / n)
    assert np.abs(z).max() < 5.5
    assert kstest(z, norm.cdf).pvalue > 1e-6
    white = (spikes - p) / np.sqrt(p * (1 - p))
    assert np.abs((white.T @ white / n)[np.triu_indices(100, 1)]).max() < 6 / np.sqrt(n)


def test_the_statistics_are_those_of_the_spikes() -> None:
    theta = PRIOR.sample(50, np.random.default_rng(3))
    raw, summed = (
        simulator.run(theta, np.random.default_rng(4)) for simulator in (bernoulli_glm_raw, bernoulli_glm)
    )
    np.testing.assert_allclose(summed, raw @ DESIGN, atol=1e-12)
    np.testing.assert_array_equal(summed[:, 0], raw.sum(axis=1))


def test_both_likelihoods_are_the_product_over_bins() -> None:
    theta = PRIOR.sample(30, np.random.default_rng(5))
    theta[0] *= 30
    spikes = bernoulli_glm_raw.run(theta[1:2], np.random.default_rng(6))[0].astype(np.float64)
    wanted = [bernoulli.logpmf(spikes, chances(row)).sum() for row in theta[1:]]
    mapping = PRIOR.as_mapping(theta)
    raw, summed = (
        bernoulli_glm_raw_log_likelihood(mapping, spikes, RNG),
        bernoulli_glm_log_likelihood(mapping, spikes @ DESIGN, RNG),
    )
    np.testing.assert_allclose(raw[1:], wanted, rtol=1e-8)
    np.testing.assert_allclose(summed, raw, rtol=1e-10)
    assert np.isfinite(raw).all()


def test_the_likelihood_sums_to_one_over_spike_trains() -> None:
    """Over all trains of the first 12 bins, with the chances of the other bins taken out."""
    theta = PRIOR.as_mapping(PRIOR.sample(1, np.random.default_rng(7)))
    trains = (np.arange(2**12)[:, None] >> np.arange(12)) & 1
    silent = np.zeros(100)
    values = [
        bernoulli_glm_raw_log_likelihood(theta, np.r_[train, silent[12:]].astype(np.float64), RNG)[0]
        for train in trains
    ]
    rest = bernoulli.logpmf(0, chances(PRIOR.as_array(theta)[0])[12:]).sum()
    assert abs(logsumexp(values) - rest) < 1e-9


def test_different_spike_trains_have_different_statistics() -> None:
    """65,536 trains that differ in 16 of the bins: no two agree."""
    trains = (np.arange(2**16)[:, None] >> np.arange(16)) & 1
    statistics = trains @ DESIGN[40:56]
    assert len(np.unique(statistics, axis=0)) == 2**16
