"""The converted rows of blocks in a file without a name, so that a fit from a bank reads, verifies and
converts each block once.

The file holds float32 numbers part by part, and in each part the rows of block 0, then those of block 1 and
so on: a block is one read a part. It is gone when the process is, however that ends, and nothing depends on
it: where there is no disk for it, or the disk fills up, the blocks that it lacks are read from the bank
again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

_IN_MEMORY = {"tmpfs", "ramfs", "devtmpfs"}
_FREE_SHARE = 0.5
_MOUNTS = Path("/proc/self/mountinfo")
_PLACES: tuple[str, ...] = (tempfile.gettempdir(), "/var/tmp")


def place_for(n_bytes: int) -> str | None:
    """A folder for temporary files on a disk, at most half of whose free space n_bytes take; None where there
    is none.
    """
    for place in _PLACES:
        try:
            if (
                not _in_memory(place)
                and os.access(place, os.W_OK)
                and n_bytes <= _FREE_SHARE * shutil.disk_usage(place).free
            ):
                return place
        except OSError:
            continue
    return None


class Scratch:
    """Parts of rows by block: `keep` what was converted, `read` it back. `close` it, and the disk is as it
    was.

    counts: the rows of each block. shapes: of one row in each part. place: a folder.
    """

    def __init__(self, counts: Int[np.ndarray, " blocks"], shapes: list[tuple[int, ...]], place: str) -> None:
        self._counts, self._shapes = counts, shapes
        self._starts = np.cumsum(counts) - counts
        self._row_bytes = [4 * int(np.prod(shape, dtype=np.int64)) for shape in shapes]
        self._kept = np.zeros(len(counts), dtype=np.bool_)
        self._full = False
        self._file = tempfile.TemporaryFile(dir=place, prefix="sbi_flows-", buffering=0)  # noqa: SIM115

    def keep(self, k: int, parts: tuple[NDArray[np.float32], ...]) -> None:
        """Write block k; once the disk refuses, nothing more is kept."""
        if self._full or self._kept[k]:
            return
        try:
            for offset, part in zip(self._offsets(k), parts, strict=True):
                self._file.seek(offset)
                view = _bytes(np.ascontiguousarray(part))
                while view:
                    view = view[self._file.write(view) :]
        except OSError:
            self._full = True
        else:
            self._kept[k] = True

    def read(self, k: int) -> tuple[NDArray[np.float32], ...] | None:
        """Block k as it was kept, or None."""
        if not self._kept[k]:
            return None
        parts = tuple(np.empty((int(self._counts[k]), *shape), dtype=np.float32) for shape in self._shapes)
        for offset, part in zip(self._offsets(k), parts, strict=True):
            self._file.seek(offset)
            view = _bytes(part)
            while view:
                if not (n := self._file.readinto(view)):
                    return None
                view = view[n:]
        return parts

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()

    def _offsets(self, k: int) -> Iterator[int]:
        before, rows = 0, int(self._counts.sum())
        for row_bytes in self._row_bytes:
            yield before + int(self._starts[k]) * row_bytes
            before += rows * row_bytes


def _bytes(part: NDArray[np.float32]) -> memoryview:
    return part.reshape(-1).view(np.uint8).data


def _in_memory(place: str) -> bool:
    """Whether files at `place` lie in memory, as far as the system says."""
    device = os.stat(place).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}" if hasattr(os, "major") else ""
    for line in _MOUNTS.read_text().splitlines() if _MOUNTS.exists() else []:
        mount, _, kind = line.partition(" - ")
        if mount.split()[2] == wanted:
            return kind.split()[0] in _IN_MEMORY
    return False
