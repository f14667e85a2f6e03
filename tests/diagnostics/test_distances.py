"""Distances between samples: correct where they are known, near zero for equals, larger for a shift."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from sbi_flows.diagnostics.distances import c2st, sliced_wasserstein
from sbi_flows.errors import ShapeError


def gaussian(n: int, seed: int, shift: float = 0.0, width: float = 1.0, d: int = 2) -> np.ndarray:
    return shift + width * np.random.default_rng(seed).standard_normal((n, d))


def test_c2st_of_equals_is_half() -> None:
    """Held-out accuracy over 2,000 rows of pure guessing has sd 0.011; 0.05 is beyond 4.4 sd (1e-5)."""
    assert abs(c2st(gaussian(1000, 0), gaussian(1000, 1)) - 0.5) < 0.05


def test_c2st_reaches_the_best_accuracy_that_exists() -> None:
    """For N(0, I) against N(a, I) the best classifier is right with probability Phi(|a| / 2)."""
    for shift in (0.5, 1.5):
        best = norm.cdf(shift * np.sqrt(2) / 2)
        assert c2st(gaussian(1500, 0), gaussian(1500, 1, shift)) == pytest.approx(best, abs=0.05)


@pytest.mark.parametrize("width", [0.7, 1.4])
def test_c2st_detects_a_wrong_width(width: float) -> None:
    assert c2st(gaussian(1500, 0), gaussian(1500, 1, width=width)) > 0.56


def test_sliced_wasserstein_of_a_shift_is_the_length_of_its_projection() -> None:
    """Projections of a shift a onto random directions in d = 2 have root mean square |a| / sqrt(2)."""
    reference = gaussian(20_000, 0)
    found = sliced_wasserstein(reference, reference + np.array([1.0, 0.0]), rng=np.random.default_rng(0))
    assert found == pytest.approx(1 / np.sqrt(2), rel=0.08)
    assert sliced_wasserstein(reference, gaussian(20_000, 1), rng=np.random.default_rng(0)) < 0.05


def test_sliced_wasserstein_takes_unequal_sizes_and_is_in_units_of_the_reference() -> None:
    a, b = gaussian(4000, 0), gaussian(3000, 1, 1.0)
    small = sliced_wasserstein(a, b, rng=np.random.default_rng(0))
    assert sliced_wasserstein(1000 * a, 1000 * b, rng=np.random.default_rng(0)) == pytest.approx(small)


def test_wrong_samples_are_refused() -> None:
    with pytest.raises(ShapeError, match="100 and 90"):
        c2st(gaussian(100, 0), gaussian(90, 0))
    with pytest.raises(ShapeError, match=r"\(n, d\) and \(m, d\)"):
        c2st(gaussian(100, 0), gaussian(100, 0, d=3))
    with pytest.raises(ShapeError, match="20"):
        c2st(gaussian(5, 0), gaussian(5, 1))
    corrupted = gaussian(100, 0)
    corrupted[3, 1] = np.nan
    with pytest.raises(ShapeError, match="NaN"):
        sliced_wasserstein(corrupted, gaussian(100, 1), rng=np.random.default_rng(0))
