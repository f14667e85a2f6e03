"""The Ricker model: the map, the counts, the likelihood and the summaries, each against something slow that
shares no code with it.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import kstest, norm, poisson, uniform

import sbi_flows as sf
from simulators.ricker import (
    CLASSIC_PRIOR,
    CLASSIC_THETA,
    GREAT_TITS,
    classic_series,
    great_tits,
    make_ricker,
    ricker,
    ricker_log_likelihood,
    ricker_summaries,
    simulate_ricker,
)

F = NDArray[np.float64]


def rows(n: int, log_r: float, sigma: float, rho: float) -> dict[str, F]:
    return {"log_r": np.full(n, log_r), "sigma": np.full(n, sigma), "rho": np.full(n, rho)}


def path(log_r: float, steps: int, n0: float = 1.0) -> list[float]:
    """N_1..N_T without noise."""
    population = [n0]
    for _ in range(steps):
        population.append(np.exp(log_r) * population[-1] * np.exp(-population[-1]))
    return population[1:]


@pytest.mark.parametrize(("log_r", "n0"), [(0.5, 1.0), (1.5, 1.0), (2.4, 1.0), (1.5, 0.01)])
def test_without_noise_the_counts_are_poisson_around_the_map(log_r: float, n0: float) -> None:
    """120 z-scores of nearly normal counts, all below 5.5: false alarm rate 5e-6."""
    counts = simulate_ricker(rows(4, log_r, 1e-12, 1e5), np.random.default_rng(1), 30, n0)
    mean = 1e5 * np.array(path(log_r, 30, n0))
    assert (np.abs(counts - mean) < 5.5 * np.sqrt(mean) + 1).all()


def test_counts_at_a_fixed_population_have_the_mean_and_the_variance_of_poisson() -> None:
    """n = 40,000 at rate 10 r / e: z-scores of the mean and of the dispersion, below 4.5: false alarm rate
    7e-6 each.
    """
    n, rate = 40_000, 10 * np.exp(2.0 - 1)
    counts = simulate_ricker(rows(n, 2.0, 1e-12, 10.0), np.random.default_rng(2), 1)[:, 0].astype(np.float64)
    assert abs(counts.mean() - rate) < 4.5 * np.sqrt(rate / n)
    assert abs(counts.var() / counts.mean() - 1) < 4.5 * np.sqrt(2 / n)


def test_the_noise_of_each_step_is_normal_with_sd_sigma_and_independent() -> None:
    """With rho = 1e10, x/rho is N. Kolmogorov-Smirnov and a correlation, false alarm rate 1e-5 each."""
    n, log_r, sigma = 4000, 3.8, 0.3
    population = (
        simulate_ricker(rows(n, log_r, sigma, 1e10), np.random.default_rng(3), 2).astype(np.float64) / 1e10
    )
    first = np.log(population[:, 0]) - (log_r - 1)
    kept = population[:, 1] > 1e-4
    second = (np.log(population[kept, 1] / population[kept, 0]) - log_r + population[kept, 0])[
        population[kept, 0] < 10
    ]
    assert kstest(first, norm(0, sigma).cdf).pvalue > 1e-5
    assert kstest(second, norm(0, sigma).cdf).pvalue > 1e-5
    correlation = np.corrcoef(first[kept][population[kept, 0] < 10], second)[0, 1]
    assert abs(correlation) < 4.5 / np.sqrt(len(second))


def test_counts_are_whole_and_the_shape_is_as_declared() -> None:
    counts = make_ricker(steps=17).run(
        CLASSIC_PRIOR.sample(50, np.random.default_rng(0)), np.random.default_rng(1)
    )
    assert counts.shape == (50, 17)
    assert counts.dtype == np.float32
    assert (counts >= 0).all()
    np.testing.assert_array_equal(counts, np.round(counts))


def grid_log_likelihood(
    theta: tuple[float, float, float], y: F, n0: float = 1.0, step: float = 0.01
) -> float:
    """log p(y | theta) by the forward recursion over a grid of log N: deterministic, with no particle in
    it.
    """
    log_r, sigma, rho = theta
    grid = np.arange(-25, 5, step)
    alpha = norm.pdf(grid, log_r + np.log(n0) - n0, sigma) * poisson.pmf(y[0], rho * np.exp(grid))
    if len(y) > 1:
        kernel = norm.pdf(grid[:, None], log_r + grid - np.exp(grid), sigma) * step
    for count in y[1:]:
        alpha = (kernel @ alpha) * poisson.pmf(count, rho * np.exp(grid))
    return float(np.log(alpha.sum() * step))


CASES = {
    "settled": ((1.5, 0.3, 10.0), [19, 12, 14, 20, 13], 1.0),
    "one year": ((2.5, 0.4, 5.0), [20], 1.0),
    "with zeros": ((2.6, 0.4, 2.0), [9, 0, 2, 6, 0], 1.0),
    "noisy": ((2.2, 0.7, 4.0), [9, 12, 1, 5, 16, 2], 1.0),
    "unlikely": ((2.0, 0.3, 10.0), [45, 8, 20, 30], 1.0),
    "from another start": ((2.0, 0.3, 8.0), [3, 14, 20, 9], 0.05),
}


@pytest.mark.parametrize("name", ["settled", "with zeros"])
def test_the_reference_likelihood_has_converged(name: str) -> None:
    theta, y, n0 = CASES[name]
    coarse, fine = (grid_log_likelihood(theta, np.array(y, dtype=float), n0, step) for step in (0.02, 0.01))
    assert coarse == pytest.approx(fine, abs=1e-7)


def test_the_reference_likelihood_sums_to_one_over_the_counts() -> None:
    total = sum(
        np.exp(grid_log_likelihood((1.0, 0.3, 3.0), np.array([x], dtype=float), step=0.02)) for x in range(60)
    )
    assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("particles", [20, 300])
@pytest.mark.parametrize("name", CASES)
def test_the_particle_filter_estimates_the_likelihood_without_bias(name: str, particles: int) -> None:
    """The mean of 3,000 estimates, in standard errors from the reference, below 5: false alarm rate 6e-7 were
    they normal.
    """
    theta, y, n0 = CASES[name]
    data = np.array(y, dtype=np.float64)
    estimates = ricker_log_likelihood(rows(3000, *theta), data, np.random.default_rng(7), n0, particles)
    ratios = np.exp(estimates - grid_log_likelihood(theta, data, n0))
    assert abs(ratios.mean() - 1) < 5 * ratios.std() / np.sqrt(len(ratios))
    assert ratios.std() / np.sqrt(len(ratios)) < 0.05


def test_rows_of_the_filter_are_independent_and_keep_their_own_theta() -> None:
    """250 rows span three pieces; the likelihoods compared differ by nats, the estimates of 1,000 particles
    by hundredths.
    """
    theta = {"log_r": np.full(250, 1.5), "sigma": np.full(250, 0.3), "rho": np.linspace(7, 22, 250)}
    y = np.array([19.0, 12, 14, 20, 13])
    estimates = ricker_log_likelihood(theta, y, np.random.default_rng(8))
    wanted = [grid_log_likelihood((1.5, 0.3, rho), y, step=0.02) for rho in theta["rho"][::50]]
    np.testing.assert_allclose(estimates[::50], wanted, atol=0.5)
    assert np.abs(np.diff(wanted)).min() > 1
    assert estimates.shape == (250,)


def test_the_filter_of_the_classic_series_prefers_the_truth() -> None:
    truth = rows(5, *CLASSIC_THETA.values())
    wrong = rows(5, 3.8, 0.3, 14.0)
    at_truth, at_wrong = (
        ricker_log_likelihood(theta, classic_series(), np.random.default_rng(9)) for theta in (truth, wrong)
    )
    assert logsumexp(at_truth) > logsumexp(at_wrong) + 5


def slow_summaries(x: F) -> list[float]:
    """Wood's statistics of one series, term by term."""
    steps, mean = len(x), float(np.mean(x))
    covariances = [
        float(np.mean([(x[t] - mean) * (x[t + lag] - mean) for t in range(steps - lag)])) for lag in range(6)
    ]
    differences = sorted(x[t + 1] - x[t] for t in range(steps - 1))
    scores = [norm.ppf((i + 0.5) / (steps - 1)) for i in range(steps - 1)]
    slopes = np.polyfit(scores, differences, 3)[::-1][1:]
    regressors = np.array([[x[t] ** 0.3, x[t] ** 0.6] for t in range(steps - 1)])
    growth = np.linalg.lstsq(regressors, np.array([x[t + 1] ** 0.3 for t in range(steps - 1)]), rcond=None)[0]
    return [*covariances, *slopes, *growth, mean, float(sum(value == 0 for value in x))]


def test_the_summaries_are_those_of_wood() -> None:
    y = make_ricker(steps=60).run(
        CLASSIC_PRIOR.sample(20, np.random.default_rng(4)), np.random.default_rng(5)
    )
    wanted = np.array([slow_summaries(row) for row in y.astype(np.float64)])
    assert wanted.shape == (20, 13)
    np.testing.assert_allclose(ricker_summaries(y), wanted, rtol=1e-7, atol=1e-7)


def test_the_summaries_of_a_series_do_not_depend_on_the_others() -> None:
    y = ricker.run(CLASSIC_PRIOR.sample(9, np.random.default_rng(4)), np.random.default_rng(5))
    alone = np.concatenate([ricker_summaries(row[None]) for row in y])
    np.testing.assert_allclose(ricker_summaries(y), alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "y",
    [np.zeros(100), np.full(100, 7.0), np.eye(1, 100)[0], np.r_[np.zeros(99), 1e6]],
    ids=["none", "constant", "one", "last"],
)
def test_the_summaries_of_degenerate_series_are_finite(y: F) -> None:
    values = ricker_summaries(y[None])
    assert values.shape == (1, 13)
    assert np.isfinite(values).all()
    assert values[0, 11] == pytest.approx(y.mean())
    assert values[0, 12] == (y == 0).sum()


def test_the_classic_problem_is_as_published() -> None:
    assert CLASSIC_PRIOR.names == ("log_r", "sigma", "rho")
    np.testing.assert_allclose(CLASSIC_PRIOR.lower, [2, 0.05, 2])
    np.testing.assert_allclose(CLASSIC_PRIOR.upper, [5, 0.7, 20])
    assert CLASSIC_PRIOR.log_prob([3.8, 0.3, 10.0]) == pytest.approx(-np.log(3 * 0.65 * 18))
    assert CLASSIC_THETA == {"log_r": 3.8, "sigma": 0.3, "rho": 10.0}
    assert ricker.event_shape == (100,)


def test_the_classic_series_is_one_draw_at_the_classic_theta() -> None:
    truth = np.array([list(CLASSIC_THETA.values())])
    np.testing.assert_array_equal(ricker.data("classic"), ricker.run(truth, np.random.default_rng(0))[0])


def test_the_great_tits_are_those_of_wytham_wood() -> None:
    listed = (
        "148 258 185 170 267 239 196 132 167 186 128 227 174 177 137 172 119 226 166 161 199 306 206 350 214 "
        "175 211"
    )
    assert tuple(map(int, listed.split())) == GREAT_TITS
    assert len(GREAT_TITS) == len(range(1960, 1987))
    np.testing.assert_array_equal(great_tits.data("wytham_wood"), GREAT_TITS)


def test_the_prior_of_the_great_tits_has_series_like_theirs_well_inside() -> None:
    """The observed mean and year-to-year spread lie between the 5% and 95% quantiles of the prior
    predictive.
    """
    y = sf.simulate(great_tits, 4000, seed=1).y.astype(np.float64)
    observed = np.array(GREAT_TITS, dtype=np.float64)[None]
    for statistic in (lambda x: x.mean(axis=1), lambda x: np.diff(np.log1p(x), axis=1).std(axis=1)):
        low, high = np.quantile(statistic(y), [0.05, 0.95])
        assert low < statistic(observed)[0] < high
    np.testing.assert_allclose(great_tits.prior.lower[:2], [0.2, 0.05])
    np.testing.assert_allclose(great_tits.prior.upper[0], 3)


def test_the_prior_the_length_and_the_start_can_be_set() -> None:
    prior = sf.Prior(log_r=uniform(1, 1), sigma=uniform(0.1, 0.1), rho=uniform(50, 10))
    model = make_ricker("short", 9, 0.5, prior)
    sims = sf.simulate(model, 2000, seed=1)
    assert (model.name, model.event_shape, model.prior) == ("short", (9,), prior)
    first = simulate_ricker(prior.as_mapping(sims.theta), np.random.default_rng(0), 1, 0.5)[:, 0]
    assert kstest(first, sims.y[:, 0]).pvalue > 1e-5


def test_a_series_that_ends_early_has_the_statistics_of_its_steps_and_one_with_gaps_none() -> None:
    y = np.stack([classic_series(1), classic_series(2), classic_series(3)])
    y[1, 40:] = np.nan
    y[2, 7] = np.nan
    found = ricker_summaries(y)
    np.testing.assert_allclose(found[0], ricker_summaries(y[:1])[0], rtol=1e-9)
    np.testing.assert_allclose(found[1], ricker_summaries(y[1:2, :40])[0], rtol=1e-9)
    assert np.isnan(found[2]).all()


def test_the_likelihood_of_a_series_that_ends_early_is_that_of_its_steps() -> None:
    y = np.append(classic_series(1)[:20], [np.nan, np.nan])
    theta = {name: np.array([value] * 2) for name, value in CLASSIC_THETA.items()}
    rng = [np.random.default_rng(1) for _ in range(2)]
    both = [ricker_log_likelihood(theta, part, one) for part, one in zip((y, y[:20]), rng, strict=True)]
    np.testing.assert_array_equal(*both)
