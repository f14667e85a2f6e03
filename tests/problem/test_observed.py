"""Observed data from files: numbers come in as they are, anything else is an error with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sbi_flows.errors import ObservationError
from sbi_flows.problem.observed import read_observed


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "data.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "1\n2\n3\n",
        "1\n2\n3",
        "1\r\n2\r\n3\r\n",
        "count\n1\n2\n3\n",
        '"count"\n"1"\n"2"\n"3"\n',
        "\n\ncount\n1\n2\n3\n\n   \n",
        "1\r\r\n2\r\r\n3\r\r\n",
        "sep=;\n1;2;3\n",
        "1;2;3\n",
        "a\tb\tc\n1\t2\t3\n",
        "1,2,3\n",
        "a,b,c\n1,2,3\n",
        " 1.0 \n2e0\n+3\n",
        "\ufeffcount\n1\n2\n3\n",
        "\ufeff1\n2\n3\n",
    ],
)
def test_one_column_or_one_row_is_a_series(text: str, tmp_path: Path) -> None:
    values = read_observed(write(tmp_path, text))
    assert values.tolist() == [1, 2, 3]
    assert values.dtype == np.float64


def test_several_columns_are_a_table_with_one_row_a_line(tmp_path: Path) -> None:
    assert read_observed(write(tmp_path, "x,y\n1,2\n3,4\n5,6\n")).tolist() == [[1, 2], [3, 4], [5, 6]]


def test_every_digit_is_kept(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=20)
    path = write(tmp_path, "\n".join(map(repr, values.tolist())))
    assert read_observed(path).tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("year,count\n1960,148\n1961,many\n", "line 3: .*'many'"),
        ("count\n\n\n1\nx\n", "line 5: .*'x'"),
        ("1\n2\n1 2\n", "line 3: .*'1 2'"),
        ("1,2\n3\n", "line 2: 1 .*line 1 .*2"),
        ("x,y\n1,2\n3,4,5\n", "line 3: 3 .*line 2 .*2"),
        ("year,1960\n", "line 1: .*'year'"),
        ("x;y\n1;2\n3;4 5\n", "line 3: .*'4 5'"),
        ("a,b,c\n1,2\n3,4,5\n", "line 3: 3 .*line 2 .*2"),
        ("a,b,c,d\n1,2\n3,4\n", "line 1 names 4 columns, and line 2 has 2"),
        ("NA\n\nNA\n", "no numbers"),
        ("", "no numbers"),
        ("\n \n", "no numbers"),
        ("count\n", "no numbers"),
    ],
)
def test_what_is_not_a_number_is_named_with_its_line(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ObservationError, match=words):
        read_observed(write(tmp_path, text))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ObservationError, match="CSV"):
        read_observed(write(tmp_path, "1\n2\n", encoding="utf-16"))
    (tmp_path / "data.csv").write_bytes(b"1\n2\0\n")
    with pytest.raises(ObservationError, match=r"data\.csv"):
        read_observed(tmp_path / "data.csv")


@pytest.mark.parametrize(
    "values", [np.arange(3), np.arange(6.0).reshape(2, 3), np.array([True, False]), np.arange(3, dtype=">f4")]
)
def test_an_npy_file_gives_its_numbers_in_their_shape(values: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", values)
    back = read_observed(tmp_path / "data.npy")
    np.testing.assert_array_equal(back, values)
    assert back.dtype == np.float64


@pytest.mark.parametrize(
    "values",
    [
        np.array([{"a": 1}], dtype=object),
        np.array(["1", "2"]),
        np.zeros(3, dtype=complex),
        np.zeros(2, dtype="M8[s]"),
        np.zeros(2, dtype="f8,i4"),
    ],
    ids=lambda values: str(values.dtype),
)
def test_an_npy_file_of_anything_but_numbers_is_refused(values: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", values, allow_pickle=True)
    with pytest.raises(ObservationError, match=".npy"):
        read_observed(tmp_path / "data.npy")


class Trap:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("unpickled"),))


def test_nothing_in_an_npy_file_is_ever_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("data.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(ObservationError, match="allow_pickle"):
        read_observed("data.npy")
    assert not Path("unpickled").exists()


def test_a_changed_byte_in_an_npy_file_gives_numbers_or_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "data.npy"
    np.save(path, np.arange(4.0))
    data, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for place, value in zip(rng.integers(len(data) - 32, size=400), rng.integers(256, size=400), strict=True):
        path.write_bytes(data[:place] + bytes([value]) + data[place + 1 :])
        try:
            assert read_observed(path).dtype == np.float64
        except ObservationError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("keep", [0, 5, 60, -8])
def test_a_truncated_npy_file_is_refused(keep: int, tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", np.arange(4.0))
    (tmp_path / "data.npy").write_bytes((tmp_path / "data.npy").read_bytes()[:keep])
    with pytest.raises(ObservationError, match=".npy"):
        read_observed(tmp_path / "data.npy")


def test_an_archive_of_arrays_is_not_an_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.arange(3))
    (tmp_path / "data.npz").rename(tmp_path / "data.npy")
    with pytest.raises(ObservationError, match=".npy"):
        read_observed(tmp_path / "data.npy")


@pytest.mark.parametrize("name", ["none.csv", "none.npy", "folder.csv"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ObservationError, match=name) as caught:
        read_observed(tmp_path / name)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["data.xlsx", "data"])
def test_another_ending_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("1\n2\n")
    with pytest.raises(ObservationError, match=r"\.csv or \.npy"):
        read_observed(tmp_path / name)


@pytest.mark.parametrize("text", ["0,1,2\n4,5,6\n", ",0,1,2\n0,4,5,6\n", ",0\n0,4\n1,6\n"])
def test_the_column_numbers_of_pandas_are_no_observation(text: str, tmp_path: Path) -> None:
    with pytest.raises(ObservationError, match="line 1 .*header=False"):
        read_observed(write(tmp_path, text))


def test_a_single_line_that_counts_up_is_an_observation(tmp_path: Path) -> None:
    assert read_observed(write(tmp_path, "0,1,2\n")).tolist() == [0, 1, 2]


def test_numbers_with_their_unit_are_no_header(tmp_path: Path) -> None:
    with pytest.raises(ObservationError, match="line 1: .*'cm'"):
        read_observed(write(tmp_path, "12 cm,13.5 cm\n14 cm,15 cm\n"))
    assert read_observed(write(tmp_path, "1h,2h\n4,5\n6,7\n")).tolist() == [[4, 5], [6, 7]]
    assert read_observed(write(tmp_path, "1st,2nd\n4,5\n6,7\n")).tolist() == [[4, 5], [6, 7]]
