"""The life of a program: no pipe deadlocks it, no interruption puts it out of step, and it ends with whoever
started it.
"""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sbi_flows.problem import program as module
from sbi_flows.problem.program import Program

ECHO = "for line in sys.stdin: print(line, end='', flush=True)"
FAREWELL = f"{ECHO}\nopen('farewell', 'w').close()"
STUBBORN = (
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(input(), flush=True)\nwhile True: time.sleep(1)"
)


def start(folder: Path, code: str) -> Program:
    return Program([sys.executable, "-S", "-c", f"import os, signal, sys, time\n{code}"], str(folder))


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 5_000_000])
def test_a_request_and_an_answer_of_any_length_pass(size: int, tmp_path: Path) -> None:
    program = start(tmp_path, ECHO)
    for _ in range(3):
        assert program.ask(b"x" * size + b"\n") == b"x" * size


@pytest.mark.parametrize(
    "noise",
    [
        "os.write(2, b'e' * 10_000_000); line = input(); os.write(2, b'e' * 10_000_000)",
        "line = input(); os.write(2, b'e' * 10_000_000); os.close(2)",
        "line = ''.join(sys.stdin.read(1) for _ in range(200_001))[:-1]; os.write(2, b'e' * 10_000_000)",
    ],
)
def test_ten_megabytes_on_stderr_block_neither_side(noise: str, tmp_path: Path) -> None:
    program = start(tmp_path, f"{noise}\nprint(line[::-1], flush=True)\ntime.sleep(60)")
    assert program.ask(b"ab" * 100_000 + b"\n") == b"ba" * 100_000
    program.kill()


def test_one_that_answers_before_it_has_read_the_request_is_still_heard_out(tmp_path: Path) -> None:
    program = start(
        tmp_path, "print('early', flush=True); time.sleep(0.2); input(); print('late', flush=True); input()"
    )
    assert program.ask(b"x" * 1_000_000 + b"\n") == b"early"
    assert wait_until(lambda: program.unasked() == b"late\n")


def test_one_that_ends_is_reported_with_its_cause(tmp_path: Path) -> None:
    program = start(
        tmp_path, "input(); os.write(2, b'%s' % (b'x\\n' * 5000 + b'why\\n')); os.kill(os.getpid(), 9)"
    )
    assert program.ask(b"\n") is None
    words = program.last_words()
    assert words.startswith("was ended by SIGKILL before it answered. The end of its stderr:\n")
    assert words.endswith("\n  x\n  why")
    assert len(words) < 2100


def test_one_that_has_ended_while_idle_gives_none(tmp_path: Path) -> None:
    program = start(tmp_path, "print(input(), flush=True)")
    assert program.ask(b"one\n") == b"one"
    assert program._process.wait(20) == 0
    assert program.unasked() == b""
    assert program.ask(b"two\n" * 100_000) is None


def test_it_ends_by_itself_when_it_is_collected(tmp_path: Path) -> None:
    program = start(tmp_path, FAREWELL)
    assert program.ask(b"x\n") == b"x"
    process = program._process
    del program
    gc.collect()
    assert (process.returncode, (tmp_path / "farewell").exists()) == (0, True)


def test_one_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.1)
    program = start(tmp_path, STUBBORN)
    assert program.ask(b"x\n") == b"x"
    process = program._process
    del program
    gc.collect()
    assert process.returncode == -signal.SIGKILL


def in_another_process(code: str, folder: Path, **options: Any) -> subprocess.Popen[str]:
    head = f"""
import os, sys
sys.path.insert(0, {str(Path(module.__file__).parent)!r})
from program import Program
program = Program([sys.executable, "-S", "-c", {"import sys" + chr(10) + FAREWELL!r}], {str(folder)!r})
assert program.ask(b"x\\n") == b"x"
"""
    return subprocess.Popen([sys.executable, "-c", head + code], stdout=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize(
    "way", ["pass", "raise SystemExit(3)", "raise RuntimeError", "os._exit(0)", "os.kill(os.getpid(), 9)"]
)
def test_it_ends_with_its_process_whichever_way_that_ends(way: str, tmp_path: Path) -> None:
    in_another_process(way, tmp_path, stderr=subprocess.DEVNULL).communicate(timeout=120)
    assert wait_until((tmp_path / "farewell").exists)


def test_a_fork_leaves_the_program_to_its_owner(tmp_path: Path) -> None:
    code = """
child = os.fork()
if not child:
    there = program.belongs_here
    del program
    sys.exit(7 if there else 5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), program.belongs_here, program.ask(b"y\\n") == b"y")
"""
    out, _ = in_another_process(code, tmp_path).communicate(timeout=120)
    assert out.split() == ["5", "True", "True"]


def test_a_silent_program_is_pointed_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.5)
    program = start(tmp_path, "input(); os.write(1, b'12'); time.sleep(2); print(3)")
    with pytest.warns(UserWarning, match=r"\d characters.*newline.*flush") as seen:
        assert program.ask(b"\n") == b"123"
    assert len(seen) == 1


def test_one_that_has_answered_before_may_take_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = start(tmp_path, "print(input(), flush=True); input(); time.sleep(1); print(2)")
    assert program.ask(b"1\n") == b"1"
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert program.ask(b"\n") == b"2"


def test_waiting_costs_no_time_of_the_processor(tmp_path: Path) -> None:
    program = start(tmp_path, "os.close(2); input(); time.sleep(1); print(1)")
    before = time.process_time()
    assert program.ask(b"\n") == b"1"
    assert time.process_time() - before < 0.5
