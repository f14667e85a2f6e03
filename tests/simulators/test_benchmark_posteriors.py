"""The ten benchmark tasks against their published reference posteriors, and what holds for all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest, multivariate_t

from simulators.bernoulli_glm import DESIGN, bernoulli_glm, bernoulli_glm_raw
from simulators.gaussian_linear import gaussian_linear, gaussian_linear_uniform
from simulators.gaussian_mixture import gaussian_mixture
from simulators.lotka_volterra import lotka_volterra
from simulators.sir import sir
from simulators.slcp import informative_columns, slcp, slcp_distractors
from simulators.two_moons import two_moons

from ..benchmarks.references import SAME_POSTERIOR, folded

F = NDArray[np.float64]

TASKS = {
    task.name: task
    for task in (
        *(two_moons, slcp, slcp_distractors, gaussian_linear, gaussian_linear_uniform),
        *(gaussian_mixture, bernoulli_glm, bernoulli_glm_raw, sir, lotka_volterra),
    )
}
SIZES = {  # parameters and numbers in y, as published
    "two_moons": (2, 2),
    "slcp": (5, 8),
    "slcp_distractors": (5, 100),
    "gaussian_linear": (10, 10),
    "gaussian_linear_uniform": (10, 10),
    "gaussian_mixture": (2, 2),
    "bernoulli_glm": (10, 10),
    "bernoulli_glm_raw": (10, 100),
    "sir": (2, 10),
    "lotka_volterra": (4, 20),
}
PROPOSALS = {
    "lotka_volterra": (3000, 1.3),
    "sir": (3000, 1.3),
    "slcp": (200_000, 2.0),
    "slcp_distractors": (200_000, 2.0),
}
REFERENCE = np.load(Path(__file__).parent.parent / "data" / "benchmark_posteriors.npz")

each = pytest.mark.parametrize("name", TASKS)
observation = pytest.mark.parametrize("number", ["1", "2"])


def weighted(name: str, number: str) -> tuple[F, F]:
    """Draws and normalised weights for p(theta | y) on one of its symmetric modes.

    The proposal is a Student t of 4 degrees of freedom, wider than 200 published draws by a factor; slcp
    needs a wide one, as its modes are far from normal and a narrow proposal gives a few draws of their tails
    very large weights.
    """
    n, width = PROPOSALS.get(name, (40_000, 1.3))
    task, reference = TASKS[name], SAME_POSTERIOR.get(name, name)
    published = folded(reference, REFERENCE[f"{reference}/{number}/draws"].astype(np.float64))
    proposal = multivariate_t(published.mean(axis=0), width**2 * np.cov(published.T), df=4)
    theta = proposal.rvs(n, random_state=np.random.default_rng(1))
    kept = task.prior.inside(theta) & (folded(reference, theta) == theta).all(axis=1)
    theta = theta[kept]
    assert task.log_likelihood is not None
    log_likelihood = task.log_likelihood(
        task.prior.as_mapping(theta), task.data(number), np.random.default_rng(2)
    )
    log_weights = log_likelihood + task.prior.log_prob(theta) - proposal.logpdf(theta)
    weights = np.exp(log_weights - log_weights.max())
    return theta, weights / weights.sum()


def assert_like_the_reference(mean: F, sd: F, key: str, ess: float) -> None:
    """Means within 5 standard errors and sds likewise, as if 2,000 of the 10,000 published draws were
    independent.
    """
    error = np.sqrt(1 / ess + 1 / 2000)
    wanted_mean, wanted_sd = REFERENCE[f"{key}/mean"], REFERENCE[f"{key}/sd"]
    assert np.abs((mean - wanted_mean) / wanted_sd).max() < 5 * error
    assert np.abs(np.log(sd / wanted_sd)).max() < 5 * error


@observation
@each
def test_importance_sampling_with_the_likelihood_gives_the_published_posterior(
    name: str, number: str
) -> None:
    theta, weights = weighted(name, number)
    ess = 1 / np.square(weights).sum()
    assert ess > 500
    mean = weights @ theta
    assert_like_the_reference(
        mean, np.sqrt(weights @ (theta - mean) ** 2), f"{SAME_POSTERIOR.get(name, name)}/{number}", float(ess)
    )


@observation
@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.exact_posterior is not None])
def test_draws_in_closed_form_follow_the_published_posterior(name: str, number: str) -> None:
    """Also Kolmogorov-Smirnov against 200 published draws, each column at 1e-6."""
    task = TASKS[name]
    assert task.exact_posterior is not None
    draws = np.asarray(task.exact_posterior(task.data(number), 10_000, np.random.default_rng(3)))
    one_mode = folded(name, draws)
    assert_like_the_reference(one_mode.mean(axis=0), one_mode.std(axis=0), f"{name}/{number}", 10_000)
    for column, published in zip(draws.T, REFERENCE[f"{name}/{number}/draws"].T, strict=True):
        assert kstest(column, published.astype(np.float64)).pvalue > 1e-6


@each
def test_sizes_and_names_of_the_observations_are_those_published(name: str) -> None:
    task = TASKS[name]
    assert (task.prior.d, *task.event_shape) == SIZES[name]
    assert list(task.observed) == [str(number) for number in range(1, 11)]


def test_the_observations_of_a_family_agree() -> None:
    """The distractors hide the points of `slcp`; the spike trains have the statistics of `bernoulli_glm`."""
    for number in slcp.observed:
        np.testing.assert_array_equal(slcp_distractors.data(number)[informative_columns()], slcp.data(number))
        np.testing.assert_allclose(
            bernoulli_glm_raw.data(number) @ DESIGN, bernoulli_glm.data(number), atol=1e-5
        )


@each
def test_the_observations_are_unremarkable_among_simulations(name: str) -> None:
    """None has a quarter of its numbers outside the range of 1,000 draws of the prior predictive: by chance,
    one number in 500 is.
    """
    task, rng = TASKS[name], np.random.default_rng(4)
    y = task.run(task.prior.sample(1000, rng), rng)
    outside = [
        np.mean((task.data(number) < y.min(axis=0)) | (task.data(number) > y.max(axis=0)))
        for number in task.observed
    ]
    assert max(outside) < 0.25


def test_only_the_prior_that_needs_torch_loads_it() -> None:
    names = ["gaussian_linear", "gaussian_mixture", "lotka_volterra", "sir", "slcp", "two_moons"]
    code = (
        f"import sys\nimport {', '.join(f'simulators.{name}' for name in names)}\nprint('torch' in "
        "sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "False"
