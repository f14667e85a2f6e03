"""What a verb reads: the package's own errors, with what helps at a prompt added as a note: a line, a flag, a
likely slip.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import sbi_flows as sf
from sbi_flows.cli.places import file_on_the_way
from sbi_flows.errors import (
    ObservationError,
    PluginError,
    SettingsError,
    StorageError,
    TooFewSimulationsError,
)
from sbi_flows.problem.observed import read_observed
from sbi_flows.simulation.bank import Bank

_DELIMITERS = {";": "semicolons", "\t": "tabs", None: "spaces"}
_LINES = 20


def load_simulator(reference: str) -> sf.Simulator:
    """The simulator that `reference` names. Raises `PluginError`."""
    module, separator, attribute = reference.rpartition(":")
    if separator and not (module and attribute):
        missing = "attribute after" if module else "module or file before"
        raise PluginError(
            f"{reference}: the {missing} the colon is missing. Give package.module:attribute or "
            f"path/to/file.py:attribute."
        )
    try:
        return sf.load_simulator(reference)
    except PluginError as error:
        if module.endswith(".py"):
            line = _line_of(error.__cause__, Path(module))
            hint = "" if line is None else f"It is line {line} of {module}."
        else:
            hint = _file_meant(module or reference, attribute if module else "attribute")
        if hint:
            error.add_note(hint)
        raise


def load_observed(path: Path, event_shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The numbers in a .csv or .npy file; those of a CSV as events (..., 1) where that is what is wanted.
    Raises `ObservationError`.
    """
    try:
        values = read_observed(path)
        one_column = path.suffix == ".csv" and event_shape[-1:] == (1,) and values.shape != event_shape
        return values[..., None] if one_column else values
    except ObservationError as error:
        if path.suffix == ".csv" and path.is_file() and (found := _delimiter(path)):
            error.add_note(f"The columns of a .csv are separated by commas; here they seem to be by {found}.")
        raise


def load_bank(path: Path) -> sf.Simulations:
    """The bank that an option names. A place at which no folder can be is the user's mistake."""
    if (obstacle := file_on_the_way(path)) is not None:
        raise SettingsError(
            f"{path}: {obstacle} is a file, not the folder of a bank. Give the folder that `sbi-flows "
            f"simulate` made."
        )
    return sf.read_bank(path)


def all_of_bank(path: Path, asked: sf.Simulations) -> sf.Simulations:
    """What the bank at `path` holds, of which `asked` are the first: the whole of the last block, and what
    was there before.
    """
    if len(asked) % asked.block_size == 0 and len(Bank(path, {}).present()) == asked.n_blocks:
        return asked
    try:
        return sf.read_bank(path)
    except StorageError as error:
        error.add_note(f"The {len(asked):,} simulations that were asked for are whole.")
        raise


@contextmanager
def advice_as_flags() -> Iterator[None]:
    """Too few simulations: the advice is an option of the command line, not an argument of Python."""
    try:
        yield
    except TooFewSimulationsError as error:
        text = str(error).replace("n_simulations=10_000", "-n 10000")
        raise TooFewSimulationsError(text if "-n " in text else f"{text} Simulate more: -n 10000.") from error


def _line_of(error: BaseException | None, file: Path) -> int | None:
    """The line of `file` in which an error arose, or at which it is no Python."""
    if isinstance(error, SyntaxError) and error.filename == str(file.resolve()):
        return error.lineno
    frames = [] if error is None else traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == str(file.resolve())), None)


def _file_meant(module: str, attribute: str) -> str:
    """A hint where a file lies in the folder under the name that was taken for a module's or a plug-in's."""
    file = Path(module if module.endswith(".py") else f"{module.replace('.', '/')}.py")
    return f"There is a file {file}: for a simulator in it, name {file}:{attribute}" if file.is_file() else ""


def _delimiter(path: Path) -> str | None:
    """In words, what separates the numbers of a line, where that is not a comma."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        lines = [line.strip() for line, _ in zip(file, range(_LINES), strict=False)]
    for mark, name in _DELIMITERS.items():
        for line in lines:
            parts = [part.strip().replace(",", ".") for part in line.split(mark)]
            if len(parts) > 1 and all(_is_number(part) for part in parts):
                return name
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
