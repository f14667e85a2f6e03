"""Observed data from a file: `.csv` (numbers, an optional header line) or `.npy`."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.errors import ObservationError

Line = tuple[int, list[str]]

_MEASURED = re.compile(r"[-+]?\d+(?:[.,]\d+)?\s*([^\W\d_]{1,3})")
_MISSING = ("", "na", "n/a", "nan", "null", "none", "nil", "missing")


def read_observed(path: str | os.PathLike[str]) -> F:
    """The numbers in a file. A CSV with one column, or one row, is one series (T,); otherwise each line is a
    row, (rows, columns).

    Raises `ObservationError` with the line where something is not a number.
    """
    path = Path(path)
    if not path.is_file():
        raise ObservationError(f"{path}: there is no such file. Give a .csv or .npy file of observed data.")
    if path.suffix == ".npy":
        return _npy(path)
    if path.suffix == ".csv":
        return _csv(path)
    ending = path.suffix or "files without an ending"
    raise ObservationError(f"{path}: observed data are read from .csv or .npy files, not {ending!r}.")


def _npy(path: Path) -> F:
    try:
        with open(path, "rb") as file:
            values = np.lib.format.read_array(file, allow_pickle=False)
        if values.dtype.kind not in "biuf":
            raise TypeError(f"the array has dtype {values.dtype}")
        return values.astype(np.float64)
    except Exception as error:  # numpy's reader of headers lets its tokenizer's errors through
        raise ObservationError(f"{path}: not a .npy file of numbers ({error}).") from error


def _csv(path: Path) -> F:
    lines = _without_header(path, _lines(path))
    if not lines:
        raise ObservationError(f"{path}: the file holds no numbers.")
    first, width = lines[0][0], len(lines[0][1])
    for number, row in lines:
        if len(row) != width:
            why = f"{len(row)} columns where line {first} has {width}. Every line needs the same number."
            raise ObservationError(f"{path}, line {number}: {why}")
        for cell in row:
            if _number(cell) is None:
                found = f"{cell.strip()!r}, which is not a number" if cell.strip() else "an empty cell"
                why = f"found {found}. Leave only the numeric columns in the file."
                raise ObservationError(f"{path}, line {number}: {why}")
    table = np.array([[float(cell) for cell in row] for _, row in lines])
    return table.reshape(-1) if 1 in table.shape else table


def _lines(path: Path) -> list[Line]:
    """The lines that are not blank."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = enumerate(csv.reader(file), 1)
            return [(number, row) for number, row in rows if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ObservationError(f"{path}: not a CSV text file ({error}).") from error


def _without_header(path: Path, lines: list[Line]) -> list[Line]:
    """The lines below the names of columns. Raises `ObservationError` if the first line is neither."""
    if not lines:
        return lines
    (number, first), more = lines[0], lines[1:]
    if all(_is_label(cell) for cell in first):
        if (unit := _unit(first)) and (not more or _unit(more[0][1]) == unit):
            why = f"every number carries {unit!r}. Leave only the numbers in the file."
            raise ObservationError(f"{path}, line {number}: {why}")
        return more
    if more and len(first) > 2 and _counts_up(first):
        raise ObservationError(
            f"{path}, line {number} counts the columns, 0, 1, 2, ..., as pandas does unless told not to. "
            "Take that line out, or write the file with header=False, index=False. If it is an observation, "
            "pass a .npy file."
        )
    return lines


def _is_label(cell: str) -> bool:
    """Whether a cell is the name of a column: a word, and not one that stands for a missing number."""
    return cell.strip().lower() not in _MISSING and _number(cell) is None and any(map(str.isalpha, cell))


def _unit(cells: list[str]) -> str:
    """What follows the number in all of the cells, where it is the same: "cm" of 12 cm, 13 cm."""
    matches = [_MEASURED.fullmatch(cell.strip()) for cell in cells]
    units = {match[1] if match else "" for match in matches}
    return units.pop() if len(units) == 1 else ""


def _counts_up(cells: list[str]) -> bool:
    """Whether the cells are 0, 1, 2, ..., after an empty one where the rows are numbered too."""
    names = [cell.strip() for cell in cells]
    names = names if names[0] else names[1:]
    return names == [str(i) for i in range(len(names))]


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
