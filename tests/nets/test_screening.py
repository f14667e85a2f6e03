"""The screen keeps columns that depend on the parameters in any of three ways, and few of those that do
not.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from sbi_flows.nets.screening import relevant_columns

N = 1000


def parameters(seed: int = 0, d: int = 3) -> tuple[np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, d)), rng


def test_dependence_on_the_mean_the_variance_an_angle_and_a_product_is_seen() -> None:
    z, rng = parameters()
    noise = rng.standard_normal((N, 5))
    mean = 0.3 * z[:, 0] + noise[:, 0]
    variance = noise[:, 1] * np.exp(0.3 * z[:, 1])
    angle = np.sin(3 * z[:, 2]) + noise[:, 2]
    product = 0.3 * z[:, 0] * z[:, 1] + noise[:, 3]
    heavy = 0.5 * z[:, 0] + rng.standard_cauchy(N)
    binary = (z[:, 0] + noise[:, 4] > 0).astype(float)
    assert relevant_columns(np.column_stack([mean, variance, angle, product, heavy, binary]), z).all()


def test_a_covariate_that_only_matters_beside_its_response_is_seen() -> None:
    z, rng = parameters()
    x = rng.standard_normal((N, 10))
    y = z[:, :1] + z[:, 1:2] * x + rng.standard_normal((N, 10))
    assert relevant_columns(np.hstack([x, y]), z).all()


@pytest.mark.parametrize("kind", ["normal", "cauchy", "binary", "constant"])
def test_columns_that_say_nothing_pass_at_most_at_the_stated_rate(kind: str) -> None:
    """Three tests at 0.5% each: of 400 columns more than the 1 - 1e-4 quantile of Binomial(400, 1.5%) has a
    probability below 1e-4.
    """
    z, rng = parameters(seed=7)
    columns = {
        "normal": rng.standard_normal((N, 400)),
        "cauchy": rng.standard_cauchy((N, 400)),
        "binary": rng.integers(0, 2, (N, 400)).astype(float),
        "constant": np.ones((N, 400)),
    }
    assert relevant_columns(columns[kind], z).sum() <= binom.ppf(1 - 1e-4, 400, 0.015)


def test_few_rows_and_many_parameters_are_no_trouble() -> None:
    rng = np.random.default_rng(1)
    z = rng.standard_normal((120, 12))
    found = relevant_columns(
        np.hstack([z + 0.1 * rng.standard_normal(z.shape), rng.standard_normal((120, 12))]), z
    )
    assert found[:12].all()


def test_many_weak_signals_are_not_noise() -> None:
    z, rng = parameters(d=1)
    assert relevant_columns(z + 20 * rng.standard_normal((N, 500)), z).all()
