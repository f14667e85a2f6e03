"""Draws on disk: any name of a parameter comes back, or is refused with what to do; so is a bad path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from sbi_flows.draws import Draws
from sbi_flows.errors import SettingsError, StorageError
from sbi_flows.verdict import Verdict


def named(*names: str) -> Draws:
    values = np.random.default_rng(3).normal(size=(6, len(names)))
    return Draws(
        values, {name: i for i, name in enumerate(names)}, names, Verdict("trust", "as simulated"), "test"
    )


@pytest.mark.parametrize(
    "name", ["a,b", 'the "rate"', "two\nlines", "return\rhere", "a/b", " spaced ", "#x", "", "σ"]
)
def test_the_csv_gives_every_name_back(name: str, tmp_path: Path) -> None:
    draws = named(name, "other")
    draws.save(tmp_path / "draws.csv")
    table = pandas.read_csv(tmp_path / "draws.csv", keep_default_na=False)
    assert list(table.columns) == [name or "Unnamed: 0", "other"]
    np.testing.assert_allclose(table.to_numpy(), draws.values, rtol=1e-14)


@pytest.mark.parametrize("name", ["a/b", "", "\0a"])
def test_netcdf_refuses_a_name_it_cannot_hold_and_says_what_can(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"Write \.csv"):
        named(name, "other").save(tmp_path / "draws.nc")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["chain", "draw"])
def test_a_parameter_called_as_a_dimension_of_arviz_is_not_lost_without_a_word(
    name: str, tmp_path: Path
) -> None:
    for leave in (Draws.to_arviz, lambda draws: draws.save(tmp_path / "draws.nc")):
        with pytest.raises(SettingsError, match=f"'{name}'.*Write .csv"):
            leave(named(name, "other"))


@pytest.mark.parametrize("place", [3, None, b"draws.csv"])
def test_what_is_not_a_path_is_refused(place: Any) -> None:
    with pytest.raises(SettingsError, match=r"\.nc or \.csv"):
        named("x").save(place)


@pytest.mark.parametrize("name", ["a\0.csv", "a\0.nc"])
def test_a_path_with_a_nul_is_a_storage_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="null byte"):
        named("x").save(tmp_path / name)
