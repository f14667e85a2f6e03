"""Accepted draws that are too wide are called so; those at a small tolerance are not."""

from __future__ import annotations

import numpy as np
import pytest

from sbi_flows.baselines.width import TooWide, never_better, of_accepted, of_adjusted
from sbi_flows.verdict import Verdict


def accepted(seed: int, noise: float, n: int = 300, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """z = the first summary plus noise; of the others it does not depend."""
    rng = np.random.default_rng(seed)
    offsets = rng.standard_normal((n, k))
    return offsets[:, :1] + noise * rng.standard_normal((n, 2)), offsets


def test_the_fall_of_the_sd_is_that_of_the_regression() -> None:
    """sd sqrt(1 + noise^2), of which noise is left."""
    z, offsets = accepted(1, 0.5, n=5_000)
    assert of_accepted(z, offsets).sd == pytest.approx(1 - 0.5 / np.sqrt(1.25), abs=0.03)


def test_draws_that_depend_on_no_summary_are_not_called() -> None:
    """200 sets; with a rate of 1e-4 each, one call has a chance of 0.02."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        z, offsets = rng.standard_normal((200, 3)), rng.standard_normal((200, 8))
        assert of_accepted(z, offsets) == TooWide(0.0, 0.0)
        assert of_adjusted(z) == TooWide(0.0, 0.0)


def test_a_mean_that_would_move_is_called() -> None:
    z, offsets = accepted(2, 0.5)
    assert of_accepted(z, offsets + np.array([2.0, 0, 0, 0, 0])).mean > 1


def test_adjusted_draws_whose_nearer_half_is_narrower_are_called() -> None:
    rng = np.random.default_rng(3)
    z = rng.standard_normal((600, 1)) * np.linspace(0.2, 2, 600)[:, None]
    assert of_adjusted(z).sd > 0.2


@pytest.mark.parametrize(("k", "n"), [(0, 50), (60, 50)])
def test_too_few_draws_for_the_summaries_say_nothing(k: int, n: int) -> None:
    rng = np.random.default_rng(4)
    assert of_accepted(rng.standard_normal((n, 1)), rng.standard_normal((n, k))) == TooWide(0.0, 0.0)


def test_a_constant_summary_is_left_out() -> None:
    z, offsets = accepted(5, 0.5)
    assert of_accepted(z, np.column_stack([offsets, np.ones(len(z))])).sd > 0.3


def test_the_verdict_is_never_better() -> None:
    good, bad = Verdict("trust", "Near.", 0.5), Verdict("do not trust", "Far.", 1.0)
    assert never_better(good, TooWide(0.05, 0.1)) is good
    assert never_better(good, TooWide(0.2, 0.0)).level == "caution"
    assert never_better(good, TooWide(0.0, 0.7)).level == "do not trust"
    assert never_better(bad, TooWide(0.2, 0.0)).level == "do not trust"
    assert "Far." in never_better(bad, TooWide(0.2, 0.0)).text
