"""What a verb reads. The package's own errors get a note with what helps at a prompt: a line, an option, a
likely slip.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import sbi_flows as sf
from sbi_flows.cli.paths import file_on_the_way
from sbi_flows.errors import (
    ObservationError,
    PluginError,
    SettingsError,
    StorageError,
    SummariesError,
    TooFewSimulationsError,
)
from sbi_flows.problem.observed import read_observed
from sbi_flows.simulation.bank import Bank

_NUMBER = r"[-+]?\d*[.,]?\d+(?:e[-+]?\d+)?"
_SEPARATORS = {"semicolons": r"\s*;\s*", "tabs": r"\t+", "spaces": r" +"}


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


def load_posterior(path: Path, simulator: sf.Simulator | None) -> sf.Posterior:
    """The posterior in a file; the simulator, where one was named, for the summaries that it declares."""
    try:
        return sf.load(path, simulator=simulator)
    except SummariesError as error:
        error.add_note("On the command line: --simulator path/to/file.py:attribute.")
        raise


def load_observed(path: Path, event_shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The numbers in a .csv or .npy file. Those of a CSV get a last axis of length 1 if events have one.
    Raises `ObservationError`.
    """
    try:
        values = read_observed(path)
    except ObservationError as error:
        if path.suffix == ".csv" and path.is_file() and (found := _separator(path)):
            error.add_note(f"The columns of a .csv are separated by commas; here they seem to be by {found}.")
        raise
    one_column = path.suffix == ".csv" and event_shape[-1:] == (1,) and values.shape != event_shape
    return values[..., None] if one_column else values


def load_bank(path: Path) -> sf.Simulations:
    """The bank that an option names. Raises `SettingsError` where no folder can be."""
    if (obstacle := file_on_the_way(path)) is not None:
        raise SettingsError(
            f"{path}: {obstacle} is a file, not the folder of a bank. Give the folder that `sbi-flows "
            f"simulate` made."
        )
    return sf.read_bank(path)


def all_of_bank(path: Path, asked: sf.Simulations) -> sf.Simulations:
    """The whole bank at `path`, of which `asked` are the first simulations."""
    if len(asked) % asked.block_size == 0 and len(Bank(path, {}).present()) == asked.n_blocks:
        return asked
    try:
        return sf.read_bank(path)
    except StorageError as error:
        error.add_note(f"The {len(asked):,} simulations that were asked for are undamaged.")
        raise


@contextmanager
def advice_as_flags() -> Iterator[None]:
    """Of too few simulations, the advice names an option of the command line, not an argument of Python."""
    try:
        yield
    except TooFewSimulationsError as error:
        text = str(error).replace("n_simulations=10_000", "-n 10000")
        raise TooFewSimulationsError(text if "-n " in text else f"{text} Simulate more: -n 10000.") from error


def _line_of(error: BaseException | None, file: Path) -> int | None:
    """The line of `file` that raised `error`, or whose syntax is wrong."""
    if isinstance(error, SyntaxError) and error.filename == str(file.resolve()):
        return error.lineno
    frames = [] if error is None else traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == str(file.resolve())), None)


def _file_meant(module: str, attribute: str) -> str:
    """A hint if there is a file under the name that was taken for a module or a plug-in."""
    file = Path(module if module.endswith(".py") else f"{module.replace('.', '/')}.py")
    return f"There is a file {file}: for a simulator in it, name {file}:{attribute}" if file.is_file() else ""


def _separator(path: Path) -> str | None:
    """What separates the numbers of a line, if that is not a comma."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")[:4096]
    for name, mark in _SEPARATORS.items():
        if re.search(rf"^\s*{_NUMBER}(?:{mark}{_NUMBER})+\s*$", text, re.MULTILINE | re.IGNORECASE):
            return name
    return None
