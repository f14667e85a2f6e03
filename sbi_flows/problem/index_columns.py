"""Columns that are not data: row names, and an index such as a year or the number of a site."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.errors import ObservationError
from sbi_flows.problem.cells import number
from sbi_flows.problem.delimited import Cells

KEEP = "none"

_TIMES = re.compile(
    "year|yr|date|datetime|timestamp|time|t|days?|doy|week|month|hour|minute|second|season|generation|step"
)
_NUMBERS = re.compile(
    "index|idx|id|rows?|rownames?|rowid|unnamed|obs|observation|no|nr|num|site|plot|station|location|subject"
    "|individual|sample|rep|replicate"
)
_FEW_ROWS = 3


def without_index(path: Path, found: Cells, index: Sequence[str]) -> tuple[Cells, list[str]]:
    """The cells without row names and without the columns that `index` names, and sentences on what was left
    out that nobody asked for.

    index: names of columns, or their numbers counted from 1; "none" keeps all that is not named.
    Raises `ObservationError` for a name that no column has.
    """
    named = {_place(path, found, name) for name in index if name != KEEP}
    said = [] if KEEP in index else _row_names(path, found, named)
    kept = found.without(named)
    if not kept.width:
        raise ObservationError(f"{path}: no column is left. Leave out fewer with --index.")
    return kept, said


def _place(path: Path, found: Cells, name: str) -> int:
    """Which column a name, or a number counted from 1, means."""
    names = found.names or ()
    if name.strip() in names:
        return names.index(name.strip())
    if name.strip().isdigit() and 1 <= int(name) <= found.width:
        return int(name) - 1
    there = ", ".join(name or '""' for name in names) or f"{found.width} columns without names"
    raise ObservationError(
        f"{path}: --index {name} names no column; there are {there}. Give a name, or a number from 1 to "
        f"{found.width}."
    )


def _row_names(path: Path, found: Cells, named: set[int]) -> list[str]:
    """Add a first column that holds row names, as R and pandas write them, to what is left out."""
    if not found.names or found.names[0] or found.width < 2 or 0 in named:
        return []
    cells = found.column(0)
    counted = [number(cell, ".") for cell in cells]
    if any(value is not None for value in counted) and not _ascend(counted):
        raise ObservationError(
            f"{path}: the first column has no name, and is neither words nor numbers that count up. --index "
            "1 leaves it out, --index none keeps it as data."
        )
    named.add(0)
    shown = ", ".join([*cells[:2], "..."])
    return [f"The first column has no name ({shown}): it is taken for row names and left out."]


def _ascend(counted: Sequence[float | None]) -> bool:
    """Whether all are whole numbers, each larger than the one before."""
    values = np.array([np.nan if value is None else value for value in counted])
    return bool((values == np.floor(values)).all() and (np.diff(values) > 0).all())


def check_index(path: Path, names: Sequence[str], values: F) -> None:
    """Raise `ObservationError` where one of several columns has the name and the values of an index: a year,
    a date or a time in equal steps, the number of a row or a site in steps of 1.
    """
    if values.shape[1] < 2 or len(values) < 2:
        return
    for name, column in zip(names, values.T, strict=True):
        words = re.split(r"[^a-z]+", name.lower())
        timed, numbered = (any(map(kind.fullmatch, words)) for kind in (_TIMES, _NUMBERS))
        steps = np.diff(column)
        regular = bool(steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-6, atol=0))
        any_step = timed and len(values) >= _FEW_ROWS
        if (timed or numbered) and regular and (any_step or steps[0] == 1):
            raise ObservationError(
                f"{path}: column {name} looks like an index ({column[0]:g}, {column[1]:g}, ...): --index "
                f"{_quoted(name)} leaves it out; --index none keeps it as data."
            )


def _quoted(name: str) -> str:
    """A name as it is typed at a prompt."""
    return f'"{name}"' if re.search(r"[^\w.-]", name) else name
