"""Corruptions keep what the data are made of; the critic tells what it was taught, and comes back from a
file.
"""

from __future__ import annotations

import numpy as np
import pytest

from sbi_flows.misspecification.corruptions import corrupted, kinds_of
from sbi_flows.misspecification.critic import Critic
from sbi_flows.nets.scaling import Scaler


@pytest.mark.parametrize(
    ("shape", "series"), [((40,), True), ((40, 3), True), ((5,), False), ((), False), ((4, 6), False)]
)
@pytest.mark.parametrize("law", ["counts", "binary", "numbers"])
def test_corrupted_data_have_the_type_and_range_of_the_simulated_ones(
    shape: tuple[int, ...], series: bool, law: str
) -> None:
    rng = np.random.default_rng(0)
    size = (200, *shape)
    y = {
        "counts": rng.poisson(5, size),
        "binary": rng.integers(0, 2, size),
        "numbers": rng.standard_normal(size),
    }[law].astype(float)
    scaler = Scaler.from_data(y, shared=series)
    changed_y, labels = corrupted(y, scaler, 3, np.random.default_rng(1))
    assert changed_y.shape == (600, *shape)
    assert set(labels.tolist()) == set(range(len(kinds_of(scaler))))
    assert np.isfinite(changed_y).all()
    assert changed_y.min() >= y.min()
    assert changed_y.max() <= y.max()
    assert law == "numbers" or np.array_equal(changed_y, np.round(changed_y))
    changed = (changed_y != np.concatenate([y] * 3)).reshape(600, -1).any(axis=1)
    assert changed.mean() > (0.05 if law == "binary" or shape == () else 0.8)


def test_the_same_seed_gives_the_same_corruptions() -> None:
    y = np.random.default_rng(0).poisson(5, (100, 30)).astype(float)
    scaler = Scaler.from_data(y, shared=True)
    first, second = (corrupted(y, scaler, 2, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


def test_a_critic_ranks_by_the_right_odds_names_the_kind_and_comes_back_from_its_numbers() -> None:
    """N(0, I) against N((2, 0), I) and N((0, 2), I): the rank correlation with the exact log odds is above
    0.95.
    """
    rng = np.random.default_rng(0)
    clean, labels = rng.standard_normal((3000, 2)), rng.integers(0, 2, 6000)
    other = rng.standard_normal((6000, 2)) + 2 * np.eye(2)[labels]
    critic = Critic.of(clean, other, labels, seed=1)
    fresh = np.random.default_rng(1).standard_normal((2000, 2))
    exact = np.logaddexp(2 * fresh[:, 0] - 2, 2 * fresh[:, 1] - 2)
    ranks = [np.argsort(np.argsort(values)) for values in (exact, critic.log_odds(fresh))]
    assert np.corrcoef(*ranks)[0, 1] > 0.95
    assert critic.kind(np.array([3.0, 0.0])) == 0
    assert critic.kind(np.array([0.0, 3.0])) == 1
    again = Critic.from_arrays(critic.arrays())
    assert np.array_equal(again.log_odds(fresh), critic.log_odds(fresh))
