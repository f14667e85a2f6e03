"""Observed data as files: one, or one for each array of the data by its name, counts=counts.csv."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from sbi_flows.cli.reading import Reading
from sbi_flows.errors import ObservationError
from sbi_flows.problem.events import Events, Table
from sbi_flows.problem.observed import Table as FileTable

_FILE = click.Path(path_type=Path, dir_okay=False)
_TRAIN = (
    "On the command line: sbi-flows fit ... --like {files}, for these gaps and lengths, or --gaps 0 0.3 and "
    "--lengths 12 30 for a range of them."
)


@dataclass(frozen=True)
class NamedFile:
    """A file, and the array of the data that it holds: "" of the only one."""

    name: str
    path: Path

    def __str__(self) -> str:
        return f"{self.name}={self.path}" if self.name else str(self.path)


def named_file(given: str) -> NamedFile:
    """FILE, or NAME=FILE, as typed. A file whose own name holds "=" is meant where it is there."""
    name, separator, file = given.partition("=")
    if not separator or not name or "/" in name or Path(given).exists():
        name, file = "", given
    return NamedFile(name, _FILE.convert(file, None, None))


def observation(files: Sequence[NamedFile], events: Events, reading: Reading) -> Any:
    """The data in files, as `sf.Posterior.sample` takes them: an array, a list of arrays for several files,
    or a mapping of names to arrays.

    Raises `ObservationError` where the files are not those of the arrays, and as `Reading.table`.
    """
    names = [file.name for file in files]
    wanted = [table.name for table in events.tables]
    if events.named:
        if sorted(names) != sorted(wanted):
            raise ObservationError(
                f"the data are made of {', '.join(wanted)}: give a file for each, as "
                f"{' '.join(f'{name}={name}.csv' for name in wanted)}; got {_listed(files)}."
            )
        return {
            table.name: _array(files[names.index(table.name)].path, table, reading) for table in events.tables
        }
    if any(names):
        raise ObservationError(
            f"the data are one array, without a name: give the file alone, not {_listed(files)}."
        )
    found = [_array(file.path, events.tables[0], reading) for file in files]
    return found[0] if len(found) == 1 else found


def advice(error: Exception, files: Sequence[NamedFile]) -> None:
    """Where the advice is an argument of Python, add the option that says the same."""
    if "sf.fit(simulator, like=y_obs)" in str(error):
        error.add_note(_TRAIN.format(files=" --like ".join(map(str, files))))


def _listed(files: Sequence[NamedFile]) -> str:
    return " ".join(map(str, files))


def _array(path: Path, table: Table, reading: Reading) -> NDArray[np.float64]:
    """The numbers of one array, its channels in the order of their declared names."""
    file = reading.table(path)
    values = _in_order(path, file, table)
    shape = table.shape
    if not file.text:
        return values
    if len(shape) == 2 and values.shape[1] == shape[1] != 1:
        return values
    values = values.reshape(-1) if 1 in values.shape else values
    return values[..., None] if shape[-1:] == (1,) and values.shape != shape else values


def _in_order(path: Path, file: FileTable, table: Table) -> NDArray[np.float64]:
    """The columns of a file, matched by name where the file and the declaration have names. Of a single
    column, and of a file whose columns are not the channels, the header is ignored. Raises
    `ObservationError`.
    """
    names = None if table.kind is None else table.kind.names
    if names is None or file.columns is None or file.values.shape[1] == 1:
        return file.values
    of_channels = len(table.kind.axes(table.shape)) < len(table.shape) if table.kind is not None else False
    if not of_channels and file.values.shape[1] == table.shape[-1]:
        return file.values
    if sorted(file.columns) != sorted(names):
        raise ObservationError(
            f"{path}: the columns are {', '.join(file.columns)}; wanted {', '.join(names)}, in any order. "
            "Rename them in the first line, or leave one out: --index NAME."
        )
    return file.values[:, [file.columns.index(name) for name in names]]
