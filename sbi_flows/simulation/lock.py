"""One writer per bank: a file that says who writes, kept fresh while they do.

The lock is a file that is linked into place, which fails on every file system if it is there. A lock of the
operating system would not do: some shared file systems do not honour it. The holder touches its file every
few seconds. The lock is stale if its process on this host has ended, or if another host has not touched it
for a minute.

Many may find a stale lock at once. Who takes it over must first hold a second lock, the claim, which is named
after the contents of the stale one, and so is of use only while that lock is there. A claim can be stale in
turn, and is taken over in the same way. Two writers would commit the same bytes, so that a lock that was
taken over wrongly could waste work, but not corrupt a bank.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sbi_flows.errors import BankLockedError, StorageError
from sbi_flows.files import fingerprint

_BEAT_SECONDS, _LEASE_SECONDS = 10.0, 60.0
_TRIES, _AGAIN_SECONDS = 50, 0.01
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)

Holder = dict[str, Any]

_tokens = set[str]()  # of this process's own locks: another one with its number on it is a leftover


@contextmanager
def writing(bank: Path) -> Iterator[None]:
    """Hold the bank's lock in the block. Raises `BankLockedError` if another does, and `StorageError`."""
    path, token, pid = bank / "writer.lock", secrets.token_hex(8), os.getpid()
    mine = {"host": socket.gethostname(), "pid": pid, "started": _started(pid), "token": token}
    _tokens.add(token)
    try:
        try:
            _take(path, mine)
            for left in path.parent.glob(f".{path.name}.*"):
                left.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{path}: the lock of the bank cannot be written ({error}).") from error
        ended = threading.Event()
        beat = threading.Thread(target=_beat, args=(path, mine, ended), daemon=True)
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join()
    finally:
        with contextlib.suppress(OSError):
            if _read(path) == mine:
                path.unlink()
        _tokens.discard(token)


def _take(path: Path, mine: Holder) -> None:
    """Put `mine` at `path`. Raises `BankLockedError` where a lock that is not stale stays there."""
    for _ in range(_TRIES):
        if _placed(path, mine):
            return
        holder = _read(path)
        if path.exists() and not _stale(path, holder):
            break
        claim = path.with_name(f".writer.lock.{fingerprint(holder)[:16]}.claim")
        with contextlib.suppress(BankLockedError):
            _take(claim, mine)
            try:
                if path.exists() and _read(path) == holder:
                    with _aside(path, mine) as aside:
                        os.replace(aside, path)
                    return
            finally:
                claim.unlink(missing_ok=True)
        time.sleep(_AGAIN_SECONDS)
    raise BankLockedError(_held(path, _read(path)))


def _placed(path: Path, mine: Holder) -> bool:
    """Whether the place was free. A linked file is never seen without its contents; on a file system without
    links the lock may be, and is respected, before it says whose it is.
    """
    try:
        with _aside(path, mine) as aside:
            os.link(aside, path)
        return True
    except (FileExistsError, FileNotFoundError):
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    with contextlib.suppress(FileExistsError), open(path, "x", encoding="utf-8") as file:
        json.dump(mine, file)
        return True
    return False


@contextmanager
def _aside(path: Path, mine: Holder) -> Iterator[Path]:
    """A temporary file next to the lock, with those contents."""
    aside = path.with_name(f".writer.lock.{secrets.token_hex(6)}.part")
    try:
        aside.write_text(json.dumps(mine), encoding="utf-8")
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def _stale(path: Path, holder: Holder) -> bool:
    pid = holder.get("pid")
    if holder.get("host") != socket.gethostname():
        return _idle_seconds(path) > _LEASE_SECONDS
    if pid == os.getpid():
        return holder.get("token") not in _tokens
    return not (isinstance(pid, int) and holder.get("started") == _started(pid) is not None)


def _idle_seconds(path: Path) -> float:
    """By the clock of the file system, which need not agree with this host's."""
    try:
        with _aside(path, {}) as now:
            return now.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _beat(path: Path, mine: Holder, ended: threading.Event) -> None:
    while not ended.wait(_BEAT_SECONDS):
        with contextlib.suppress(OSError):
            if _read(path) == mine:
                os.utime(path)


def _read(path: Path) -> Holder:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _started(pid: int) -> str | None:
    """When process `pid` began; "" if the system does not say; None if there is no such process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return None if fields[0] in "ZX" else fields[19]


def _held(path: Path, holder: Holder) -> str:
    since = "now"
    with contextlib.suppress(OSError):
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
    return (
        f"{path.parent} is being written by process {holder.get('pid', '?')} on {holder.get('host', '?')} "
        f"(last sign of life {since}). Wait for it, or write to another folder. The lock of a lost host "
        f"is taken over after {_LEASE_SECONDS:g} seconds."
    )
