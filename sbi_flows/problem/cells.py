"""Cells of a text file: which are numbers, which stand for a missing value, which are names of columns."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

MISSING = frozenset(
    ("", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "nil", "missing", "-", ".")
)  # in lower case

_COMMA = re.compile(r"[-+]?\d*,\d+(?:e[-+]?\d+)?", re.IGNORECASE)
_POINT = re.compile(r"[-+]?\d*\.\d+(?:e[-+]?\d+)?", re.IGNORECASE)
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:[.,' \u00a0]\d{3})+(?:[.,]\d+)?")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ].*)?|\d{1,2}:\d{2}(?::\d{2})?")
_MEASURED = re.compile(r"[-+]?\d+(?:[.,]\d+)?\s*([^\W\d_]{1,3})")


def is_missing(cell: str) -> bool:
    """Whether a cell is empty, or a word or sign that stands for a missing value."""
    return cell.strip().lower() in MISSING


def number(cell: str, decimal: str) -> float | None:
    """The number in a cell, NaN for a missing value, None for anything else. decimal: "." or ","."""
    text = cell.replace(",", ".", 1) if decimal == "," and "." not in cell else cell
    try:
        value = float(text)
    except ValueError:
        return np.nan if is_missing(cell) else None
    return None if "_" in cell or (decimal == "," and "." in cell) else value


def advice(cell: str, decimal: str) -> str:
    """What a cell that is not a number seems to be, and what to do."""
    text = cell.strip()
    if decimal == "." and _COMMA.fullmatch(text):
        return 'It looks like a decimal comma: give --decimal , (in Python decimal=",").'
    if _THOUSANDS.fullmatch(text):
        return "If it has separators of thousands, write the numbers without them."
    if decimal == "," and _POINT.fullmatch(text):
        return "It has a decimal point, and decimal commas were asked for: leave --decimal out."
    if _DATE.fullmatch(text):
        return "It looks like a date or a time: --index NAME leaves that column out."
    return "Leave only the numeric columns in the file; --index NAME leaves a column out."


def is_label(cell: str) -> bool:
    """Whether a cell is the name of a column: a word, and not one that stands for a missing value."""
    plain = number(cell, ".") is None and number(cell, ",") is None
    return plain and any(map(str.isalpha, cell))


def is_header(cells: Sequence[str]) -> bool:
    """Whether the cells are names of columns: one at least is a word, and none is a number."""
    others_missing = all(is_label(cell) or is_missing(cell) for cell in cells)
    return others_missing and any(map(is_label, cells))


def unit(cells: Sequence[str]) -> str:
    """What follows the number in all of the cells, where it is the same: "cm" of 12 cm, 13 cm."""
    matches = [_MEASURED.fullmatch(cell.strip()) for cell in cells]
    units = {match[1] if match else "" for match in matches}
    return units.pop() if len(units) == 1 else ""


def counts_columns(cells: Sequence[str]) -> bool:
    """Whether the cells are 0, 1, 2, ..., as pandas names columns, after an empty one where the rows are
    numbered too.
    """
    names = [cell.strip() for cell in cells]
    numbered = names[0] == ""
    names = names[1:] if numbered else names
    return len(names) > (0 if numbered else 2) and names == [str(i) for i in range(len(names))]
