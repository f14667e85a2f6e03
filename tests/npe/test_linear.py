"""The linear Gaussian member: its closed form, when it stays in an ensemble, and that it is kept in files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.errors import SettingsError
from sbi_flows.flows.conditional import LOG_2PI
from sbi_flows.npe.linear import LINEAR, LinearMean, is_linear, linear_member, solve
from sbi_flows.npe.network import PosteriorEstimator
from sbi_flows.rng import torch_scope
from sbi_flows.training.rows import TensorRows
from sbi_flows.training.settings import TrainSettings
from simulators.gaussian import make_gaussian, posterior_moments

from ..conftest import QUICK

ALONE = sf.FitSettings(flow="linear_gaussian", members=1)
OPEN = replace(QUICK, flow="auto", members=None)


def member_of(inputs: int, d: int) -> PosteriorEstimator:
    with torch_scope(np.random.default_rng(0)):
        return linear_member(inputs, d)


def rows_of(u: np.ndarray, *data: np.ndarray) -> TensorRows:
    parts = [torch.from_numpy(part.astype(np.float32)) for part in (u, *data)]
    return TensorRows(parts, TrainSettings(batch_size=50), seed=0)


@pytest.fixture(scope="module")
def toy() -> sf.Simulator:
    return make_gaussian(3)


@pytest.fixture(scope="module")
def posterior(toy: sf.Simulator) -> sf.Posterior:
    return sf.fit(toy, n_simulations=2000, seed=1, settings=ALONE, say=None)


def test_it_is_the_exact_posterior_where_that_is_linear_and_gaussian(
    posterior: sf.Posterior, toy: sf.Simulator
) -> None:
    """With n rows, the maximum-likelihood fit of p numbers is off by p / 2n nats on average, chi-squared."""
    rng = np.random.default_rng(5)
    theta = toy.prior.sample(4000, rng)
    y = np.asarray(toy.run(theta, rng), dtype=np.float64)
    means = np.array([posterior_moments(row)[0] for row in y])
    covariance = posterior_moments(y[0])[1]
    residual = theta - means
    exact = -0.5 * (
        np.einsum("ni,ij,nj->n", residual, np.linalg.inv(covariance), residual)
        + np.linalg.slogdet(covariance)[1]
        + 3 * LOG_2PI
    )
    gap = (exact - posterior.log_prob(theta, y)).mean()
    assert -0.005 < gap < 50 / (2 * 1800) + 0.005  # 18 numbers; chi-squared of 18 is above 50 once in 10,000


def test_ridge_regression_holds_back_many_useless_columns() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 200))
    u = 0.5 * x[:, :1] + rng.standard_normal((400, 1))
    member = member_of(200, 1)
    solve(member, rows_of(u, x))
    least_squares = np.linalg.lstsq(x[:350], u[:350], rcond=None)[0]
    new = rng.standard_normal((5000, 200))
    found = member.summary(torch.from_numpy(new.astype(np.float32))).detach().numpy()
    wanted = 0.5 * new[:, :1]
    assert np.square(found - wanted).mean() < 0.5 * np.square(new @ least_squares - wanted).mean()
    spread = float(member.flow.value(torch.ones(1, 1), torch.zeros(1, 1)).detach())
    assert 0.9 < spread / np.sqrt(1 + np.square(found - wanted).mean()) < 1.15


@pytest.mark.parametrize("columns", ["constant", "copied", "more than rows"])
def test_columns_that_repeat_one_another_do_no_harm(columns: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((100, 4))
    u = x[:, :2] + 0.1 * rng.standard_normal((100, 2))
    more = {"constant": np.ones((100, 2)), "copied": x, "more than rows": rng.standard_normal((100, 300))}[
        columns
    ]
    member = member_of(4 + more.shape[1], 2)
    history = solve(member, rows_of(u, x, more))
    assert all(bool(torch.isfinite(part).all()) for part in member.parameters())
    assert history.best_loss < (2.9 if columns == "more than rows" else 0.0)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_covariance_without_full_rank_is_no_obstacle(noise: float) -> None:
    """No variance is left, or two parameters are one."""
    x = np.linspace(-1, 1, 80)[:, None]
    u = x + noise * np.random.default_rng(3).standard_normal((80, 1))
    member = member_of(1, 2)
    history = solve(member, rows_of(np.hstack([u, 2 * u]), x))
    assert np.isfinite(history.train_loss[0])
    value = member.flow.value(torch.ones(1, 2), torch.zeros(1, 2))
    assert bool(torch.isfinite(value).all())


def test_an_ensemble_keeps_it_where_it_is_best_and_leaves_it_out_elsewhere(toy: sf.Simulator) -> None:
    kept = sf.fit(toy, n_simulations=500, seed=1, settings=OPEN, say=None)
    assert kept.settings.flows[-1] == LINEAR
    assert kept.settings.members == 5
    assert is_linear(kept.estimator.estimators()[-1])
    assert float(kept.estimator.mixture_weights[-1]) > 0.5

    @sf.simulator(sf.Prior(a=norm(0, 1)))
    def two_modes(theta: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return np.abs(theta["a"])[:, None] + 0.05 * rng.standard_normal((len(theta["a"]), 1))

    without = sf.fit(two_modes, n_simulations=2000, seed=1, settings=OPEN, say=None)
    assert LINEAR not in without.settings.flows
    assert without.settings.members == 4
    assert not any(map(is_linear, without.estimator.estimators()))
    (note,) = [note for note in without.notes if note.kind == "linear member left out"]
    assert note.values["weight"] < 0.1


def test_it_survives_a_file_and_draws_within_the_prior(
    posterior: sf.Posterior, toy: sf.Simulator, tmp_path: Path
) -> None:
    posterior.save(tmp_path / "linear.safetensors")
    again = sf.load(tmp_path / "linear.safetensors")
    y = np.zeros(toy.event_shape)
    ours, theirs = posterior.sample(y, 500, seed=3).to_numpy(), again.sample(y, 500, seed=3).to_numpy()
    assert np.array_equal(ours, theirs)
    assert isinstance(again.estimator.estimators()[0].summary, LinearMean)
    mixed = sf.fit(toy, n_simulations=500, seed=1, settings=OPEN, say=None)
    mixed.save(tmp_path / "mixed.safetensors")
    theta = toy.prior.sample(50, np.random.default_rng(1))
    assert np.array_equal(
        mixed.log_prob(theta, y), sf.load(tmp_path / "mixed.safetensors").log_prob(theta, y)
    )


def test_columns_that_are_hidden_have_no_part_in_it() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((200, 3))
    with torch_scope(np.random.default_rng(0)):
        member = linear_member(3, 1, np.array([True, False, True]))
    solve(member, rows_of(x.sum(axis=1, keepdims=True), x))
    found = member.summary(torch.tensor([[0.0, 5.0, 0.0], [1.0, 0.0, 0.0]])).detach().numpy()[:, 0]
    assert found == pytest.approx([found[0], found[0] + 1], abs=0.3)
    assert abs(found[0]) < 0.3


def test_the_member_that_is_said_to_see_all_columns_does() -> None:
    @sf.simulator(sf.Prior(a=norm(0, 1)))
    def noisy(theta: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        y = rng.standard_normal((len(theta["a"]), 12))
        y[:, 0] += 3 * theta["a"]
        return y

    settings = replace(QUICK, flow=("nsf", "linear_gaussian"), members=2)
    posterior = sf.fit(noisy, n_simulations=1000, seed=1, settings=settings, say=None)
    (said,) = [note for note in posterior.notes if note.kind == "screen"]
    assert said.values["member"] == 2
    first, second = (member.summary.seen.tolist() for member in posterior.estimator.estimators())
    assert sum(first) == 12 - said.values["hidden"]
    assert second == [1.0] * 12


def test_the_clock_has_no_closed_form(toy: sf.Simulator) -> None:
    with pytest.raises(SettingsError, match="fixed set"):
        sf.fit(toy, minutes=0.05, seed=1, settings=ALONE, say=None)
