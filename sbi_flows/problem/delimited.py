"""Text in columns: the lines of a .csv file as cells, with the names of the columns, and nothing lost.

The separator is a semicolon or a tab where more than half of the lines hold one, else a comma. Blank lines at
the top and at the end do not count. Between values of a single column a blank line is a missing value, which
is how a spreadsheet writes a gap; in a file of several columns it is no row, since a row of missing values
has its separators.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from sbi_flows.errors import ObservationError
from sbi_flows.problem.cells import counts_columns, is_header, unit

Line = tuple[int, list[str]]

_QUOTED = re.compile(r'"[^"]*"')
_DECLARED = re.compile(r"\s*sep=([,;\t])\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Cells:
    """Lines of cells, all of one width, each with its number in the file.

    names: of the columns; None without a header. In a file whose header is one cell shorter than the lines,
    as R writes row names, the first name is empty.
    """

    lines: list[Line]
    names: tuple[str, ...] | None

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(self.lines[0][1])

    def column(self, j: int) -> list[str]:
        """The cells of column j."""
        return [cells[j].strip() for _, cells in self.lines]

    def without(self, columns: set[int]) -> Cells:
        """All but some columns."""
        if not columns:
            return self
        kept = [j for j in range(self.width) if j not in columns]
        names = None if self.names is None else tuple(self.names[j] for j in kept)
        return Cells([(number, [cells[j] for j in kept]) for number, cells in self.lines], names)


def read_cells(path: Path, decimal: str) -> Cells:
    """The cells of a file. decimal: "." or ",". Raises `ObservationError` with the line that is at fault."""
    lines = _lines(path, decimal)
    lines, header = _without_header(path, lines)
    lines = _without_blanks(lines)
    if not lines:
        raise ObservationError(f"{path}: the file holds no numbers.")
    first, width = lines[0][0], len(lines[0][1])
    for number, cells in lines:
        if len(cells) != width:
            why = f"{len(cells)} columns where line {first} has {width}. Every line needs the same number."
            raise ObservationError(f"{path}, line {number}: {why}")
    return _named(path, Cells(lines, None), header)


def _lines(path: Path, decimal: str) -> list[Line]:
    """All lines from the first to the last that is not blank."""
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\r\n", "\n")
        skipped = 0
        if declared := _DECLARED.fullmatch(text.partition("\n")[0]):
            text, skipped = text.partition("\n")[2], 1
        mark = declared[1] if declared else _separator(text, decimal)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
        lines = [(reader.line_num + skipped, cells) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ObservationError(
            f"{path}: not a CSV text file ({error}). A spreadsheet saves one as 'CSV UTF-8'."
        ) from error
    full = [i for i, (_, cells) in enumerate(lines) if not _blank(cells)]
    return lines[full[0] : full[-1] + 1] if full else []


def _blank(cells: list[str]) -> bool:
    """Whether the line has nothing at all in it; an empty pair of quotes is a missing value."""
    return not cells or (len(cells) == 1 and cells != [""] and not cells[0].strip())


def _separator(text: str, decimal: str) -> str:
    bare = [_QUOTED.sub("", line) for line in text.splitlines() if line.strip()]
    for mark in (";", "\t"):
        if 2 * sum(mark in line for line in bare) > len(bare):
            return mark
    quoted = any("," in cell for cell in _QUOTED.findall(text))
    return ";" if decimal == "," and not quoted else ","


def _without_header(path: Path, lines: list[Line]) -> tuple[list[Line], Line | None]:
    """The lines below the names of columns, and these. Raises `ObservationError` if the first line is neither
    names nor values.
    """
    if not lines:
        return lines, None
    (number, first), more = lines[0], lines[1:]
    if is_header(first):
        following = next((cells for _, cells in more if not _blank(cells)), None)
        if (of_all := unit(first)) and (following is None or unit(following) == of_all):
            why = f"every number carries {of_all!r}. Leave only the numbers in the file."
            raise ObservationError(f"{path}, line {number}: {why}")
        return more, lines[0]
    if more and counts_columns(first):
        raise ObservationError(
            f"{path}, line {number} counts the columns, 0, 1, 2, ..., as pandas does unless told not to. "
            "Take that line out, or write the file with header=False, index=False. If it is an observation, "
            "pass a .npy file."
        )
    return lines, None


def _without_blanks(lines: list[Line]) -> list[Line]:
    """Blank lines are missing values in a single column, and left out of several."""
    if all(len(cells) <= 1 for _, cells in lines):
        return [(number, cells if cells else [""]) for number, cells in lines]
    return [(number, cells) for number, cells in lines if not _blank(cells)]


def _named(path: Path, found: Cells, header: Line | None) -> Cells:
    """The cells with their names. Empty columns beyond the names, of separators at the ends of lines, are
    left out.
    """
    if header is None:
        return found
    names = [name.strip() for name in header[1]]
    while found.width > 1 and not any(found.column(-1)) and not any(names[found.width - 1 :]):
        found = found.without({found.width - 1})
    while len(names) > found.width and not names[-1]:
        names.pop()
    if len(names) == found.width - 1:
        names.insert(0, "")
    if len(names) != found.width:
        (number, _), (first, _) = header, found.lines[0]
        why = f"names {len(names)} columns, and line {first} has {found.width}. Every column needs a name."
        raise ObservationError(f"{path}, line {number} {why}")
    return Cells(found.lines, tuple(names))
