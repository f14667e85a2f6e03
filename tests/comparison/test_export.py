"""A comparison as files for a paper, and in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import pytest

import sbi_flows as sf
from sbi_flows.comparison.methods import EXACT, NEURAL
from simulators.gaussian import make_gaussian


@pytest.fixture(scope="module")
def comparison(gaussian_posterior: sf.Posterior) -> sf.Comparison:
    return sf.compare(gaussian_posterior, np.array([0.8, -0.3]), make_gaussian(2), n=600, seed=1)


def test_every_number_and_figure_is_a_file(comparison: sf.Comparison, tmp_path: Path) -> None:
    paths = {path.name for path in comparison.export(tmp_path)}
    assert {"methods.csv", "parameters.csv", "distances.csv", "comparison.json"} < paths
    assert {"marginals.svg", "marginals.pdf", "pairs.pdf", "observed.svg"} < paths
    again = pandas.read_csv(tmp_path / "parameters.csv")
    assert np.allclose(again["mean"], comparison.table["mean"], rtol=1e-14, atol=0)
    record = json.loads((tmp_path / "comparison.json").read_text())
    assert record["observed"] == [0.8, -0.3]
    assert record["preferred"]["kind"] == "believe"


def test_only_svg_where_only_that_is_asked_for(comparison: sf.Comparison, tmp_path: Path) -> None:
    assert not [path for path in comparison.export(tmp_path, figures="svg") if path.suffix == ".pdf"]


def test_figures_are_the_same_bytes_each_time(comparison: sf.Comparison, tmp_path: Path) -> None:
    first, second = (comparison.export(tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_methods_have_their_cost_and_verdict(comparison: sf.Comparison) -> None:
    methods = comparison.methods.set_index("method")
    assert methods.loc[NEURAL, "seconds_before"] > 0
    assert methods.loc[EXACT, "seconds_before"] == 0
    assert np.isnan(methods.loc[EXACT, "c2st"])
    assert comparison.preferred.method == EXACT


def test_it_is_one_line_and_a_small_table_in_a_notebook(comparison: sf.Comparison) -> None:
    assert len(repr(comparison)) < 200
    assert "\n" not in repr(comparison)
    assert len(comparison._repr_html_()) < 5_000
