"""Observed data from a file: `.csv` (numbers, an optional header line) or `.npy`."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sbi_flows.errors import ObservationError

_MEASURED = re.compile(r"[-+]?\d+(?:[.,]\d+)?\s*([^\W\d_]{1,3})")
_MISSING = ("", "na", "n/a", "nan", "null", "none", "nil", "missing")


def read_observed(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """The numbers in a file. A CSV with one column, or one row, is one series (T,); with more, one row a
    line, (rows, columns).

    Raises `ObservationError` with the line where something is not a number.
    """
    path = Path(path)
    if not path.is_file():
        raise ObservationError(
            f"{path}: there is no such file. Give the path of a .csv or .npy file with the observed data."
        )
    if path.suffix == ".npy":
        return _npy(path)
    if path.suffix != ".csv":
        raise ObservationError(
            f"{path}: observed data are read from .csv or .npy files, not "
            f"{path.suffix or 'files without an ending'!r}."
        )
    return _csv(path)


def _npy(path: Path) -> NDArray[np.float64]:
    try:
        with open(path, "rb") as file:
            values = np.lib.format.read_array(file, allow_pickle=False)
        if values.dtype.kind not in "biuf":
            raise TypeError(f"the array has dtype {values.dtype}")
        return values.astype(np.float64)
    except Exception as error:  # numpy's reader of headers lets its tokenizer's errors through
        raise ObservationError(f"{path}: not a .npy file of numbers ({error}).") from error


def _csv(path: Path) -> NDArray[np.float64]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [
                (number, row)
                for number, row in enumerate(csv.reader(file), 1)
                if any(cell.strip() for cell in row)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ObservationError(f"{path}: not a CSV text file ({error}).") from error
    if lines and all(_is_label(cell) for cell in lines[0][1]):
        if (unit := _unit(lines[0][1])) and (len(lines) == 1 or _unit(lines[1][1]) == unit):
            raise ObservationError(
                f"{path}, line {lines[0][0]}: every number carries {unit!r}. Leave only the numbers in the "
                f"file."
            )
        lines = lines[1:]
    elif len(lines) > 1 and len(lines[0][1]) > 2 and _counts_up(lines[0][1]):
        raise ObservationError(
            f"{path}, line {lines[0][0]} counts the columns, 0, 1, 2, ..., as pandas does unless told not "
            f"to. Take that line out, or write "
            "the file with header=False, index=False. If it is an observation, pass a .npy file."
        )
    if not lines:
        raise ObservationError(f"{path}: the file holds no numbers.")
    width = len(lines[0][1])
    rows = []
    for number, row in lines:
        if len(row) != width:
            raise ObservationError(
                f"{path}, line {number}: {len(row)} columns where line {lines[0][0]} has {width}. Every "
                f"line needs the same number."
            )
        values = [_number(cell) for cell in row]
        for cell, value in zip(row, values, strict=True):
            if value is None:
                what = "an empty cell" if not cell.strip() else f"{cell.strip()!r}, which is not a number"
                raise ObservationError(
                    f"{path}, line {number}: found {what}. Leave only the numeric columns in the file."
                )
        rows.append([value for value in values if value is not None])
    table = np.array(rows, dtype=np.float64)
    return table.reshape(-1) if 1 in table.shape else table


def _is_label(cell: str) -> bool:
    """A word that heads a column: not a number, and not one of the signs for a missing one."""
    return (
        _number(cell) is None
        and cell.strip().lower() not in _MISSING
        and any(letter.isalpha() for letter in cell)
    )


def _unit(cells: list[str]) -> str:
    """What follows the number in all of the cells, where it is the same: "cm" of 12 cm, 13 cm."""
    found = {match[1] if (match := _MEASURED.fullmatch(cell.strip())) else "" for cell in cells}
    return found.pop() if len(found) == 1 else ""


def _counts_up(cells: list[str]) -> bool:
    """Whether the cells are 0, 1, 2, ..., after an empty one where the rows are numbered too."""
    names = cells[1:] if not cells[0].strip() else cells
    return [cell.strip() for cell in names] == [str(i) for i in range(len(names))]


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
