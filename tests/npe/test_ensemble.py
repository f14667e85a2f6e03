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
from sbi_flows.npe import ensemble as members
from sbi_flows.npe.estimate import estimate
from sbi_flows.npe.network import Ensemble, PosteriorEstimator, stacked
from sbi_flows.npe.settings import spread

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
    monkeypatch.setattr(members, "_WORTH_A_WORKER", 0)
    monkeypatch.setattr(members, "usable_cores", lambda: 2)
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
    assert all(whole[f"members.0.{name}"] == value for name, value in leaves(alone).items())
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
    monkeypatch.setattr(members, "_WORTH_A_WORKER", 0)
    monkeypatch.setattr(members, "usable_cores", lambda: 2)
    monkeypatch.setattr(members, "local_workers", lambda count: Broken)
    assert leaves(sf.fit(unbounded, n_simulations=600, seed=2, settings=THREE, say=None)) == leaves(posterior)


@pytest.fixture(scope="module")
def uneven(posterior: sf.Posterior) -> sf.Posterior:
    """The same with shares far from equal."""
    network = copy.deepcopy(posterior.estimator)
    assert isinstance(network, Ensemble)
    network.shares.copy_(torch.tensor([0.6, 0.3, 0.1]))
    return replace(posterior, estimator=network)


def test_the_density_is_the_mixture_of_the_members_and_the_draws_follow_it(uneven: sf.Posterior) -> None:
    y, posterior = 1.0, uneven
    network = posterior.estimator
    assert isinstance(network, Ensemble)
    single = [
        replace(posterior, estimator=member)
        for member in network.members
        if isinstance(member, PosteriorEstimator)
    ]
    theta = np.linspace(-8, 8, 4001)[:, None]
    densities = np.exp([part.log_prob(theta, y) for part in single])
    mixture = np.exp(posterior.log_prob(theta, y))
    shares = network.shares.double().numpy()
    np.testing.assert_allclose(mixture, shares / shares.sum() @ densities, rtol=1e-10)
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


def test_single_draws_come_from_the_members_in_their_shares(uneven: sf.Posterior) -> None:
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


def test_shares_are_those_of_the_largest_density() -> None:
    rows = np.random.default_rng(1).normal(size=5000)
    locations = torch.tensor([[0.0], [0.5], [4.0]])
    shares = stacked(torch.distributions.Normal(locations.double(), 1.0).log_prob(torch.from_numpy(rows)))
    assert shares.sum() == pytest.approx(1)
    assert (
        shares[0] > 0.9
    )  # the truth; its standard error, of a mixture of unit normals half a unit apart, is 0.03
    assert 0 < shares[2] < 0.002
    even = stacked(torch.zeros(4, 100))
    torch.testing.assert_close(even, torch.full((4,), 0.25, dtype=torch.float64))


def test_members_decay_differently_unless_training_is_asked_for(
    unbounded: sf.Simulator, posterior: sf.Posterior
) -> None:
    assert spread(1) == [1.0]
    np.testing.assert_allclose(spread(4), [3, 3 ** (1 / 3), 3 ** (-1 / 3), 1 / 3])
    assert posterior.notes[-1].count("(1 times the weight decay") == 3
    simulations = sf.simulate(unbounded, 300, seed=1)
    settings = sf.FitSettings(members=2)
    found = estimate(unbounded.prior, simulations, settings, seed=1, say=lambda text: None)
    assert "(0.33 times the weight decay" in found.notes[-1]


def test_the_error_of_a_worker_reaches_the_caller_with_its_rows() -> None:
    error = pickle.loads(pickle.dumps(NonFiniteLossError("the loss became nan", np.arange(3))))
    assert str(error) == "the loss became nan"
    assert error.rows.tolist() == [0, 1, 2]
