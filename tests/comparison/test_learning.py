"""The curve finds what it was made of, and what it says of a real fit holds."""

from __future__ import annotations

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.comparison.learning import curve_through
from sbi_flows.errors import SettingsError
from simulators.gaussian import make_gaussian

from ..conftest import QUICK


def test_a_planted_curve_is_found() -> None:
    """a - b n^-c with noise that the pairs share, which cancels, and a little that they do not."""
    rng = np.random.default_rng(0)
    sizes = np.array([500.0, 1000, 2000, 4000, 8000])
    shared, own = rng.standard_normal(4000), 0.05 * rng.standard_normal((5, 4000))
    found = curve_through(sizes, (1.5 - 20 * sizes**-0.6)[:, None] + shared - shared.mean() + own, rng)
    assert found.a == pytest.approx(1.5, abs=0.03)
    assert abs(found.a - 1.5) < 5 * found.a_error
    assert found.c == pytest.approx(0.6, abs=0.15)
    assert found.predict(16_000) == pytest.approx(1.5 - 20 * 16_000**-0.6, abs=0.02)


def test_more_simulations_help_and_the_table_says_how_much() -> None:
    simulator = make_gaussian(2)
    found = sf.learning_curve(simulator, sf.simulate(simulator, 1600, seed=1), sizes=[100, 400, 1600], settings=QUICK, seed=1)
    assert found.table["simulations"].tolist() == [100, 400, 1600]
    assert found.table["log_density"].iloc[2] > found.table["log_density"].iloc[0]
    assert found.a >= found.predict(1600)
    assert "nats" in found.text


def test_sizes_that_cannot_be_had_are_refused() -> None:
    simulator = make_gaussian(2)
    simulations = sf.simulate(simulator, 200, seed=1)
    for sizes in ([100, 200], [0, 100, 200], [50, 100, 400]):
        with pytest.raises(SettingsError, match="at least 3 different numbers from 1 to 200"):
            sf.learning_curve(simulator, simulations, sizes=sizes)
