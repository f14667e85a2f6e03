"""One writer a bank: a file that says who writes, kept fresh while they do.

The lock is a file that is linked into place, which fails on every file system if it is there, rather than a
lock of the operating system, which some shared file systems do not honour.
Its holder touches it every few seconds. It is stale, and is taken over, if its process on this host has
ended, or if another host has not touched it for a minute. A taker first links a claim that bears the name of
the stale lock, which one alone can do, and then puts its own lock in the place of that one, so that the place
is never empty in between; a claim of a taker that has ended is taken over likewise. Two writers would commit
the same bytes, so a lock that were taken over wrongly could waste work but not spoil it.
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
_TAKES, _AGAIN_SECONDS = 50, 0.01
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)

_tokens: set[str] = (
    set()
)  # of the locks that this process holds or is about to: another that bears its name is a leftover


@contextmanager
def writing(bank: Path) -> Iterator[None]:
    """Hold the bank's lock inside the block. Raises `BankLockedError` if another live process holds it, and
    `StorageError`.
    """
    path = bank / "writer.lock"
    token = secrets.token_hex(8)
    mine = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "token": token,
    }
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


def _take(path: Path, mine: dict[str, Any]) -> None:
    for _ in range(_TAKES):
        if _placed(path, mine):
            return
        holder = _read(path)
        if path.exists() and not _stale(path, holder):
            raise BankLockedError(_held(path, holder))
        if _taken_over(path, holder, mine):
            return
        time.sleep(_AGAIN_SECONDS)
    raise BankLockedError(_held(path, _read(path)))


def _taken_over(path: Path, stale: dict[str, Any], mine: dict[str, Any]) -> bool:
    """Whether this process, and it alone, has put its lock in the place of that stale one."""
    claims, last = list[Path](), stale
    while True:
        claims.append(path.with_name(f".{path.name}.{fingerprint(last)[:16]}.claim"))
        if _placed(claims[-1], mine):
            break
        last = _read(claims[-1])
        if not _stale(claims[-1], last):
            return False
    try:
        still = path.exists() and _read(path) == stale
        if still:
            with _aside(path, mine) as aside:
                os.replace(aside, path)
    finally:
        claims[-1].unlink(missing_ok=True)
    return still


def _placed(path: Path, mine: dict[str, Any]) -> bool:
    """Whether the place was free. Written aside and linked there, so that a lock without its holder's name is
    never seen.
    """
    try:
        with _aside(path, mine) as aside:
            os.link(aside, path)
    except (FileExistsError, FileNotFoundError):
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _created(path, mine)
    return True


def _created(path: Path, mine: dict[str, Any]) -> bool:
    """The same on a file system that has no links, where a lock can be seen, and is respected, before it says
    whose it is.
    """
    try:
        with open(path, "x", encoding="utf-8") as file:
            json.dump(mine, file)
    except FileExistsError:
        return False
    return True


@contextmanager
def _aside(path: Path, mine: dict[str, Any]) -> Iterator[Path]:
    """A file beside the lock, with that inside, gone in the end."""
    aside = path.with_name(f".writer.lock.{secrets.token_hex(6)}.part")
    try:
        aside.write_text(json.dumps(mine), encoding="utf-8")
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def _stale(path: Path, holder: dict[str, Any]) -> bool:
    if holder.get("host") == socket.gethostname():
        pid = holder.get("pid")
        if pid == os.getpid():
            return holder.get("token") not in _tokens
        return not (isinstance(pid, int) and holder.get("started") == _started(pid) is not None)
    return _idle_seconds(path) > _LEASE_SECONDS


def _idle_seconds(path: Path) -> float:
    """By the clock of the file system, which need not agree with this host's."""
    try:
        with _aside(path, {}) as now:
            return now.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


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
    """When process `pid` began, in the system's own words; "" where that cannot be told; None if there is no
    such process.
    """
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
    try:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
    except OSError:
        since = "now"
    return (
        f"{path.parent} is being written by process {holder.get('pid', '?')} on {holder.get('host', '?')} "
        f"(last sign of life {since}). "
        f"Wait for it, or write to another folder. A lock of a host that is gone is taken over after "
        f"{_LEASE_SECONDS:g} seconds."
    )
