"""q(. | y) of one observation: a mixture of networks, alone and restricted to a region."""

from __future__ import annotations

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.posterior.retrained import restricted_log_prob
from sbi_flows.posterior.truncated import Local, Proposal, Truncated

Y, OTHER = np.array([0.5, 0.2, 0.1]), np.array([0.1, -1.0, -0.1])


@pytest.fixture(scope="module")
def mixture(bounded_posterior: sf.Posterior) -> Local:
    """A quarter from the posterior at one observation, the rest from that at another."""
    one, two = (Local.of([bounded_posterior.density], [1.0], y) for y in (Y, OTHER))
    return Local((*one.densities, *two.densities), np.array([0.25, 0.75]), (*one.contexts, *two.contexts))


def test_draws_follow_the_density(bounded_posterior: sf.Posterior, mixture: Local) -> None:
    """The mean of log q over draws against its integral by quadrature: |z| < 4.4 has a false-alarm rate of
    1e-5.
    """
    a, b = np.linspace(0, 1, 601)[1:-1], np.linspace(-2, 2, 601)[1:-1]
    grid = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1).reshape(-1, 2)
    log_prob = mixture.log_prob(grid)
    cell = (a[1] - a[0]) * (b[1] - b[0])
    assert np.exp(log_prob).sum() * cell == pytest.approx(1.0, abs=5e-3)
    found = mixture.log_prob(mixture.draw(20_000, 4))
    expected = (np.exp(log_prob) * log_prob).sum() * cell
    assert abs(found.mean() - expected) < 4.4 * found.std() / np.sqrt(len(found)) + 5e-3


def test_each_part_gives_its_number_of_draws_in_random_order(mixture: Local) -> None:
    one = Local(mixture.densities[:1], np.ones(1), mixture.contexts[:1])
    draws = mixture.draw(1_000, 1)
    assert draws.shape == (1_000, 2)
    near = np.abs(draws[:, 1] - one.draw(1_000, 2)[:, 1].mean()) < 0.6
    assert near.mean() == pytest.approx(0.25, abs=0.03)
    halves = near[:500].mean() - near[500:].mean()
    assert abs(halves) < 4.4 * 2 * np.sqrt(0.25 * 0.75 / 1_000)
    assert np.array_equal(mixture.draw(1_000, 1), draws)
    assert not np.array_equal(mixture.draw(1_000, 2), draws)


def test_a_restricted_density_integrates_to_one_over_its_region(bounded_posterior: sf.Posterior) -> None:
    """The mean over draws of the truncated prior of q_A / p, times p(A). A region of 70% of q, in which the
    share of 64 draws is known to 0.06.
    """
    q = Local.of([bounded_posterior.density], [1.0], Y)
    truncated = Truncated(bounded_posterior.prior).cut(q, 0.3, seed=1)
    assert truncated is not None
    proposal = Proposal(truncated, seed=1)
    theta = proposal.take(3_000)
    y = np.broadcast_to(Y, (len(theta), 3))
    log_prob = restricted_log_prob(q.densities[0], truncated, theta, y, seed=1)
    ratio = np.exp(log_prob - bounded_posterior.prior.log_prob(theta)) * proposal.share
    assert ratio.mean() == pytest.approx(1.0, abs=0.06)
    plain = np.exp(q.log_prob(theta) - bounded_posterior.prior.log_prob(theta)) * proposal.share
    assert plain.mean() == pytest.approx(0.7, abs=0.04)
