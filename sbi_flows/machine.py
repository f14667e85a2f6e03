"""What this process may use of the machine, within the limits of its control group: cores, torch threads,
memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_ASSUMED = 4_000_000_000
_LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def usable_cores() -> int:
    """The cores that this process may use, by its affinity, the quota of its control group, and the
    environment variable LOKY_MAX_CPU_COUNT.
    """
    from loky import cpu_count

    return int(cpu_count())


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads per operation inside the block; the previous number is restored after."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Torch as it is when it starts: float32 unless said otherwise, gradients, and the CPU. What the caller
    had set is restored after.
    """
    import torch

    before = torch.get_default_dtype()
    with ExitStack() as stack:
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def free_memory() -> int:
    """Bytes available without swapping; if the system does not say, half of its memory; if unknown, 4 GB."""
    return min([_available(), *_left_in_groups()])


def _available() -> int:
    known = _table(_PROC / "meminfo")
    if "MemAvailable:" in known:
        return 1024 * known["MemAvailable:"]
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return _ASSUMED


def _left_in_groups() -> Iterator[int]:
    """Limit minus use in each control group of this process, version 2 or 1. Cached pages of files do not
    count as used, because they can be reclaimed.
    """
    for line in _text(_PROC / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = _CGROUPS / "memory" if controllers else _CGROUPS
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            yield from _left_in(folder)
            if folder == root:
                break


def _left_in(folder: Path) -> Iterator[int]:
    for limit, use, files in _LIMITS:
        if (most := _text(folder / limit).strip()).isdigit():
            cached = _table(folder / "memory.stat").get(files, 0)
            yield max(int(most) - int(_text(folder / use) or 0) + cached, 0)


def _table(path: Path) -> dict[str, int]:
    rows = [line.split() for line in _text(path).splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
