"""Files as spreadsheets, R and pandas write them: every value at its place, every refusal with its line."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas
import pytest

from sbi_flows.errors import ObservationError, SettingsError
from sbi_flows.problem.observed import Table, read_observed, read_table

NAN = np.nan


def read(folder: Path, text: str, **options: object) -> Table:
    path = folder / "data.csv"
    path.write_bytes(text.encode())
    return read_table(path, **options)  # type: ignore[arg-type]


def check(found: np.ndarray, wanted: object) -> None:
    np.testing.assert_array_equal(found, np.array(wanted))


@pytest.mark.parametrize(
    "sign", ["", "NA", "N/A", "#N/A", "NaN", "nan", "null", "-", ".", " NA ", '"NA"', '""', "<NA>"]
)
def test_a_missing_value_is_nan_at_its_place(sign: str, tmp_path: Path) -> None:
    check(read(tmp_path, f"x,y\n1,2\n{sign},4\n5,{sign}\n").values, [[1, 2], [NAN, 4], [5, NAN]])
    check(read(tmp_path, f"count\n1\n{sign}\n3\n").observed, [1, NAN, 3])
    check(read(tmp_path, f"1,{sign},3\n").observed, [1, NAN, 3])


def test_a_row_of_separators_is_a_row_of_missing_values(tmp_path: Path) -> None:
    check(read(tmp_path, "a,b,c\r\n1,2,3\r\n,,\r\n7,8,9\r\n").values, [[1, 2, 3], [NAN] * 3, [7, 8, 9]])
    check(read(tmp_path, "1;2\n;\n5;6\n;\n").values, [[1, 2], [NAN] * 2, [5, 6], [NAN] * 2])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1\n\n3\n", [1, NAN, 3]),
        ("count\r\n1\r\n\r\n3\r\n\r\n", [1, NAN, 3]),
        ("\n\ncount\n\n1\n2\n   \n3\n\n", [NAN, 1, 2, NAN, 3]),
        ('count\n1\n""\n3\n""\n', [1, NAN, 3, NAN]),
        ("1\r\r\n2\r\r\n", [1, 2]),
        ("1\r2\r3\r", [1, 2, 3]),
    ],
)
def test_blank_lines_of_one_column_are_missing_but_at_the_ends(
    text: str, wanted: list[float], tmp_path: Path
) -> None:
    check(read(tmp_path, text).observed, wanted)


def test_blank_lines_between_rows_of_several_columns_are_no_rows(tmp_path: Path) -> None:
    check(read(tmp_path, "a,b\n\n1,2\n\n3,4\n").values, [[1, 2], [3, 4]])


def test_names_of_columns_are_kept(tmp_path: Path) -> None:
    assert read(tmp_path, "young,adults\n1,2\n3,4\n").columns == ("young", "adults")
    assert read(tmp_path, "Na,K\n1,2\n3,4\n").columns == ("Na", "K")
    assert read(tmp_path, "1,2\n3,4\n").columns is None
    np.save(tmp_path / "data.npy", [[1.0, 2.0]])
    assert read_table(tmp_path / "data.npy").columns is None
    check(read_table(tmp_path / "data.npy").observed, [[1, 2]])


@pytest.mark.parametrize(
    "text",
    [
        "x;y\n3,14;1\n2,71;-0,5\n",
        "x\ty\n3,14\t1\n2,71\t-0,5\n",
        '"x","y"\n"3,14","1"\n"2,71","-0,5"\n',
        "x;y\n3,14;1,0e0\n2,71;-,5\n",
    ],
)
def test_decimal_commas_are_named_and_read(text: str, tmp_path: Path) -> None:
    with pytest.raises(
        ObservationError, match=r"line 2: found '3,14'.*--decimal , \(in Python decimal=\",\"\)"
    ):
        read(tmp_path, text)
    check(read(tmp_path, text, decimal=",").values, [[3.14, 1], [2.71, -0.5]])


def test_one_column_of_decimal_commas(tmp_path: Path) -> None:
    check(read(tmp_path, "x\n3,14\n\n2\n", decimal=",").observed, [3.14, NAN, 2])
    check(read(tmp_path, "3,14\n2,71\n", decimal=",").observed, [3.14, 2.71])
    check(read(tmp_path, "3,14;2,71\n", decimal=",").observed, [3.14, 2.71])


@pytest.mark.parametrize(
    ("text", "decimal", "words"),
    [
        ("x;y\n1.5;2\n", ",", "line 2: found '1.5'.*leave --decimal out"),
        ('x,y\n1,"1,234.5"\n', ".", "line 2: found '1,234.5'.*thousands"),
        ("x;y\n1;1.234,5\n", ",", "line 2: found '1.234,5'.*thousands"),
        ("x;y\n1;1 234\n", ".", "line 2: found '1 234'.*thousands"),
        ("day,n\n2020-01-31,5\n", ".", r"line 2: found '2020-01-31'.*\(column day\).*--index NAME"),
        ("day,n\n31.1.2020,5\n", ".", "a date or a time"),
        ("n\n1_000\n", ".", "line 2: found '1_000'"),
        ('name,n\n"a\nb",5\n', ".", r"line 3: found 'a\\nb'"),
    ],
)
def test_other_cells_are_named_with_what_they_seem_to_be(
    text: str, decimal: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ObservationError, match=f"(?s){words}"):
        read(tmp_path, text, decimal=decimal)


def test_decimal_is_a_point_or_a_comma(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="';'"):
        read(tmp_path, "1\n", decimal=";")


def test_empty_columns_at_the_end_are_left_out_where_they_have_no_name(tmp_path: Path) -> None:
    for text in ("a,b,,\n1,2,,\n3,4,,\n", "a,b\n1,2,\n3,4,\n", "a,b,\n1,2\n3,4\n"):
        found = read(tmp_path, text)
        assert found.columns == ("a", "b")
        check(found.values, [[1, 2], [3, 4]])
    check(read(tmp_path, "a,b,c\n1,2,\n3,4,\n").values, [[1, 2, NAN], [3, 4, NAN]])


def test_a_frame_of_pandas_comes_back(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(20, 3))
    values[3, 1] = values[7] = NAN
    frame = pandas.DataFrame(values, columns=["a", "b", "c"])
    frame.to_csv(tmp_path / "data.csv", index=False)
    check(read_observed(tmp_path / "data.csv"), values)
    frame.to_csv(tmp_path / "data.csv")
    check(read_observed(tmp_path / "data.csv"), values)
    frame[["b"]].to_csv(tmp_path / "data.csv", index=False)
    check(read_observed(tmp_path / "data.csv"), values[:, 1])
    text = io.StringIO()
    frame.to_csv(text, sep=";", decimal=",", index=False)
    check(read(tmp_path, text.getvalue(), decimal=",").values, values)


def test_another_encoding_is_refused_with_how_to_save(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes("Höhe\n1\n".encode("latin-1"))
    with pytest.raises(ObservationError, match="CSV UTF-8"):
        read_observed(tmp_path / "data.csv")
