"""One writer a bank: a file that says who writes, kept fresh while they do.

The lock is a file that is linked into place, which fails on every file system if it is there, rather than a lock of the operating system,
which some shared file systems do not honour.
Its holder touches it every few seconds. It is stale, and is taken over, if its process on this host has ended, or if another host has not
touched it for a minute. Two writers would commit the same bytes, so a lock that were taken over wrongly could waste work but not spoil it.
"""

from __future__ import annotations

import contextlib
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

_BEAT_SECONDS, _LEASE_SECONDS = 10.0, 60.0


@contextmanager
def writing(bank: Path) -> Iterator[None]:
    """Hold the bank's lock inside the block. Raises `BankLockedError` if another live process holds it."""
    path = bank / "writer.lock"
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid()), "token": secrets.token_hex(8)}
    _take(path, mine)
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, mine, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        if _read(path) == mine:
            path.unlink(missing_ok=True)


def _take(path: Path, mine: dict[str, Any]) -> None:
    for _ in range(3):
        try:
            _place(path, mine)
            return
        except FileExistsError:
            holder = _read(path)
            if not _stale(path, holder):
                raise BankLockedError(_held(path, holder)) from None
            _move_away(path, holder)
        except OSError as error:
            raise StorageError(f"{path}: the lock of the bank cannot be written ({error}).") from error
    raise BankLockedError(_held(path, _read(path)))


def _place(path: Path, mine: dict[str, Any]) -> None:
    """Written aside and linked into place, so that a lock without its holder's name is never seen."""
    aside = path.with_name(f".{path.name}.{mine['token']}.part")
    try:
        aside.write_text(json.dumps(mine), encoding="utf-8")
        os.link(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _move_away(path: Path, holder: dict[str, Any]) -> None:
    """Only one of several takers can rename the stale lock; a fresh one that slipped in between is put back."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
        if _read(aside) != holder:
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink()


def _stale(path: Path, holder: dict[str, Any]) -> bool:
    if holder.get("host") == socket.gethostname():
        pid = holder.get("pid")
        return not (isinstance(pid, int) and holder.get("started") == _started(pid) is not None)
    return _idle_seconds(path) > _LEASE_SECONDS


def _idle_seconds(path: Path) -> float:
    """By the clock of the file system, which need not agree with this host's."""
    now = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        now.touch()
        return now.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
    finally:
        now.unlink(missing_ok=True)


def _beat(path: Path, mine: dict[str, Any], ended: threading.Event) -> None:
    while not ended.wait(_BEAT_SECONDS):
        with contextlib.suppress(OSError):
            if _read(path) == mine:
                os.utime(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _started(pid: int) -> str | None:
    """When process `pid` began, in the system's own words; "" where that cannot be told; None if there is no such process."""
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


def _held(path: Path, holder: dict[str, Any]) -> str:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime)) if path.exists() else "now"
    return (
        f"{path.parent} is being written by process {holder.get('pid', '?')} on {holder.get('host', '?')} (last sign of life {since}). "
        f"Wait for it, or write to another folder. A lock of a host that is gone is taken over after {_LEASE_SECONDS:g} seconds."
    )
