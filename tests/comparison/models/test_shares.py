"""ABC model choice, against probabilities that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.baselines.target import Target
from sbi_flows.comparison.models.pool import Pool, simulations_of
from sbi_flows.comparison.models.request import checked_models
from sbi_flows.comparison.models.shares import Nearest
from sbi_flows.errors import ObservationError, TooFewSimulationsError
from sbi_flows.notes import Notes


def one_number(sd: float, centre: float) -> sf.Simulator:
    """y = m + e: N(centre, 1 + sd^2)."""

    def made(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return theta["m"][:, None] + rng.standard_normal((len(theta["m"]), 1))

    return sf.Simulator(made, sf.Prior(m=norm(centre, sd)), event_shape=(1,))


MODELS = {"near": one_number(1.0, 0.0), "far": one_number(1.0, 2.0)}


def nearest(y: float, n: int, quantile: float, seed: int = 1) -> tuple[Nearest, np.ndarray]:
    models = checked_models(MODELS, [y], None, None, None)
    pool = Pool.of(simulations_of(models, n, 0, seed, Notes(), None), models, seed)
    return Nearest(
        pool, Target(MODELS["near"], models.observed, MODELS["near"].declared_summaries), quantile
    ), models.prior


def exact(y: float) -> float:
    """log BF of "far" against "near"."""
    sd = np.sqrt(2)
    return float(norm(2, sd).logpdf(y) - norm(0, sd).logpdf(y))


@pytest.mark.parametrize("y", [0.0, 1.0, 2.5])
def test_shares_and_the_regression_find_the_bayes_factor_of_a_sufficient_summary(y: float) -> None:
    """Within 4 of their own errors, and 0.02 for the width of the kernel."""
    found, prior = nearest(y, 20_000, 0.02)
    for choice in (found.shares(prior), found.regressed(prior)):
        factor, error = choice.log_bayes_factors(0)
        assert abs(factor[1] - exact(y)) < 4 * error[1] + 0.02
        assert 0 < error[1] < 0.2


def test_the_regression_removes_the_bias_of_a_wide_tolerance() -> None:
    """A fifth of the simulations accepted: the logit is linear in y, so the regression is exact."""
    found, prior = nearest(-1.0, 20_000, 0.2)
    by_count, regressed = (
        c.log_bayes_factors(0)[0][1] for c in (found.shares(prior), found.regressed(prior))
    )
    assert abs(regressed - exact(-1.0)) < 0.15
    assert abs(by_count - exact(-1.0)) > 2 * abs(regressed - exact(-1.0))


def test_prior_probabilities_multiply_the_shares() -> None:
    found, _ = nearest(1.0, 2000, 0.1)
    p = found.shares(np.array([0.8, 0.2])).probabilities
    assert p[1] == pytest.approx(expit(found.shares(np.full(2, 0.5)).log_bayes_factors(0)[0][1] - np.log(4)))


def test_a_model_that_is_never_accepted_keeps_a_finite_factor_with_a_large_error() -> None:
    found, prior = nearest(-4.0, 20_000, 0.005)
    choice = found.shares(prior)
    assert choice.facts["accepted"][1] < 10
    assert np.isfinite(choice.log_bayes_factors(0)[0]).all()


def test_too_few_simulations_and_summaries_that_are_not_finite_are_refused() -> None:
    with pytest.raises(TooFewSimulationsError, match="accept"):
        nearest(0.0, 100, 0.01)
    models = checked_models(MODELS, [0.0], None, None, None)
    pool = Pool.of(simulations_of(models, 1000, 0, 1, Notes(), None), models, 1)
    of_nothing = sf.Simulator(
        MODELS["near"].function, MODELS["near"].prior, event_shape=(1,), summaries=lambda y: y * np.nan
    )
    with pytest.raises(ObservationError, match="not finite"):
        Nearest(pool, Target(of_nothing, models.observed, of_nothing.declared_summaries), 0.1)


def test_the_nearest_of_a_model_are_its_own_in_order() -> None:
    models = checked_models(MODELS, [0.5], None, None, None)
    pool = Pool.of(simulations_of(models, 1000, 0, 1, Notes(), None), models, 1)
    found = Nearest(pool, Target(MODELS["near"], models.observed, MODELS["near"].declared_summaries), 0.2)
    distances = np.abs(found.nearest_of(pool, 1)[:, 0] - 0.5)
    assert len(distances) == 200
    assert (np.diff(distances) >= 0).all()
    assert distances[-1] <= np.sort(np.abs(pool.y[pool.labels == 1, 0] - 0.5))[199]
