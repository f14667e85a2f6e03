"""Observed data from a file: `.csv` (numbers, an optional header line) or `.npy`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.errors import ObservationError, SettingsError
from sbi_flows.problem.cells import advice, number
from sbi_flows.problem.delimited import Cells, read_cells
from sbi_flows.problem.index_columns import KEEP, check_index, without_index


@dataclass(frozen=True, eq=False)
class Table:
    """The numbers in a file, NaN where a value is missing.

    values: (rows, columns) of a .csv file, or the array of an .npy file in its shape.
    columns: the names of the columns, where the file has them.
    notes: sentences on what was left out that nobody asked for.
    text: whether the file is a .csv.
    """

    values: F
    columns: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    text: bool = False

    @property
    def observed(self) -> F:
        """The values; one column or one row of a .csv as one series (T,)."""
        return self.values.reshape(-1) if self.text and 1 in self.values.shape else self.values


def read_observed(
    path: str | os.PathLike[str], *, decimal: str = ".", index: str | Sequence[str] | None = None
) -> F:
    """`Table.observed` of `read_table`: a CSV with one column, or one row, is one series (T,); otherwise each
    line is a row, (rows, columns).
    """
    return read_table(path, decimal=decimal, index=index).observed


def read_table(
    path: str | os.PathLike[str], *, decimal: str = ".", index: str | Sequence[str] | None = None
) -> Table:
    """The numbers in a .csv or .npy file.

    In a .csv the separator, a header, row names and missing values are found: empty cells, NA, N/A, NaN,
    null, - and . are NaN at their place, and so are blank lines between the values of a single column. Other
    blank lines do not count.

    decimal: "," for numbers such as 3,14, whose columns are then separated by semicolons or tabs.
    index: names of columns to leave out, or their numbers from 1. "none": keep a column that looks like an
        index, such as a year or the number of a site, which is refused otherwise.

    Raises `ObservationError` with the line where something is not a number, and `SettingsError`.
    """
    if decimal not in (".", ","):
        raise SettingsError(f'decimal must be "." or ",", got {decimal!r}.')
    names = (index,) if isinstance(index, str) else tuple(index or ())
    path = Path(path)
    if not path.is_file():
        raise ObservationError(f"{path}: there is no such file. Give a .csv or .npy file of observed data.")
    if path.suffix == ".npy":
        if set(names) - {KEEP}:
            raise ObservationError(f"{path}: the columns of a .npy file have no names for --index.")
        return Table(_npy(path))
    if path.suffix == ".csv":
        return _csv(path, decimal, names)
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


def _csv(path: Path, decimal: str, index: Sequence[str]) -> Table:
    found, notes = without_index(path, read_cells(path, decimal), index)
    rows = [[number(cell, decimal) for cell in cells] for _, cells in found.lines]
    for i, row in enumerate(rows):
        if None in row:
            raise ObservationError(f"{path}, {_not_a_number(found, i, row.index(None), decimal)}")
    values = np.array(rows, dtype=np.float64)
    if np.isnan(values).all():
        raise ObservationError(f"{path}: the file holds no numbers.")
    if found.names is not None and KEEP not in index:
        check_index(path, found.names, values)
    return Table(values, found.names, tuple(notes), text=True)


def _not_a_number(found: Cells, i: int, j: int, decimal: str) -> str:
    line, cells = found.lines[i]
    where = "" if found.names is None else f" (column {found.names[j] or j + 1})"
    cell = cells[j].strip()
    return f"line {line}: found {cell!r}, which is not a number{where}. {advice(cell, decimal)}"
