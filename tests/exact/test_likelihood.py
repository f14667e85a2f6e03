"""What a user's log-likelihood may do wrong, and where it is computed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sbi_flows.errors import SettingsError, SimulatorContractError
from sbi_flows.exact import likelihood as module
from sbi_flows.exact.likelihood import Budget, Likelihood
from tests.exact.gaussian_toy import Y, raising, raising_toy, sampled, toy

F = NDArray[np.float64]


def written(theta: Any, y: F, rng: np.random.Generator) -> Any:
    theta["theta_1"][:] = 0
    return theta["theta_1"]


BAD: dict[str, tuple[Callable[..., Any], str]] = {
    "raises": (raising, "RuntimeError: no licence \\(at theta_1 = "),
    "NaN": (lambda theta, y, rng: np.where(theta["theta_1"] > 0.5, np.nan, 0.0), "got nan at theta_1 = "),
    "infinite": (lambda theta, y, rng: np.full(len(theta["theta_1"]), np.inf), "got inf at theta_1"),
    "one number": (lambda theta, y, rng: 1.0, "shape \\(100,\\), got shape \\(\\)"),
    "a column": (lambda theta, y, rng: theta["theta_1"][:, None], "got shape \\(100, 1\\)"),
    "nothing": (lambda theta, y, rng: None, "got shape \\(\\)"),
    "words": (lambda theta, y, rng: ["low"] * len(theta["theta_1"]), "got list"),
    "writes": (written, "read-only"),
    "another name": (lambda theta, y, rng: theta["rate"], "no parameter 'rate'"),
    "impossible data": (lambda theta, y, rng: np.full(len(theta["theta_1"]), -np.inf), "-inf at all"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_likelihood_that_breaks_its_contract_is_a_typed_error(name: str) -> None:
    function, words = BAD[name]
    with pytest.raises(SimulatorContractError, match=words):
        sampled(toy(function), n=100, ess=200.0, evaluations=2000)


def test_a_worker_tells_the_same_error() -> None:
    with pytest.raises(SimulatorContractError, match="RuntimeError: no licence \\(at theta_1 = "):
        sampled(raising_toy, n=100, ess=200.0, place={"workers": 2})


def test_impossible_data_at_some_theta_are_no_error() -> None:
    clean = toy().log_likelihood
    assert clean is not None

    def cut(theta: Mapping[str, F], y: F, rng: np.random.Generator) -> F:
        return np.where(theta["theta_1"] > 0.5, -np.inf, clean(theta, y, rng))

    found = sampled(toy(cut), n=500, ess=1000.0)
    assert found.monte_carlo.level == "trust"
    assert (found.theta[:, 0] <= 0.5).all()


def test_a_simulator_that_cannot_be_sent_to_workers_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, clean = threading.Lock(), toy().log_likelihood
    assert clean is not None

    def locked(theta: Mapping[str, F], y: F, rng: np.random.Generator) -> F:
        with lock:
            return np.asarray(clean(theta, y, rng))

    monkeypatch.setattr(module, "_WORTH_WORKERS_SECONDS", 0.0)
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    found = sampled(toy(locked), n=100, ess=200.0, place={})
    assert found.monte_carlo.k_hat < 0.7
    with pytest.raises(SettingsError, match="workers=1"):
        sampled(toy(locked), n=100, ess=200.0, place={"workers": 2})


def test_each_block_has_its_own_stream_wherever_the_calls_are_cut() -> None:
    simulator, theta = toy(noise=1.0), np.zeros((250, 2))
    with Likelihood(simulator, Y, 1, Budget(1000), {"workers": 1}) as whole:
        values = whole(theta)
    with Likelihood(simulator, Y, 1, Budget(1000), {"workers": 1}) as parts:
        again = np.concatenate([parts(theta[:100]), parts(theta[100:])])
    np.testing.assert_array_equal(values, again)
    assert len(np.unique(values)) == 250


def test_options_of_simulating_are_refused() -> None:
    with pytest.raises(SettingsError, match="time_limit"):
        Likelihood(toy(), Y, 1, Budget(10), {"time_limit": 3.0})
