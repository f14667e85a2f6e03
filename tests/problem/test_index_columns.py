"""Columns that are not data: row names are left out and said, an index is asked about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sbi_flows.errors import ObservationError
from sbi_flows.problem.observed import Table, read_table


def read(folder: Path, text: str, index: str | tuple[str, ...] | None = None) -> Table:
    (folder / "data.csv").write_text(text)
    return read_table(folder / "data.csv", index=index)


@pytest.mark.parametrize(
    "text",
    [
        '"","x","y"\n"1",5,6\n"2",7,NA\n',  # write.csv of R
        '"";"x";"y"\n"1";5;6\n"2";7;NA\n',  # write.csv2
        '"x","y"\n"1",5,6\n"2",7,NA\n',  # write.table(sep = ",")
        '"","x","y"\n"3",5,6\n"17",7,NA\n',  # of some of the rows
        '"","x","y"\n"Wytham",5,6\n"Hoge Veluwe",7,NA\n',
        ",x,y\n0,5,6\n1,7,\n",  # to_csv of pandas
        ",x,y\n2020-01-01,5,6\n2021-01-01,7,\n",
    ],
)
def test_row_names_are_left_out_with_a_word(text: str, tmp_path: Path) -> None:
    found = read(tmp_path, text)
    np.testing.assert_array_equal(found.values, [[5, 6], [7, np.nan]])
    assert found.columns == ("x", "y")
    [note] = found.notes
    assert "row names and left out" in note
    assert read(tmp_path, text, "1").notes == ()


def test_a_first_column_without_a_name_that_is_neither_is_asked_about(tmp_path: Path) -> None:
    text = ",x\n5,1\n3,2\n"
    with pytest.raises(ObservationError, match="no name.*--index 1 leaves it out, --index none keeps"):
        read(tmp_path, text)
    assert read(tmp_path, text, "1").values.tolist() == [[1], [2]]
    assert read(tmp_path, text, "none").values.tolist() == [[5, 1], [3, 2]]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Year", (1960, 1961, 1962)),
        ("year", (1960, 1965, 1970)),
        ("time", (0, 0.1, 0.2)),
        ("survey_year", (1, 2, 3)),
        ("id", (1, 2, 3)),
        ("site.no", (101, 102, 103)),
        ("Unnamed: 0", (0, 1, 2)),
        ("row", (0, 1, 2)),
    ],
)
def test_an_index_is_refused_with_both_ways_out(name: str, values: tuple[float, ...], tmp_path: Path) -> None:
    text = f"{name},count\n" + "".join(f"{value},{5 - i}\n" for i, value in enumerate(values))
    with pytest.raises(ObservationError, match=f"column {name} looks like an index") as caught:
        read(tmp_path, text)
    shown = f'"{name}"' if " " in name else name
    assert f"--index {shown} leaves it out; --index none keeps" in str(caught.value)
    left = read(tmp_path, text, name)
    assert left.observed.tolist() == [5, 4, 3]
    assert left.columns == ("count",)
    assert read(tmp_path, text, "none").values[:, 0].tolist() == list(values)


@pytest.mark.parametrize(
    "text",
    [
        "year\n1\n2\n3\n",
        "x,y\n1,5\n2,4\n3,3\n",
        "id,y\n1,5\n3,4\n5,3\n",
        "year,y\n1,5\n2,4\n4,3\n",
        "year,y\n1,5\n5,4\n",
        "time,y\n1,5\n",
        "1,5\n2,4\n3,3\n",
        "yearly,idea\n1,5\n2,4\n3,3\n",
        "year,y\n1,5\n,4\n3,3\n",
    ],
)
def test_other_columns_are_data(text: str, tmp_path: Path) -> None:
    found = read(tmp_path, text)
    assert found.notes == ()
    assert found.values.shape[1] == text.split("\n")[0].count(",") + 1


def test_several_columns_are_left_out_by_name_or_number(tmp_path: Path) -> None:
    text = "Year,site,count\n1960,A,5\n1961,B,4\n"
    with pytest.raises(ObservationError, match=r"line 2: found 'A'.*\(column site\).*--index NAME"):
        read(tmp_path, text)
    with pytest.raises(ObservationError, match="column Year looks like an index"):
        read(tmp_path, text, "site")
    for index in (("site", "Year"), ("1", "2"), ("Year", "2")):
        assert read(tmp_path, text, index).observed.tolist() == [5, 4]
    assert read(tmp_path, text, ("site", "none")).values.tolist() == [[1960, 5], [1961, 4]]
    with pytest.raises(ObservationError, match="no column is left"):
        read(tmp_path, text, ("1", "2", "3"))
    with pytest.raises(ObservationError, match="--index plot names no column; there are Year, site, count"):
        read(tmp_path, text, "plot")
    with pytest.raises(ObservationError, match="2 columns without names"):
        read(tmp_path, "1,2\n3,4\n", "plot")


def test_an_npy_file_has_no_columns_to_name(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", np.zeros((2, 2)))
    assert read_table(tmp_path / "data.npy", index="none").values.shape == (2, 2)
    with pytest.raises(ObservationError, match="no names for --index"):
        read_table(tmp_path / "data.npy", index="a")
