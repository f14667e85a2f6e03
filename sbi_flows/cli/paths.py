"""Where a verb writes: an output that cannot be written, or would overwrite an input, is refused before any
work is done.
"""

from __future__ import annotations

import os
from pathlib import Path

from sbi_flows.errors import SettingsError


def check_output(path: Path, *inputs: Path | str | None, endings: tuple[str, ...] = ()) -> None:
    """Refuse an output that cannot be written, has another ending, or is an input of the same command, also
    under another name or inside a bank.

    inputs: files, banks and references to simulators, of which the file counts; None is skipped.
    endings: those allowed; all if empty.
    """
    _check_writable(path)
    if endings and path.suffix not in endings:
        what = "draws are" if ".nc" in endings else "the page is"
        raise SettingsError(
            f"{what} written as {' or '.join(endings)}, got {path.name!r}. Give the output such a name."
        )
    for given in inputs:
        source = _file_of(given)
        if source is not None and (_same(path, source) or _part_of_bank(path, source)):
            raise SettingsError(
                f"{path} is an input of this command and would be lost. Choose another output."
            )


def _check_writable(path: Path) -> None:
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise SettingsError(
            f"{path}: the folder {folder} does not exist or cannot be written to. Choose another output."
        )
    if path.is_dir():
        raise SettingsError(f"{path} is a folder. Name a file.")


def check_bank_place(path: Path, reference: str) -> None:
    """Refuse a path at which a bank's folder cannot be made. reference: of the simulator."""
    source = _file_of(reference)
    if source is not None and _same(path, source):
        raise SettingsError(f"{path} is the file of the simulator. Name a folder for the bank.")
    if (obstacle := file_on_the_way(path)) is not None:
        raise SettingsError(f"{path}: {obstacle} is a file, and a bank is a folder. Choose another folder.")


def file_on_the_way(path: Path) -> Path | None:
    """The file at `path`, or where one of its parent folders should be."""
    return next((place for place in (path, *path.absolute().parents) if os.path.isfile(place)), None)


def _file_of(given: Path | str | None) -> Path | None:
    """The file or folder that an argument names. A reference to a simulator names its file; a module is
    looked for in the working folder.
    """
    if given is None or isinstance(given, Path):
        return given
    module, _, _ = given.rpartition(":")
    if not module:
        return None
    return Path(module if module.endswith(".py") else f"{module.replace('.', '/')}.py")


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return one.resolve() == other.resolve()


def _part_of_bank(path: Path, bank: Path) -> bool:
    """Whether `path` is where a bank keeps its manifest, its lock or its blocks."""
    place, folder = path.resolve(), bank.resolve()
    if not folder.is_dir() or not place.is_relative_to(folder):
        return False
    parts = place.relative_to(folder).parts
    return len(parts) > 1 or parts in (("bank.json",), ("writer.lock",))
