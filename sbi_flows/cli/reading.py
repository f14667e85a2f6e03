"""How a verb reads the numbers in a file; what was left out, and what helps, is said."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sbi_flows.cli.terminal import say
from sbi_flows.errors import ObservationError
from sbi_flows.problem.observed import Table, read_table

_NUMBER = r'"?[-+]?\d*[.,]?\d+(?:e[-+]?\d+)?"?'


@dataclass(frozen=True)
class Reading:
    """How the numbers of a .csv file are read."""

    decimal: str = "."
    index: tuple[str, ...] = ()

    def table(self, path: Path) -> Table:
        """The numbers in a .csv or .npy file, with the names of the columns. What was left out is said.
        Raises `ObservationError`.
        """
        try:
            found = read_table(path, decimal=self.decimal, index=self.index)
        except ObservationError as error:
            if path.suffix == ".csv" and path.is_file() and _by_spaces(path):
                error.add_note(
                    "The columns of a .csv are separated by commas, semicolons or tabs; here they seem to be "
                    "by spaces."
                )
            raise
        for note in found.notes:
            say(f"{path}: {note}")
        return found


def _by_spaces(path: Path) -> bool:
    """Whether the numbers of a line are separated by spaces."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")[:4096]
    return bool(re.search(rf"^\s*{_NUMBER}(?: +{_NUMBER})+\s*$", text, re.MULTILINE | re.IGNORECASE))
