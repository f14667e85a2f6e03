"""Free memory: what the kernel says, and the control group where it is tighter."""

from __future__ import annotations

from pathlib import Path

import pytest

from sbi_flows import machine as memory
from sbi_flows.machine import free_memory


def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")


MEMINFO = {"proc/meminfo": "MemTotal: 16000 kB\nMemAvailable:    8000 kB\nHugePages_Total: 0\n"}


def test_without_a_limit_it_is_what_the_kernel_calls_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(
        tmp_path, monkeypatch, MEMINFO | {"proc/self/cgroup": "0::/user\n", "cgroup/user/memory.max": "max\n"}
    )
    assert free_memory() == 8_192_000


@pytest.mark.parametrize("limited", ["cgroup/user/job/", "cgroup/user/", "cgroup/"])
def test_a_limit_on_any_enclosing_group_of_version_2_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limited: str
) -> None:
    group = {
        "memory.max": "5000000\n",
        "memory.current": "4000000\n",
        "memory.stat": "anon 1\ninactive_file 500000\n",
    }
    files = {f"{limited}{name}": text for name, text in group.items()}
    machine(tmp_path, monkeypatch, MEMINFO | {"proc/self/cgroup": "0::/user/job\n"} | files)
    assert free_memory() == 1_500_000


def test_version_1_counts_where_its_folder_is_that_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = {"limit_in_bytes": "3000000", "usage_in_bytes": "1000000"}
    files = {f"cgroup/memory/memory.{name}": text for name, text in group.items()}
    groups = "5:cpu,cpuacct:/x\n4:memory:/docker/a1b2\n0::/\n"
    machine(tmp_path, monkeypatch, MEMINFO | {"proc/self/cgroup": groups} | files)
    assert free_memory() == 2_000_000


def test_elsewhere_it_is_half_of_what_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(tmp_path, monkeypatch, {})
    monkeypatch.setattr(
        memory.os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__, raising=False
    )
    assert free_memory() == 2_048_000

    def unknown(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(memory.os, "sysconf", unknown, raising=False)
    assert free_memory() == 4_000_000_000
