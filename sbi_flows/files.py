"""The one file format: named arrays and a JSON manifest in a safetensors file, with a SHA-256 over both; and
how any model is saved and loaded.

The digest covers names, types, shapes and bytes of the arrays and the manifest, because safetensors itself
does not notice a flipped bit. A file appears whole or not at all: it is written under a temporary name,
synced to disk, renamed. Nothing in a file can name code: reading parses numbers and JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from sbi_flows.errors import CorruptFileError, FormatVersionError, SbiFlowsError, SettingsError, StorageError

FORMAT_VERSION = 1
_KEY = "sbi_flows"
_MAX_HEADER = 100_000_000

Arrays = dict[str, NDArray[Any]]
Manifest = dict[str, Any]
Leaves = Mapping[str, Any]
Model = TypeVar("Model")

_CHECKS = "canary"
_RESTORE = "Restore the file from a copy or make it again."
_ELSEWHERE = "Choose another place or free some space."


def write_file(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], manifest: Manifest) -> None:
    """Write arrays and manifest to `path`, whole or not at all; the bytes depend on the arguments alone.

    Raises `StorageError`.
    """
    ordered = {name: _plain(arrays[name]) for name in sorted(arrays)}
    stamped = {"format_version": FORMAT_VERSION, **manifest}
    header = json.dumps(
        {"manifest": stamped, "sha256": _digest(ordered, stamped)}, sort_keys=True, allow_nan=False
    )
    write_bytes(path, safetensors.numpy.save(ordered, metadata={_KEY: header}))


def read_file(
    path: str | os.PathLike[str], kind: str, newest: int = FORMAT_VERSION
) -> tuple[Arrays, Manifest]:
    """The arrays and the manifest of a file whose manifest gives this `kind`, after checking its digest.

    newest: the newest format version that can be read. A kind whose contents have changed counts on from
        `FORMAT_VERSION` by itself: its manifest then gives its own "format_version".

    Raises `StorageError` if it cannot be read, `CorruptFileError` if it is damaged or not such a file,
    `FormatVersionError` if it is newer.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path, kind) from None
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        raise StorageError(f"{path}: cannot be read ({error}).") from error
    manifest, wanted = _stamp(path, data)
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(f"{path}: the arrays cannot be read ({error}). {_RESTORE}") from error
    if _digest(arrays, manifest) != wanted:
        raise CorruptFileError(
            f"{path}: the contents do not match the SHA-256 in the header: at least one bit has changed "
            f"since it was written. {_RESTORE}"
        )
    _check_stamp(path, manifest, kind, newest)
    return arrays, manifest


def _check_stamp(path: Path, manifest: Manifest, kind: str, newest: int) -> None:
    found, loader, version = manifest.get("kind"), manifest.get("loader"), manifest.get("format_version", 0)
    if found != kind:
        step = f"Load it with {loader}" if loader else "Pass a file of the right kind"
        raise CorruptFileError(f"{path} holds a {found!r}, not a {kind!r}. {step}.")
    if type(version) is not int:
        raise CorruptFileError(f"{path}: the format version is {version!r}, not a whole number. {_RESTORE}")
    if version > newest:
        raise FormatVersionError(
            f"{path} has format version {version}; this version of sbi_flows reads up to {newest}. Update "
            f"sbi_flows."
        )


class RefusedError(Exception):
    """Raised by `rebuild` where the file is not at fault, with the error that the caller of `load` gets."""

    def __init__(self, error: SbiFlowsError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class ModelFormat:
    """How one kind of model is kept in a file: a record in JSON, from which it is rebuilt, and named arrays,
    its leaves, which fill it.

    kind: what it is, in words.
    loader: the call that loads it, named where another one was used.
    newest, oldest: the format versions that can be read; the newest is written.
    advice: what to do about older ones.
    tolerance: relative and absolute, within which check values must agree with those saved.
    """

    kind: str
    loader: str
    newest: int = FORMAT_VERSION
    oldest: int = 0
    advice: str = ""
    tolerance: float = 1e-6

    def save(
        self, path: str | os.PathLike[str], record: Manifest, leaves: Mapping[str, Leaves], checks: Leaves
    ) -> None:
        """Write a model, whole or not at all; the bytes depend on the arguments alone. Raises `StorageError`.

        leaves: groups of arrays or tensors, by name.
        checks: the inputs from which `load` computes check values, and the values themselves.
        """
        groups = {**leaves, _CHECKS: checks}
        arrays = {
            f"{group}/{name}": _array(leaf) for group, named in groups.items() for name, leaf in named.items()
        }
        stamp = {"kind": self.kind, "loader": self.loader, "format_version": self.newest}
        write_file(path, arrays, {**stamp, **record})

    def load(
        self,
        path: str | os.PathLike[str],
        rebuild: Callable[[Manifest, Arrays], Model],
        check: Callable[[Model, Arrays], Arrays],
    ) -> Model:
        """The model that `rebuild` makes of the record and the arrays (named group/name).

        check(model, checks): the check values of the loaded model, each under its name among `checks`.

        Raises `StorageError`, `FormatVersionError`, `CorruptFileError` (also if check values differ), and the
        error of a `RefusedError`.
        """
        arrays, record = read_file(path, self.kind, newest=self.newest)
        version = record.get("format_version", 0)
        if version < self.oldest:
            raise FormatVersionError(
                f"{path} has format version {version}; this version of sbi_flows reads {self.oldest} to "
                f"{self.newest}. {self.advice}"
            )
        try:
            model = rebuild(record, arrays)
            checks = under(_CHECKS, arrays)
            pairs = {name: (value, checks[name]) for name, value in check(model, checks).items()}
        except RefusedError as refusal:
            raise refusal.error from refusal.__cause__
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
            why = f"{type(error).__name__}: {error}"
            raise CorruptFileError(f"{path}: the contents do not fit together ({why}). {_RESTORE}") from error
        for name, (found, saved) in pairs.items():
            if not np.allclose(found, saved, rtol=self.tolerance, atol=self.tolerance):
                worst = int(np.argmax(np.abs(found - saved)))
                raise CorruptFileError(
                    f"{path}: the loaded {self.kind} does not reproduce its stored check values ({name} "
                    f"{found.flat[worst]:.6g}, stored {saved.flat[worst]:.6g}). It was saved by other "
                    f"versions of the packages, or loaded with other modules or another prior."
                )
        return model


def under(group: str, arrays: Arrays) -> Arrays:
    """The arrays of one group, by the rest of their names."""
    return {
        name.removeprefix(f"{group}/"): value.copy()
        for name, value in arrays.items()
        if name.startswith(f"{group}/")
    }


def _array(leaf: Any) -> NDArray[Any]:
    """A tensor or an array as an array."""
    return leaf if isinstance(leaf, np.ndarray) else np.asarray(leaf.numpy(force=True))


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, whole or not at all. Raises `StorageError`, `SettingsError`."""
    if not isinstance(path, str | os.PathLike):
        raise SettingsError(f"path must name a file, got {path!r}.")
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        if path.is_dir():
            raise StorageError(f"{path} is a folder. Name a file in it.")
        if path.exists() and not path.is_file():
            raise StorageError(f"{path} is a device or a pipe, which writing would replace. Name a file.")
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(path.parent)
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        raise StorageError(f"{path}: writing failed ({error}). {_ELSEWHERE}") from error
    finally:
        with suppress(OSError, ValueError):
            part.unlink()


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder and its parents, and sync their names to disk. Raises `StorageError`."""
    path = Path(path)
    try:
        new = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in new:
            _sync_folder(folder.parent)
    except OSError as error:
        raise StorageError(f"{path}: the folder cannot be made ({error}). {_ELSEWHERE}") from error


def fingerprint(value: object) -> str:
    """The SHA-256, in hex, of `value` as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def _missing(path: Path, kind: str) -> StorageError:
    error = StorageError(f"{path}: there is no such file. A {kind} was expected there; check the path.")
    error.exit_code = 2
    return error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stamp(path: Path, data: bytes) -> tuple[Manifest, str]:
    """The manifest and the digest in the header of a file."""
    try:
        (length,) = struct.unpack("<Q", data[:8])
        if length > min(len(data) - 8, _MAX_HEADER):
            raise ValueError(f"a header of {length} bytes")
        stamp = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_KEY])
        manifest, digest = stamp["manifest"], stamp["sha256"]
        if not isinstance(manifest, dict) or not isinstance(digest, str):
            raise TypeError("an incomplete manifest")
    except (ValueError, KeyError, TypeError, RecursionError, struct.error) as error:
        raise CorruptFileError(
            f"{path} was not written by sbi_flows, or its header is damaged. Pass a file that it saved."
        ) from error
    return manifest, digest


def _digest(arrays: Mapping[str, NDArray[Any]], manifest: Manifest) -> str:
    sha = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()
