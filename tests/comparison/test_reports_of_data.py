"""Reports on data with gaps, on sets of fewer members, and on data made of several arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.comparison.reproduce import lines
from tests.conftest import QUICK

F = np.ndarray
PRIOR = sf.Prior(a=norm(0, 1))
N = 300


def around(theta: dict[str, Any], rng: np.random.Generator, *shape: int) -> F:
    a = np.asarray(theta["a"])
    return a.reshape(-1, *(1 for _ in shape)) + rng.standard_normal((len(a), *shape))


@sf.simulator(PRIOR)
def plain(theta: dict[str, Any], rng: np.random.Generator) -> F:
    return around(theta, rng, 20)


@sf.simulator(PRIOR, data=sf.Vector())
def one(theta: dict[str, Any], rng: np.random.Generator) -> F:
    return around(theta, rng, 2)


@sf.simulator(PRIOR, data={"counts": sf.Series(channels=("robins",)), "map": sf.Grid()}, missing=True)
def two(theta: dict[str, Any], rng: np.random.Generator) -> dict[str, F]:
    counts = around(theta, rng, 6)
    return {
        "counts": np.where(rng.random(counts.shape) < 0.1, np.nan, counts),
        "map": around(theta, rng, 3, 4),
    }


def compared(simulator: sf.Simulator, y: Any, **options: Any) -> sf.Comparison:
    sims = sf.simulate(simulator, N, seed=1)
    posterior = sf.fit(simulator, simulations=sims, seed=1, settings=QUICK, say=None, **options)
    return sf.compare(posterior, y, simulator, simulations=sims, n=200, seed=1)


def page_of(comparison: sf.Comparison, folder: Path) -> str:
    comparison.to_html(folder / "report.html")
    return (folder / "report.html").read_text()


def test_gaps_in_a_series_stay_blank(tmp_path: Path) -> None:
    y = np.zeros(20)
    y[[3, 4, 11]] = np.nan
    page = page_of(compared(plain, y, like=y), tmp_path)
    assert "Observed series of 20 steps" in page
    assert "What was not observed is left blank" in page
    assert f"sbi-flows fit plain -n {N} --like observed.csv --seed 1" in page
    assert "observed.csv, one value per line: 0 0 0 nan nan 0" in page


def test_replicates_are_shown_in_order_of_size(tmp_path: Path) -> None:
    page = page_of(compared(sf.replicates(one, 1, 8), [[0.1, 0.2], [1.0, 0.3], [0.2, 0.4]]), tmp_path)
    assert "Observed set of 3 members" in page
    assert "member, in order of size" in page
    assert "--lengths" not in page
    assert "on one observation of shape (8, 2), set" in page


def test_of_several_arrays_each_has_a_figure_and_a_file(tmp_path: Path) -> None:
    y = {"counts": [0.0, 1.0, np.nan, 0.5, 0.2, 0.1], "map": np.zeros((3, 4))}
    comparison = compared(two, y)
    page = page_of(comparison, tmp_path)
    assert "Observed series counts of 6 steps" in page
    assert "Observed map map of 3 x 4 places" in page
    assert "counts=counts.csv map=map.csv" in page
    assert "# map.csv, shape (3, 4), one row per line: 0 0" in page
    assert ">counts (6,), series; map (3, 4), grid</dd>" in page
    check = sf.check(comparison.posterior, two, n=200, y_obs=y, seed=1)
    check.to_html(tmp_path / "check.html")


@pytest.mark.parametrize(
    ("observe", "options"),
    [
        (sf.gaps(share=(0, 0.3)), "--gaps 0 0.3"),
        ([sf.lengths(5, 20), sf.gaps(0.1)], "--lengths 5 20 --gaps 0.1 0.1"),
        (sf.gaps(share=0.2, by="step"), "# trained for further patterns"),
        (lambda y, rng: y, "# trained for further patterns"),
    ],
)
def test_the_lines_to_type_name_the_patterns(observe: Any, options: str) -> None:
    sims = sf.simulate(plain, 100, seed=1)
    quickest = sf.FitSettings(
        width=8, layers=2, summary_features=2, members=1, train=sf.TrainSettings(epochs=1, batch_size=64)
    )
    posterior = sf.fit(plain, simulations=sims, settings=quickest, observe=observe, say=None)
    assert options in "\n".join(lines(posterior, plain, np.zeros(20), 100, 1))
