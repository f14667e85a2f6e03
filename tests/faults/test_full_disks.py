"""A disk that is full, failing or read-only, at any call: a typed error, finished blocks kept, and the same
call resumes afterwards.
"""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import sbi_flows as sf
from sbi_flows import files as package_files
from sbi_flows.errors import StorageError
from tests.faults.conftest import files, rows
from tests.faults.models import PRIOR, numbers

SETTINGS = sf.SimulateSettings(block_size=20)
N, POSITIONS = 100, 50
CALLS = (
    "open",
    "fsync",
    "replace",
    "mkdir",
    "unlink",
    "link",
    "rename",
    "stat",
    "scandir",
    "read",
    "write",
    "utime",
)


def simulate(store: Path, n: int = N, **options: Any) -> sf.Simulations:
    return sf.simulate(
        sf.simulator(PRIOR)(numbers), n, seed=5, store=store, workers=1, settings=SETTINGS, **options
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("whole") / "bank"
    simulate(store)
    return store


class Disk:
    """Counts the calls of the system on files below a folder, and makes one of them fail."""

    def __init__(self, folder: Path, position: int, number: int) -> None:
        self.folder, self.position, self.number = str(folder), position, number
        self.count, self.failed = 0, ""

    def call(self, name: str, path: Any) -> None:
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")
            except OSError:
                return
        if not isinstance(path, str | os.PathLike) or not str(path).startswith(self.folder):
            return
        self.count += 1
        if self.count == self.position:
            self.failed = f"{name} {path}"
            raise OSError(self.number, os.strerror(self.number), str(path))

    @contextmanager
    def faulty(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Inside, the calls go by this disk."""
        with monkeypatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self.watched(name, getattr(os, name)))
            opened = self.opened(io.open)
            patch.setattr(io, "open", opened)
            patch.setattr(package_files, "open", opened, raising=False)
            yield

    def watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watch(*args: Any, **options: Any) -> Any:
            self.call(name, args[0] if args else None)
            return call(*args, **options)

        return watch

    def opened(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watch(path: Any, *args: Any, **options: Any) -> Any:
            self.call("open", path)
            file = call(path, *args, **options)
            if "b" in str(args) and file.writable():
                inner = file.write
                self_call = self.call

                class Writing:
                    def __enter__(self) -> Any:
                        return self

                    def __exit__(self, *_: object) -> None:
                        file.close()

                    def write(self, data: bytes) -> int:
                        inner(data[: len(data) // 2])
                        self_call("write", path)
                        return int(inner(data[len(data) // 2 :]))

                    def flush(self) -> None:
                        file.flush()

                    def fileno(self) -> int:
                        return int(file.fileno())

                return Writing()
            return file

        return watch


def hidden(store: Path) -> list[str]:
    """What no run should leave behind."""
    return [name for name in files(store) if name.rpartition("/")[2].startswith(".") or name == "writer.lock"]


@pytest.mark.filterwarnings("ignore:.*is missing or not full:sbi_flows.errors.SimulationWarning")
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS], ids=errno.errorcode.get)
def test_a_failure_of_any_call_is_a_storage_error_and_the_same_call_goes_on(
    number: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 50 places spread over all calls of a run of 5 blocks, of which 2 were there."""
    wanted, reference = files(whole), sf.read_bank(whole)
    counter = Disk(tmp_path / "count", 0, number)
    simulate(tmp_path / "count", 40)
    with counter.faulty(monkeypatch):
        simulate(tmp_path / "count")
    assert counter.count > POSITIONS
    tolerated = set()
    for i in range(POSITIONS):
        store = tmp_path / f"{i}.bank"
        disk = Disk(store, 1 + i * counter.count // POSITIONS, number)
        simulate(store, 40)
        with disk.faulty(monkeypatch):
            try:
                sims: sf.Simulations | str = simulate(store)
            except StorageError as error:
                sims = str(error)
        if isinstance(sims, str):
            assert os.strerror(number) in sims, disk.failed
        else:
            assert rows(sims) == rows(reference)
            tolerated.add(disk.failed.split()[0])
        assert disk.failed
        kept = sf.read_bank(store)
        assert len(kept) >= 40
        assert rows(kept) == rows(reference, len(kept))
        assert rows(simulate(store)) == rows(reference)
        found = files(store)
        assert not (set(hidden(store)) - {"writer.lock"}), disk.failed
        found.pop("writer.lock", None)
        assert found == wanted, disk.failed
    assert tolerated <= {"unlink", "stat", "open", "mkdir"}, (
        "what is cleared away, looked for, or there already"
    )


def test_a_new_bank_meets_a_full_disk_at_any_call(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = files(whole)
    counter = Disk(tmp_path / "count", 0, errno.ENOSPC)
    with counter.faulty(monkeypatch):
        simulate(tmp_path / "count", 40)
    for position in range(1, counter.count + 1):
        store = tmp_path / f"{position}.bank"
        disk = Disk(store, position, errno.ENOSPC)
        with disk.faulty(monkeypatch), suppress(StorageError):
            simulate(store, 40)
        assert rows(simulate(store)) == rows(sf.read_bank(whole))
        found = files(store)
        found.pop("writer.lock", None)
        assert found == wanted, disk.failed


def test_a_file_system_of_8_megabytes_that_runs_full(tmp_path: Path) -> None:
    place = tmp_path / "small"
    with small_disk(place):
        wide = sf.simulator(PRIOR)(lambda theta, rng: rng.standard_normal((len(theta["a"]), 500)))
        settings = sf.SimulateSettings(block_size=100)
        with pytest.raises(StorageError, match="No space left on device") as caught:
            sf.simulate(wide, 5000, seed=5, store=place / "bank", workers=1, settings=settings)
        count = len(list((place / "bank").glob("0*/*.safetensors")))
        assert f"holds {count} finished blocks of 100 rows" in caught.value.__notes__[0]
        kept = sf.read_bank(place / "bank")
        assert len(kept) == 100 * count > 1000
        subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
        sims = sf.simulate(wide, 5000, seed=5, store=place / "bank", workers=1, settings=settings)
        assert rows(sims) == rows(sf.simulate(wide, 5000, seed=5, workers=1, settings=settings))
        assert not hidden(place / "bank")


@pytest.mark.skipif(sys.platform == "win32", reason="limits on the size of files are of Unix")
def test_a_limit_on_the_size_of_files(whole: Path, tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))
    try:
        with pytest.raises(StorageError, match="File too large"):
            simulate(tmp_path / "bank")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not hidden(tmp_path / "bank")
    simulate(tmp_path / "bank")
    assert files(tmp_path / "bank") == files(whole)


def test_a_bank_that_may_be_read_but_not_written(tmp_path: Path) -> None:
    store, privileged = tmp_path / "bank", hasattr(os, "geteuid") and os.geteuid() == 0
    if privileged:
        with small_disk(store):
            check_read_only(
                store, lambda mode: subprocess.run(["mount", "-o", f"remount,{mode}", str(store)], check=True)
            )
    else:
        store.mkdir()
        check_read_only(
            store,
            lambda mode: [place.chmod(0o555 if mode == "ro" else 0o755) for place in (store / "0000", store)],
        )


def check_read_only(store: Path, turn: Callable[[str], object]) -> None:
    simulate(store)
    turn("ro")
    try:
        assert (len(sf.read_bank(store)), len(simulate(store)), len(simulate(store, 60))) == (N, N, 60)
        with pytest.raises(StorageError, match="writer.lock: .*(Read-only|Permission denied)"):
            simulate(store, 200)
    finally:
        turn("rw")
    assert len(simulate(store, 200)) == 200


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A file system of 8 MB of its own."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)
