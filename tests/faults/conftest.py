"""What the fault tests share: banks as bytes, process groups that can be killed, and how many faults to
try.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import sbi_flows as sf
from tests.faults.driver import ROWS
from tests.faults.models import LOG, SECONDS, logged

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("SBI_FLOWS_KILLS", "19"))
REPEATS = max(1, KILLS // 20)
MUTATIONS = int(os.environ.get("SBI_FLOWS_MUTATIONS", "400"))
needs_dask = pytest.mark.skipif(
    find_spec("distributed") is None, reason="distributed, of the extra dask, is not installed"
)
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="finds orphans in /proc, which this system lacks"
)


def files(bank: Path) -> dict[str, bytes]:
    """Every file of a bank."""
    return {
        str(path.relative_to(bank)): path.read_bytes() for path in sorted(bank.rglob("*")) if path.is_file()
    }


def rows(sims: sf.Simulations, first: int | None = None) -> tuple[bytes, ...]:
    """The rows as bytes."""
    return tuple(getattr(sims, name)[:first].tobytes() for name in ("theta", "y", "codes"))


class Group:
    """A program in a process group of its own; whatever it starts, in whatever group, is known by a word in
    its environment.
    """

    def __init__(self, *command: str, **environment: str) -> None:
        self.word = f"sbi_flows_faults_{uuid.uuid4().hex}"
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "OMP_NUM_THREADS": "1",
                "SBI_FLOWS_FAULTS_WORD": self.word,
                **environment,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def close(self) -> None:
        """Kill what is left of it."""
        for pid in self.left(0):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()

    def send(self, number: int) -> None:
        """Signal the whole group."""
        os.killpg(self.process.pid, number)

    def end(self) -> str:
        """Wait for the program's own end; what it said."""
        said = self.process.communicate(timeout=300)[1]
        assert not self.left(), f"{self.left()} outlived the program"
        return said

    def left(self, patience: float = 20.0) -> list[int]:
        """The processes, with this word, that are still there after `patience` seconds."""
        until = time.monotonic() + patience
        while (alive := self._alive()) and time.monotonic() < until:
            time.sleep(0.02)
        return alive

    def _alive(self) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                dead = (entry / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
                if not dead and self.word.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Group]]:
    """Start the driver; whatever is left in the end is killed."""
    groups: list[Group] = []

    def begin(road: str, store: Path, blocks: int) -> Group:
        environment = {
            LOG: str(tmp_path / "log"),
            SECONDS: "0.08" if road == "dask" else "0.02",
            "DASK_TEMPORARY_DIRECTORY": str(tmp_path),
        }
        groups.append(Group("-m", "tests.faults.driver", road, str(store), str(blocks), **environment))
        return groups[-1]

    yield begin
    for group in groups:
        group.close()


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The bank of an uninterrupted run in one process, for a number of blocks."""
    folder = tmp_path_factory.mktemp("reference")

    def bank(blocks: int) -> Path:
        store = folder / f"{blocks}.bank"
        if not store.exists():
            os.environ[LOG] = str(folder / "log")
            settings = sf.SimulateSettings(block_size=ROWS, warn_failures=1)
            sf.simulate(logged, ROWS * blocks, seed=5, store=store, workers=1, settings=settings)
            del os.environ[LOG]
        return store

    return bank


@pytest.fixture(scope="session")
def dask_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a Dask scheduler with two workers listens."""
    scratch = str(tmp_path_factory.mktemp("dask"))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "DASK_TEMPORARY_DIRECTORY": scratch,
    }
    said = Path(scratch) / "address"
    command = [sys.executable, "-m", "tests.faults.cluster", str(said)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        while not (said.exists() and said.read_text()):
            assert process.poll() is None
            time.sleep(0.02)
        yield said.read_text()
        process.communicate(timeout=60)
