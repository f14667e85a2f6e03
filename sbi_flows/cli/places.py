"""Where a verb writes: what cannot be written, or would destroy what the verb reads, is refused before any
work is done.
"""

from __future__ import annotations

import os
from pathlib import Path

from sbi_flows.errors import SettingsError


def check_writable(path: Path) -> None:
    """Refuse an output that cannot be written before the work that leads to it is done."""
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise SettingsError(
            f"{path}: the folder {folder} does not exist or cannot be written to. Choose another output."
        )
    if path.is_dir():
        raise SettingsError(f"{path} is a folder. Name a file.")


def check_output(path: Path, *inputs: Path | str | None, endings: tuple[str, ...] = ()) -> None:
    """Refuse an output that cannot be written, ends otherwise, or is an input of the same command, also by
    another name or inside a bank.

    inputs: files, banks and references to simulators, of which the file counts; None is skipped. endings:
    those allowed, all if empty.
    """
    check_writable(path)
    if endings and path.suffix not in endings:
        what = "draws are" if ".nc" in endings else "the page is"
        raise SettingsError(
            f"{what} written as {' or '.join(endings)}, got {path.name!r}. Choose another name for the "
            f"output."
        )
    for given in inputs:
        place = _file_of(given)
        if place is not None and (_same(path, place) or _part_of_bank(path, place)):
            raise SettingsError(
                f"{path} is read by this same command and would be lost. Choose another place for the output."
            )


def check_bank_place(path: Path, reference: str) -> None:
    """Refuse a place at which no folder of a bank can be."""
    place = _file_of(reference)
    if place is not None and _same(path, place):
        raise SettingsError(
            f"{path} is the file of the simulator. Choose another place for the bank, a folder of its own."
        )
    if (obstacle := file_on_the_way(path)) is not None:
        raise SettingsError(
            f"{path}: {obstacle} is a file, and a bank is a folder. Choose another place for it."
        )


def file_on_the_way(path: Path) -> Path | None:
    """The file that is at `path`, or in the place of a folder above it."""
    return next((place for place in (path, *path.absolute().parents) if os.path.isfile(place)), None)


def _file_of(given: Path | str | None) -> Path | None:
    """The file or folder that an argument names; of a reference to a simulator, the file, of a module that in
    the working folder.
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
