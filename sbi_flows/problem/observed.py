"""Observed data from a file: `.csv` (numbers, an optional header line) or `.npy`."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sbi_flows.errors import ObservationError

_MISSING = ("", "na", "n/a", "nan", "null", "none", "nil", "missing")


def read_observed(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """The numbers in a file. A CSV with one column, or one row, is one series (T,); with more, one row a line, (rows, columns).

    Raises `ObservationError` with the line where something is not a number.
    """
    path = Path(path)
    if not path.is_file():
        raise ObservationError(f"{path}: there is no such file. Give the path of a .csv or .npy file with the observed data.")
    if path.suffix == ".npy":
        return _npy(path)
    if path.suffix != ".csv":
        raise ObservationError(f"{path}: observed data are read from .csv or .npy files, not {path.suffix or 'files without an ending'!r}.")
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
            lines = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ObservationError(f"{path}: not a CSV text file ({error}).") from error
    if lines and all(_is_label(cell) for cell in lines[0][1]):
        lines = lines[1:]
    if not lines:
        raise ObservationError(f"{path}: the file holds no numbers.")
    width = len(lines[0][1])
    rows = []
    for number, row in lines:
        if len(row) != width:
            raise ObservationError(
                f"{path}, line {number}: {len(row)} columns where line {lines[0][0]} has {width}. Every line needs the same number."
            )
        values = [_number(cell) for cell in row]
        for cell, value in zip(row, values, strict=True):
            if value is None:
                what = "an empty cell" if not cell.strip() else f"{cell.strip()!r}, which is not a number"
                raise ObservationError(f"{path}, line {number}: found {what}. Leave only the numeric columns in the file.")
        rows.append([value for value in values if value is not None])
    table = np.array(rows, dtype=np.float64)
    return table.reshape(-1) if 1 in table.shape else table


def _is_label(cell: str) -> bool:
    """A word that heads a column: not a number, and not one of the signs for a missing one."""
    return _number(cell) is None and cell.strip().lower() not in _MISSING and any(letter.isalpha() for letter in cell)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
