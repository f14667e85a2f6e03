"""Free memory: what the kernel says, or the control group where it allows less; threads of torch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sbi_flows import machine
from sbi_flows.machine import free_memory, torch_threads


def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "cgroup")


MEMINFO = {"proc/meminfo": "MemTotal: 16000 kB\nMemAvailable:    8000 kB\nHugePages_Total: 0\n"}


def test_without_a_limit_it_is_what_the_kernel_calls_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(
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
    pretend(tmp_path, monkeypatch, MEMINFO | {"proc/self/cgroup": "0::/user/job\n"} | files)
    assert free_memory() == 1_500_000


def test_version_1_counts_where_its_folder_is_that_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = {"limit_in_bytes": "3000000", "usage_in_bytes": "1000000"}
    files = {f"cgroup/memory/memory.{name}": text for name, text in group.items()}
    groups = "5:cpu,cpuacct:/x\n4:memory:/docker/a1b2\n0::/\n"
    pretend(tmp_path, monkeypatch, MEMINFO | {"proc/self/cgroup": groups} | files)
    assert free_memory() == 2_000_000


def test_elsewhere_it_is_half_of_what_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, monkeypatch, {})
    monkeypatch.setattr(
        machine.os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__, raising=False
    )
    assert free_memory() == 2_048_000

    def unknown(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(machine.os, "sysconf", unknown, raising=False)
    assert free_memory() == 4_000_000_000


def test_the_number_of_threads_is_restored_after_an_error_too() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    with pytest.raises(RuntimeError), torch_threads(before + 1):
        torch.zeros(3).reshape(2, 2)
    assert torch.get_num_threads() == before
