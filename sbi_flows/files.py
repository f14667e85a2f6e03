"""One way to put a file on disk whole: safetensors + JSON manifest + SHA-256, written under a temporary name,
synced, renamed.

The only module that knows the format. A file holds named arrays and a JSON manifest in the safetensors
header; the digest covers the names, types, shapes and bytes of the arrays and the manifest, because
safetensors itself does not notice a flipped bit.
Nothing in a file can name code: reading is parsing numbers and JSON.
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


def write_file(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], manifest: Manifest) -> None:
    """Write arrays and manifest to `path`, whole or not at all.

    The bytes depend on the arguments alone. Raises `StorageError` where the disk refuses.
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
    """Read a file of the given `kind` (the manifest's own word for what it is) and verify its digest.

    newest: the format version up to which this kind can be read. A kind whose contents have changed counts on
    from `FORMAT_VERSION` by
    itself: its manifest then gives its own "format_version".

    Raises `StorageError` if it cannot be read, `CorruptFileError` if it is not whole or not ours,
    `FormatVersionError` if newer.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path, kind) from None
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        raise StorageError(f"{path}: cannot be read ({error}).") from error
    stamp = _stamp(path, data)
    manifest, wanted = stamp.get("manifest"), stamp.get("sha256")
    if not isinstance(manifest, dict) or not isinstance(wanted, str):
        raise CorruptFileError(
            f"{path}: the manifest is incomplete. Restore the file from a copy or make it again."
        )
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(
            f"{path}: the arrays cannot be read ({error}). Restore the file from a copy."
        ) from error
    if _digest(arrays, manifest) != wanted:
        raise CorruptFileError(
            f"{path}: the contents do not match the SHA-256 in the header, so at least one bit has changed "
            f"since it was written. "
            "Restore the file from a copy or make it again."
        )
    if manifest.get("kind") != kind:
        loader = manifest.get("loader")
        step = f"Load it with {loader}" if loader else "Pass a file of the right kind"
        raise CorruptFileError(f"{path} holds a {manifest.get('kind')!r}, not a {kind!r}. {step}.")
    stamped = manifest.get("format_version", 0)
    if isinstance(stamped, bool) or not isinstance(stamped, int):
        raise CorruptFileError(
            f"{path}: the format version is {stamped!r}, not a whole number. Make the file again."
        )
    if stamped > newest:
        raise FormatVersionError(
            f"{path} has format version {stamped}; this version of sbi_flows reads up to {newest}. Update "
            f"sbi_flows."
        )
    return arrays, manifest


class RefusedError(Exception):
    """Raised by `rebuild` with the error that the caller of `load` is to see: the file is not at fault."""

    def __init__(self, error: SbiFlowsError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class ModelFormat:
    """How one kind of model lies in a file: `record`, in JSON, and leaves, named arrays that fill the rebuilt
    model.

    kind: what it is, in words. loader: the call that loads it, for the message where another one was used.
    newest, oldest: the format versions that can be read; the newest is written. advice: what to do about
    older ones.
    tolerance: relative and absolute, within which check values have to come out as they were when the model
    was saved.
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
        """Write a model, whole or not at all; the bytes depend on the arguments alone.

        leaves: groups of arrays or tensors, by name. checks: what `load` gives to `check`, and what that has
        to give back. Raises `StorageError`.
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
        """The model that `rebuild` makes of the record and the arrays, `group/name`, after its check values
        have come out.

        check(model, checks): the values to compare, each under the name of the check that it has to equal.
        Raises `StorageError`, `FormatVersionError`, `CorruptFileError` (also if check values do not come
        out), and the error of a `RefusedError`.
        """
        arrays, record = read_file(path, self.kind, newest=self.newest)
        if record.get("format_version", 0) < self.oldest:
            raise FormatVersionError(
                f"{path} has format version {record.get('format_version')}; this version of sbi_flows reads "
                f"from {self.oldest} "
                f"to {self.newest}. {self.advice}"
            )
        try:
            model = rebuild(record, arrays)
            checks = under(_CHECKS, arrays)
            found = check(model, checks)
            wanted = {name: checks[name] for name in found}
        except RefusedError as refusal:
            raise refusal.error from refusal.__cause__
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
            raise CorruptFileError(
                f"{path}: the contents do not fit together ({type(error).__name__}: {error}). Make the file "
                f"again."
            ) from error
        for name, value in found.items():
            if not np.allclose(value, wanted[name], rtol=self.tolerance, atol=self.tolerance):
                worst = int(np.argmax(np.abs(value - wanted[name])))
                raise CorruptFileError(
                    f"{path}: the loaded {self.kind} does not reproduce its stored check values ({name} "
                    f"{value.flat[worst]:.6g}, stored "
                    f"{wanted[name].flat[worst]:.6g}). It was saved by other versions of the packages, or "
                    f"loaded with other modules or "
                    "another prior than it was saved with."
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
    """Put `data` at `path` through a temporary file in the same folder, fsync and rename. Raises
    `StorageError`, `SettingsError`.
    """
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
        raise StorageError(
            f"{path}: writing failed ({error}). Choose another place or free some space."
        ) from error
    finally:
        with suppress(OSError, ValueError):
            part.unlink()


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder, and those that it is in, so that their names too are on disk. Raises `StorageError`."""
    path = Path(path)
    try:
        new = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in new:
            _sync_folder(folder.parent)
    except OSError as error:
        raise StorageError(
            f"{path}: the folder cannot be made ({error}). Choose another place or free some space."
        ) from error


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


def _stamp(path: Path, data: bytes) -> dict[str, Any]:
    refusal = CorruptFileError(
        f"{path} was not written by sbi_flows, or its header is damaged. Pass a file that sbi_flows saved."
    )
    if len(data) < 8:
        raise refusal
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(len(data) - 8, _MAX_HEADER):
        raise refusal
    try:
        stamp = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_KEY])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise refusal from error
    if not isinstance(stamp, dict):
        raise refusal
    return stamp


def _digest(arrays: Mapping[str, NDArray[Any]], manifest: Manifest) -> str:
    sha = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()
