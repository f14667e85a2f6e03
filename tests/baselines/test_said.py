"""What is refused and what is said, by one rule for all methods."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.errors import SettingsError

PRIOR = sf.Prior(mu=norm(0, 1))
Y = np.array([0.5, 1.0, 0.2, 0.7])


@sf.simulator(PRIOR)
def normals(theta: Any, rng: Any) -> Any:
    """Four normals around mu."""
    return theta["mu"][:, None] + rng.normal(size=(len(theta["mu"]), 4))


@sf.simulator(PRIOR)
def fails_high(theta: Any, rng: Any) -> Any:
    """The same, which fails above 0.3."""
    mu = theta["mu"][:, None]
    return np.where(mu > 0.3, np.nan, mu + rng.normal(size=(len(mu), 4)))


@pytest.mark.parametrize("method", ["rejection", "smc", "pmc"])
def test_failures_are_in_the_verdict_and_all_simulations_are_counted(method: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draws = sf.abc(fails_high, Y, method=method, n_simulations=3000, seed=1)
    assert draws.verdict.level != "trust"
    assert "% of the simulations failed" in draws.verdict.text
    if method == "rejection":
        assert draws.facts["simulations"] == 3000


def test_few_accepted_are_a_reason_for_caution() -> None:
    made = sf.simulate(normals, 3000, seed=1)
    levels = [sf.rejection_abc(normals, Y, simulations=made, nearest=m).verdict.level for m in (20, 60, 100)]
    assert levels == ["do not trust", "caution", "trust"]


def test_rejection_without_simulations() -> None:
    with pytest.raises(SettingsError, match="simulations="):
        sf.rejection_abc(normals, Y, simulations=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"summaries": "foo"}, {"summaries": 3}, {"epsilon": 1, "quantile": 0.1}])
def test_settings_are_checked_when_they_are_set(given: Any) -> None:
    with pytest.raises(SettingsError):
        sf.ABCSettings(**given)


@pytest.mark.parametrize("method", ["rejection", "smc"])
def test_values_that_simulations_lack_are_in_the_verdict(method: Any) -> None:
    """The median stands for 30% of the values, so the draws are too wide."""

    @sf.simulator(PRIOR, missing=True)
    def gappy(theta: Any, rng: Any) -> Any:
        y = theta["mu"][:, None] + rng.normal(size=(len(theta["mu"]), 4))
        y[rng.random(y.shape) < 0.3] = np.nan
        return y

    found = sf.abc(gappy, np.array([0.5, np.nan, 0.2, 0.7]), method=method, n_simulations=20_000, seed=1)
    assert found.verdict.level == "caution"
    assert "the median stands" in found.verdict.text
