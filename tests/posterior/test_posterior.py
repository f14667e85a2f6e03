"""The posterior's promises: inside the prior, normalised, the same alone or in a stack, the same after a
file.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import sbi_flows as sf
from sbi_flows.errors import ObservationError, SettingsError, ShapeError
from sbi_flows.posterior.density import _blocks

Y = np.array([0.5, 0.2, 0.1])


def test_no_draw_leaves_the_prior_even_for_absurd_data(bounded_posterior: sf.Posterior) -> None:
    for y in (Y, np.array([1e6, -1e6, 0.0]), np.zeros(3)):
        draws = bounded_posterior.sample(y, 20_000, seed=1).to_numpy()
        assert bounded_posterior.prior.inside(draws).all()
        assert np.isfinite(draws).all()


def test_log_prob_integrates_to_one_over_the_prior(bounded_posterior: sf.Posterior) -> None:
    a, b = np.linspace(0, 1, 801)[1:-1], np.linspace(-2, 2, 801)[1:-1]
    grid = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1).reshape(-1, 2)
    mass = np.exp(bounded_posterior.log_prob(grid, Y)).sum() * (a[1] - a[0]) * (b[1] - b[0])
    assert mass == pytest.approx(1.0, abs=5e-3)


def test_log_prob_is_minus_infinity_outside_and_finite_inside(bounded_posterior: sf.Posterior) -> None:
    log_prob = bounded_posterior.log_prob([[0.5, 0.0], [1.5, 0.0], [0.5, -2.1], [0.999999, 1.999999]], Y)
    assert np.isfinite(log_prob).tolist() == [True, False, False, True]
    assert (log_prob[1:3] == -np.inf).all()


def test_draws_follow_the_density_that_log_prob_gives(bounded_posterior: sf.Posterior) -> None:
    """Mean of log q over draws against its integral by quadrature: |z| < 4.4 has a false-alarm rate of
    1e-5.
    """
    a, b = np.linspace(0, 1, 801)[1:-1], np.linspace(-2, 2, 801)[1:-1]
    grid = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1).reshape(-1, 2)
    log_prob = bounded_posterior.log_prob(grid, Y)
    weights = np.exp(log_prob) / np.exp(log_prob).sum()
    expected = weights @ log_prob
    found = bounded_posterior.log_prob(bounded_posterior.sample(Y, 20_000, seed=4).to_numpy(), Y)
    assert abs(found.mean() - expected) < 4.4 * found.std() / np.sqrt(len(found)) + 5e-3


def test_one_row_and_a_batch_give_the_same_density(bounded_posterior: sf.Posterior) -> None:
    theta = bounded_posterior.prior.sample(50, np.random.default_rng(0))
    together = bounded_posterior.log_prob(theta, Y)
    alone = np.array([float(bounded_posterior.log_prob(row, Y)) for row in theta])
    np.testing.assert_allclose(together, alone, rtol=1e-10, atol=1e-10)


def test_a_stack_gives_each_observation_what_it_would_get_alone(bounded_posterior: sf.Posterior) -> None:
    stack = np.stack([Y, Y + 0.1, Y - 0.1])
    draws = bounded_posterior.sample(stack, 500, seed=9)
    assert draws.to_numpy().shape == (3, 500, 2)
    assert draws["a"].shape == (3, 500)
    np.testing.assert_allclose(
        draws.observation(0).to_numpy(), bounded_posterior.sample(Y, 500, seed=9).to_numpy(), rtol=1e-9
    )
    theta = draws.to_numpy()
    pairs = bounded_posterior.log_prob(theta[:, 0], stack)
    blocks = bounded_posterior.log_prob(theta, stack)
    assert pairs.shape == (3,)
    assert blocks.shape == (3, 500)
    np.testing.assert_allclose(pairs, blocks[:, 0], rtol=1e-10)
    np.testing.assert_allclose(blocks[1], bounded_posterior.log_prob(theta[1], stack[1]), rtol=1e-9)


@pytest.mark.parametrize("at_once", [1, 7, 100, 250, 10_000])
@pytest.mark.parametrize("m", [1, 3])
def test_the_number_of_rows_at_once_changes_no_result(
    bounded_posterior: sf.Posterior, m: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = np.stack([Y, Y + 0.1, Y - 0.1])[:m]
    draws = bounded_posterior.sample(stack, 100, seed=9).to_numpy()
    log_prob = bounded_posterior.log_prob(draws, stack)
    monkeypatch.setattr("sbi_flows.posterior.density._DRAWS_AT_ONCE", at_once)
    monkeypatch.setattr("sbi_flows.posterior.density._DENSITIES_AT_ONCE", at_once)
    np.testing.assert_allclose(bounded_posterior.sample(stack, 100, seed=9).to_numpy(), draws, rtol=1e-9)
    np.testing.assert_allclose(bounded_posterior.log_prob(draws, stack), log_prob, rtol=1e-9)


def test_the_blocks_cover_each_row_once_within_the_bound() -> None:
    for m, n, at_once in itertools.product((1, 3, 10), (0, 1, 4, 5, 9, 100), (1, 5, 20, 1000)):
        seen = np.zeros((m, n), dtype=int)
        for events, rows in _blocks(m, n, at_once):
            seen[events, rows] += 1
            assert seen[events, rows].size <= at_once
        assert (seen == 1).all()


def test_the_context_is_worked_on_once_an_observation(
    bounded_posterior: sf.Posterior, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sbi_flows.flows.masked import MaskedNet

    sizes = []
    of_context = MaskedNet.of_context

    def recorded(self: MaskedNet, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(context[0].numel())
        return of_context(self, context)

    monkeypatch.setattr(MaskedNet, "of_context", recorded)
    draws = bounded_posterior.sample(np.stack([Y, Y, Y]), 50).to_numpy()
    bounded_posterior.log_prob(draws, np.stack([Y, Y, Y]))
    assert set(sizes) == {3}


def test_the_seed_decides_the_draws(bounded_posterior: sf.Posterior) -> None:
    first, again, other = (bounded_posterior.sample(Y, 100, seed=s).to_numpy() for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_theta_may_be_named(bounded_posterior: sf.Posterior) -> None:
    named = bounded_posterior.log_prob({"a": [0.2, 0.4], "b": [0.0, 1.0]}, Y)
    assert np.array_equal(named, bounded_posterior.log_prob([[0.2, 0.0], [0.4, 1.0]], Y))


@pytest.mark.parametrize(
    ("y", "error", "words"),
    [
        (np.zeros(4), ShapeError, r"shape \(4,\); the simulator makes events of shape \(3,\)"),
        (np.zeros((2, 4)), ShapeError, r"or a stack of shape \(m, 3\)"),
        (np.zeros((0, 3)), ShapeError, "shape"),
        (
            [1.0, float("nan"), 2.0],
            ObservationError,
            r"1 NaN or infinite values of 3 \(first at \[\(1,\)\]\)",
        ),
        ([1.0, np.inf, 2.0], ObservationError, "infinite"),
        (["a", "b", "c"], ObservationError, "must be numbers"),
        (None, ShapeError, r"have shape \(\)"),
    ],
)
def test_data_that_do_not_fit_are_refused_in_words(
    bounded_posterior: sf.Posterior, y: object, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        bounded_posterior.sample(y, 10)  # type: ignore[arg-type]


def test_data_are_taken_as_they_come(bounded_posterior: sf.Posterior) -> None:
    import pandas
    import torch

    expected = bounded_posterior.sample(Y, 10, seed=1).to_numpy()
    for y in (
        Y.tolist(),
        Y.astype(np.float64)[::-1][::-1],
        torch.from_numpy(Y),
        pandas.Series(Y),
        pandas.DataFrame({"y": Y}),
    ):
        assert np.array_equal(bounded_posterior.sample(y, 10, seed=1).to_numpy(), expected)


def test_wrong_arguments_are_refused_in_words(bounded_posterior: sf.Posterior) -> None:
    with pytest.raises(SettingsError, match="n must be a positive integer, got 0"):
        bounded_posterior.sample(Y, 0)
    wrong: Any
    for wrong in (-3, 0, "3", 2.0, True):
        with pytest.raises(SettingsError, match="n must be a positive integer"):
            bounded_posterior.sample_members(Y, wrong)
    for draw in (bounded_posterior.sample, bounded_posterior.sample_members):
        with pytest.raises(SettingsError, match=r"n=10,000,000,000,000 draws would take 160,000.0 GB"):
            draw(Y, 10**13)
    with pytest.raises(SettingsError, match="seed must be"):
        bounded_posterior.sample(Y, 10, seed=-1)
    with pytest.raises(ShapeError, match="one column for each of a, b"):
        bounded_posterior.log_prob(np.zeros((5, 3)), Y)
    with pytest.raises(ShapeError, match="NaN"):
        bounded_posterior.log_prob([[np.nan, 0.0]], Y)
    with pytest.raises(ShapeError, match=r"\(2, d\) or \(2, n, d\)"):
        bounded_posterior.log_prob(np.zeros((3, 2)), np.stack([Y, Y]))


def test_a_scalar_event_works(unbounded: sf.Simulator) -> None:
    settings = sf.FitSettings(width=8, members=1, train=sf.TrainSettings(epochs=2))
    posterior = sf.fit(unbounded, n_simulations=1000, seed=1, settings=settings, say=None)
    assert posterior.sample(0.3, 50).to_numpy().shape == (50, 1)
    assert posterior.sample([0.3, 0.4], 50).to_numpy().shape == (2, 50, 1)
    assert posterior.log_prob([[0.1], [0.2]], 0.3).shape == (2,)
