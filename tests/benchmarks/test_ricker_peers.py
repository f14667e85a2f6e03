"""What the methods are asked for, and how the answers are scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks import ricker_peers
from tests.benchmarks.accuracy import SETS
from tests.benchmarks.ricker_peers import asked_pairs, figures

F = np.ndarray


def number_of(name: str) -> float:
    return 100.0 + SETS.index(name)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Series whose values are their number, and theta of the same number."""

    def numbered(first: int, n: int) -> tuple[F, F]:
        numbers = np.arange(first, first + n, dtype=float)[:, None]
        return np.tile(numbers, 3), np.tile(numbers, 100)

    def exact(name: str) -> tuple[F, F, F]:
        return np.full((4, 3), number_of(name)), np.full(100, number_of(name)), np.arange(4.0)

    def distances(name: str, values: F, rng: np.random.Generator) -> dict[str, Any]:
        return {"c2st": float(values.mean())}

    theta, y = numbered(200, 3)
    np.savez(tmp_path / "evidence.npz", theta=theta, y=y.astype(np.uint16), log_p=np.array([1.0, 2.0, 3.0]))
    monkeypatch.setattr(ricker_peers, "held_out_pairs", lambda: numbered(0, 5))
    monkeypatch.setattr(ricker_peers, "exact_log_density", exact)
    monkeypatch.setattr(ricker_peers, "distances", distances)
    monkeypatch.setattr(ricker_peers, "EVIDENCE", tmp_path / "evidence.npz")


@pytest.mark.usefixtures("small")
def test_each_theta_is_asked_for_with_its_own_series() -> None:
    pairs = asked_pairs()
    assert len(pairs.theta) == 5 + 4 * len(SETS) + 3
    assert len(pairs.y) == 5 + len(SETS) + 3
    np.testing.assert_array_equal(pairs.theta[:, 0], pairs.y[pairs.of, 0])
    assert set(pairs.theta[pairs.parts[SETS[2]], 0]) == {number_of(SETS[2])}
    assert pairs.parts["gap"] == slice(len(pairs.theta) - 3, len(pairs.theta))


@pytest.mark.usefixtures("small")
def test_every_part_is_scored_against_its_own_exact_density() -> None:
    """A density that is 0.5 nats below the exact one at every pair, one nat more at the last data set."""
    pairs, log_q = asked_pairs(), np.full(5 + 4 * len(SETS) + 3, -0.5)
    for name, log_p in pairs.exact.items():
        log_q[pairs.parts[name]] += log_p
    log_q[pairs.parts[SETS[-1]]] -= 1
    draws = np.stack([np.full((2, 3), 0.5 + 0.01 * k) for k in range(len(SETS))])
    found = figures(pairs, log_q, draws)
    assert found["held_out"] == -0.5
    assert found["kl"] == pytest.approx(dict.fromkeys(SETS[:-1], 0.5) | {SETS[-1]: 1.5})
    assert found["c2st"] == pytest.approx({name: 0.5 + 0.01 * k for k, name in enumerate(SETS)})
    assert (found["gap"], found["gap_error"]) == pytest.approx((0.5, 0.0))
