"""Ensembles: the same members wherever they are trained, and draws that follow the mixture's density."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2

import sbi_flows as sf
from sbi_flows.errors import NonFiniteLossError
from sbi_flows.npe import ensemble
from sbi_flows.npe.estimate import estimate
from sbi_flows.npe.network import Ensemble, stacking_weights
from sbi_flows.npe.request import Request
from sbi_flows.npe.settings import decay_factors

from ..conftest import QUICK

THREE = replace(QUICK, members=3)


@pytest.fixture(scope="module")
def posterior(unbounded: sf.Simulator) -> sf.Posterior:
    """Three members, few steps: they differ much."""
    return sf.fit(unbounded, n_simulations=600, seed=2, settings=THREE, say=None)


def leaves(posterior: sf.Posterior) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in posterior.estimator.state_dict().items()}


def test_members_trained_in_workers_are_those_trained_here(
    unbounded: sf.Simulator, posterior: sf.Posterior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ensemble, "_WORTH_A_WORKER", 0)
    monkeypatch.setattr(ensemble, "usable_cores", lambda: 2)
    told: list[str] = []
    shared = sf.fit(
        unbounded,
        n_simulations=600,
        seed=2,
        settings=THREE,
        say=None,
        progress=lambda done, total, text: told.append(text),
    )
    assert leaves(shared) == leaves(posterior)
    assert told[0].startswith("member 1 of 3, loss ")
    alone = sf.fit(unbounded, n_simulations=600, seed=2, settings=QUICK, say=None)
    whole = leaves(posterior)
    assert all(whole[name] == value for name, value in leaves(alone).items() if name != "mixture_weights")
    assert whole["members.1.flow.layers.0._linear.weight"] != whole["members.0.flow.layers.0._linear.weight"]


class Broken(ThreadPoolExecutor):
    """A pool whose workers are killed."""

    def submit(self, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        future.set_exception(BrokenExecutor("a worker was killed"))
        return future


def test_members_whose_worker_dies_are_trained_here(
    unbounded: sf.Simulator, posterior: sf.Posterior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ensemble, "_WORTH_A_WORKER", 0)
    monkeypatch.setattr(ensemble, "usable_cores", lambda: 2)
    monkeypatch.setattr(ensemble, "local_workers", lambda count: Broken)
    assert leaves(sf.fit(unbounded, n_simulations=600, seed=2, settings=THREE, say=None)) == leaves(posterior)


@pytest.fixture(scope="module")
def uneven(posterior: sf.Posterior) -> sf.Posterior:
    """The same with mixture weights far from equal."""
    network = copy.deepcopy(posterior.estimator)
    network.mixture_weights.copy_(torch.tensor([0.6, 0.3, 0.1]))
    return replace(posterior, estimator=network)


def test_the_density_is_the_mixture_of_the_members_and_the_draws_follow_it(uneven: sf.Posterior) -> None:
    y, posterior = 2.0, uneven
    network = posterior.estimator
    single = [replace(posterior, estimator=Ensemble([member])) for member in network.estimators()]
    theta = np.linspace(-8, 8, 4001)[:, None]
    densities = np.exp([part.log_prob(theta, y) for part in single])
    mixture = np.exp(posterior.log_prob(theta, y))
    weights = network.mixture_weights.double().numpy()
    np.testing.assert_allclose(mixture, weights / weights.sum() @ densities, rtol=1e-10)
    assert np.abs(densities[0] - densities[1]).max() > 0.05 * mixture.max(), (
        "the members must differ for this to test anything"
    )
    n, bins = 20_000, 20
    cumulative = np.cumsum(mixture)
    edges = theta[np.searchsorted(cumulative / cumulative[-1], np.arange(1, bins) / bins), 0]
    counts = np.bincount(
        np.searchsorted(edges, posterior.sample(y, n, seed=3).to_numpy()[:, 0]), minlength=bins
    )
    # Fixed numbers from each member make the statistic smaller than chi-squared, so the false-alarm rate is
    # below 1e-5.
    assert ((counts - n / bins) ** 2 / (n / bins)).sum() < chi2(bins - 1).isf(1e-5)


def test_single_draws_come_from_the_members_by_their_weights(uneven: sf.Posterior) -> None:
    y, posterior = np.full(3000, 1.0), uneven
    ones = posterior.sample(y, 1, seed=4).to_numpy()[:, 0, 0]
    many = posterior.sample(y[0], 3000, seed=5).to_numpy()[:, 0]
    edges = np.quantile(many, np.arange(1, 10) / 10)
    observed, expected = (
        np.bincount(np.searchsorted(edges, values), minlength=10) for values in (ones, many)
    )
    # Two samples of 3,000: the difference of two counts has variance of at most twice their mean; false-alarm
    # rate 1e-5.
    assert ((observed - expected) ** 2 / (observed + expected)).sum() < chi2(9).isf(1e-5)


def test_mixture_weights_are_those_of_the_largest_density() -> None:
    rows = np.random.default_rng(1).normal(size=5000)
    locations = torch.tensor([[0.0], [0.5], [4.0]])
    weights = stacking_weights(
        torch.distributions.Normal(locations.double(), 1.0).log_prob(torch.from_numpy(rows))
    )
    assert weights.sum() == pytest.approx(1)
    assert (
        weights[0] > 0.9
    )  # the truth; its standard error, of a mixture of unit normals half a unit apart, is 0.03
    assert 0 < weights[2] < 0.002
    even = stacking_weights(torch.zeros(4, 100))
    torch.testing.assert_close(even, torch.full((4,), 0.25, dtype=torch.float64))


def test_members_decay_differently_unless_training_is_asked_for(
    unbounded: sf.Simulator, posterior: sf.Posterior
) -> None:
    assert decay_factors(1) == [1.0]
    np.testing.assert_allclose(decay_factors(4), [3, 3 ** (1 / 3), 3 ** (-1 / 3), 1 / 3])
    assert posterior.notes[-1].values["decay_factors"] == [1.0] * 3
    simulations = sf.simulate(unbounded, 300, seed=1)
    settings = sf.FitSettings(members=2)
    found = estimate(unbounded.prior, simulations, Request(settings=settings, seed=1))
    assert found.notes[-1].values["decay_factors"] == pytest.approx([3, 1 / 3])


def test_the_error_of_a_worker_reaches_the_caller_with_its_rows() -> None:
    error = pickle.loads(pickle.dumps(NonFiniteLossError("the loss became nan", np.arange(3))))
    assert str(error) == "the loss became nan"
    assert error.rows.tolist() == [0, 1, 2]
