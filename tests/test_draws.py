"""Draws: weights cannot be forgotten, what is saved comes back, and summaries are those of the weighted
sample.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows import files
from sbi_flows.draws import Draws, weighted_quantile
from sbi_flows.errors import SettingsError, ShapeError, StorageError, UnknownParameterError
from sbi_flows.verdict import Verdict, worst

TRUST = Verdict("trust", "the observation lies within the simulations", 0.4)
CAUTION = Verdict("caution", "at the edge", 0.97)
DOUBT = Verdict("do not trust", "far outside", 1.0)
GROUPS: dict[str, slice | int] = {"rate": 0, "w": slice(1, 3)}
NAMES = ("rate", "w[0]", "w[1]")


def make_draws(n: int = 50, stack: int | None = None, weighted: bool = False, seed: int = 0) -> Draws:
    rng = np.random.default_rng(seed)
    shape = (n, 3) if stack is None else (stack, n, 3)
    weights = rng.dirichlet(np.ones(n)) if weighted else None
    verdicts = () if stack is None else (TRUST, CAUTION, DOUBT)[:stack]
    return Draws(
        rng.normal(size=shape), GROUPS, NAMES, worst(list(verdicts) or [TRUST]), "test", weights, verdicts
    )


def attributes(data: Any) -> dict[str, Any]:
    """Attributes of the whole (ArviZ 0.x) and of its posterior group (1.x)."""
    return {**data.attrs, **data["posterior"].attrs}


def test_a_parameter_a_block_and_a_label_give_their_columns() -> None:
    draws = make_draws()
    np.testing.assert_array_equal(draws["rate"], draws.values[:, 0])
    np.testing.assert_array_equal(draws["w"], draws.values[:, 1:])
    np.testing.assert_array_equal(draws["w[1]"], draws.values[:, 2])


def test_an_unknown_parameter_is_a_key_error_that_lists_what_there_is() -> None:
    with pytest.raises(UnknownParameterError, match="'rho'.*rate, w"):
        make_draws()["rho"]


def test_a_group_is_an_int_for_a_parameter_and_a_slice_for_a_block() -> None:
    prior = sf.Prior(rate=norm(0, 1), w=sf.iid(norm(0, 1), 2))
    found = Draws.of(prior, np.zeros((3, 3)), Verdict("trust", "."), "a test")
    assert found.groups == GROUPS
    assert found.names == prior.names
    assert found.verdicts == (found.verdict,)


def test_length_counts_draws_and_repr_says_what_they_are() -> None:
    assert len(make_draws(40)) == 40
    assert len(make_draws(40, stack=3)) == 40
    assert repr(make_draws(40, stack=3)) == (
        "Draws(3x40 of rate, w[0], w[1]; test; verdict: do not trust; 3 observations, each with parameters "
        "of its own; replicates that share parameters are one observation of sf.replicates(...))"
    )


def test_resampling_gives_each_draw_n_times_its_weight_to_within_one() -> None:
    draws = make_draws(1000, weighted=True)
    copies = np.array([(draws.to_numpy()[:, 0] == value).sum() for value in draws.values[:, 0]])
    assert draws.to_numpy().shape == (1000, 3)
    assert np.abs(copies - 1000 * np.asarray(draws.weights)).max() < 1


def test_draws_of_no_weight_never_appear() -> None:
    weights = np.r_[0.0, 0.0, 0.5, 0.0, 0.5, 0.0]
    draws = Draws(np.arange(6.0)[:, None], {"x": 0}, ("x",), TRUST, "test", weights)
    assert draws["x"].tolist() == [2, 2, 2, 4, 4, 4]


@pytest.mark.parametrize("seed", range(5))
def test_the_weighted_mean_is_the_mean_of_what_leaves(seed: int) -> None:
    """A count differs from n w by two roundings, of variance 1/12 each, independent of x: normal, 5 sd, false
    alarm rate 6e-7.
    """
    draws = make_draws(2000, weighted=True, seed=seed)
    weighted = draws.weights @ draws.values
    leaving = np.column_stack([draws["rate"], draws["w"]])
    bound = 5 * np.sqrt((draws.values**2).sum(axis=0) / 6) / 2000
    np.testing.assert_array_less(np.abs(leaving.mean(axis=0) - weighted), bound)
    np.testing.assert_allclose(draws.summary()["mean"], weighted, rtol=1e-12)


def test_equal_weights_change_nothing() -> None:
    plain = make_draws(60)
    weighted = Draws(plain.values, GROUPS, NAMES, TRUST, "test", np.full(60, 1 / 60))
    np.testing.assert_array_equal(weighted.to_numpy(), plain.values)
    pandas.testing.assert_frame_equal(weighted.summary(), plain.summary())
    assert weighted.ess == pytest.approx(60)


def test_the_effective_number_of_draws_is_that_of_kish() -> None:
    weights = np.r_[np.full(25, 1 / 25), np.zeros(25)]
    assert Draws(np.zeros((50, 1)), {"x": 0}, ("x",), TRUST, "test", weights).ess == pytest.approx(25)
    assert make_draws(50).ess == 50


def test_draws_of_chains_or_of_few_weighted_draws_are_worth_no_more_than_those() -> None:
    few = replace(make_draws(50), facts={"ess": 7.0})
    assert few.ess == 7
    assert (few.summary()["ess"] == 7).all()
    assert replace(make_draws(50), facts={"ess": 900.0}).ess == 50


def test_summary_holds_the_moments_and_quantiles_by_name() -> None:
    draws = make_draws(500)
    table = draws.summary()
    assert list(table.columns) == ["mean", "sd", "q05", "q50", "q95", "ess"]
    assert list(table.index) == list(NAMES)
    np.testing.assert_allclose(table["mean"], draws.values.mean(axis=0))
    np.testing.assert_allclose(table["sd"], draws.values.std(axis=0, ddof=1))
    quantiles = np.quantile(draws.values, [0.05, 0.5, 0.95], axis=0, method="hazen")
    np.testing.assert_allclose(table[["q05", "q50", "q95"]].to_numpy().T, quantiles)


def test_the_weighted_summary_is_that_of_the_repeated_sample() -> None:
    """Integer weights are repetitions; the sd differs by the correction for the effective number only."""
    values, copies = (
        np.random.default_rng(1).normal(size=(200, 1)),
        np.random.default_rng(2).integers(0, 4, 200),
    )
    weights = copies / copies.sum()
    table = Draws(values, {"x": 0}, ("x",), TRUST, "test", weights).summary()
    repeated = np.repeat(values[:, 0], copies)
    assert table["mean"]["x"] == pytest.approx(repeated.mean())
    assert table["sd"]["x"] == pytest.approx(repeated.std() / np.sqrt(1 - np.square(weights).sum()))
    for column, p in (("q05", 0.05), ("q50", 0.5), ("q95", 0.95)):
        assert (repeated < table[column]["x"]).mean() == pytest.approx(p, abs=2 * weights.max())


def test_a_weighted_quantile_lies_on_the_midpoint_distribution() -> None:
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([0.25, 0.25, 0.5])
    assert weighted_quantile(values, weights, 0.5) == 2.0
    assert weighted_quantile(values, weights, 0.125) == 1.0
    assert weighted_quantile(values, weights, 0.01) == 1.0
    assert weighted_quantile(values, weights, 0.99) == 3.0


def test_a_single_draw_has_no_spread_and_no_warning() -> None:
    table = make_draws(1).summary()
    assert np.isnan(table["sd"]).all()
    assert np.isfinite(table["mean"]).all()


def test_the_summary_of_a_stack_has_one_row_an_observation_and_parameter() -> None:
    draws = make_draws(80, stack=3)
    table = draws.summary()
    assert table.index.names == ["observation", "parameter"]
    pandas.testing.assert_frame_equal(table.loc[2], draws.observation(2).summary())


def test_an_observation_of_a_stack_has_its_own_draws_and_verdict() -> None:
    draws = make_draws(80, stack=3)
    np.testing.assert_array_equal(draws.observation(1)["w"], draws["w"][1])
    assert [draws.observation(i).verdict for i in (0, 1, 2, -1)] == [TRUST, CAUTION, DOUBT, DOUBT]


@pytest.mark.parametrize("i", [3, -4])
def test_there_is_no_observation_beyond_the_stack(i: int) -> None:
    with pytest.raises(ShapeError, match=str(i)):
        make_draws(stack=3).observation(i)


def test_draws_of_one_observation_are_not_a_stack() -> None:
    with pytest.raises(ShapeError, match="0"):
        make_draws().observation(0)


def test_the_verdict_on_a_stack_is_the_worst_with_the_counts() -> None:
    verdict = worst([TRUST, DOUBT, CAUTION, TRUST])
    assert verdict.level == "do not trust"
    assert verdict.text.startswith("of 4 observations: 2 trust, 1 caution, 1 do not trust")
    assert verdict.text.endswith(f"1: {DOUBT.text}")
    assert verdict.quantile == 1.0


def test_only_trust_is_ok() -> None:
    assert [verdict.ok for verdict in (TRUST, CAUTION, DOUBT)] == [True, False, False]
    assert str(CAUTION) == "caution: at the edge"


@pytest.mark.parametrize("weighted", [False, True])
def test_arviz_holds_the_same_draws_and_the_verdict(weighted: bool) -> None:
    draws = make_draws(weighted=weighted)
    data = draws.to_arviz()
    np.testing.assert_array_equal(data["posterior"]["rate"].values, draws["rate"][None])
    np.testing.assert_array_equal(data["posterior"]["w"].values, draws["w"][None])
    assert attributes(data)["verdict"] == str(TRUST)


def test_arviz_takes_no_stack() -> None:
    with pytest.raises(SettingsError, match=r"draws\.observation"):
        make_draws(stack=2).to_arviz()


def test_netcdf_takes_no_stack_and_says_what_does(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Write .csv"):
        make_draws(stack=2).save(tmp_path / "draws.nc")


@pytest.mark.parametrize("weighted", [False, True])
def test_the_csv_of_a_stack_says_which_observation(weighted: bool, tmp_path: Path) -> None:
    draws = make_draws(20, stack=3, weighted=weighted)
    draws.save(tmp_path / "draws.csv")
    assert (tmp_path / "draws.csv").read_text(encoding="utf-8").splitlines()[0] == ",".join(
        ["observation", *NAMES]
    )
    table = np.loadtxt(tmp_path / "draws.csv", delimiter=",", skiprows=1)
    assert len(table) == 60
    for i in range(3):
        np.testing.assert_array_equal(table[table[:, 0] == i, 1:], draws.observation(i).to_numpy())


def test_a_parameter_called_observation_is_not_mixed_up_with_the_column(tmp_path: Path) -> None:
    draws = Draws(
        np.zeros((2, 5, 1)), {"observation": 0}, ("observation",), TRUST, "test", None, (TRUST, TRUST)
    )
    with pytest.raises(SettingsError, match="'observation'"):
        draws.save(tmp_path / "draws.csv")


def test_netcdf_gives_the_same_draws_back(tmp_path: Path) -> None:
    import arviz

    draws = make_draws(weighted=True)
    draws.save(tmp_path / "draws.nc")
    back = arviz.from_netcdf(tmp_path / "draws.nc")
    np.testing.assert_array_equal(back["posterior"]["w"].values, draws["w"][None])
    assert attributes(back)["verdict"] == str(TRUST)
    back.close()


def test_csv_gives_the_same_numbers_back_under_their_names(tmp_path: Path) -> None:
    draws = make_draws(weighted=True)
    draws.save(tmp_path / "draws.csv")
    assert (tmp_path / "draws.csv").read_text(encoding="utf-8").splitlines()[0] == ",".join(NAMES)
    np.testing.assert_array_equal(
        np.loadtxt(tmp_path / "draws.csv", delimiter=",", skiprows=1), draws.to_numpy()
    )


def test_a_parameter_may_have_a_greek_name(tmp_path: Path) -> None:
    draws = Draws(np.zeros((5, 1)), {"σ": 0}, ("σ",), TRUST, "test")
    draws.save(tmp_path / "draws.csv")
    draws.save(tmp_path / "draws.nc")
    assert (tmp_path / "draws.csv").read_text(encoding="utf-8").splitlines()[0] == "σ"


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"draws\.pkl"):
        make_draws().save(tmp_path / "draws.pkl")


@pytest.mark.parametrize("name", ["draws.csv", "draws.nc"])
def test_a_save_that_fails_is_a_storage_error_and_leaves_the_old_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_draws(seed=1).save(tmp_path / name)
    old = (tmp_path / name).read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(StorageError, match="No space left"):
        make_draws(seed=2).save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == old
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["draws.csv", "draws.nc"])
def test_a_folder_that_does_not_exist_is_a_storage_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        make_draws().save(tmp_path / "missing" / name)
