"""A program as the simulator: what it is asked, what it may answer, and what happens if it does neither."""

from __future__ import annotations

import gc
import math
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loky import get_reusable_executor
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.errors import CommandError, SimulatorContractError

F = np.ndarray
Make = Callable[..., sf.Simulator]
PRIOR = sf.Prior(a=uniform(0, 1), b=uniform(1, 1))
NORMALS = "print(json.dumps({'y': [rng.gauss(theta['a'], theta['b']) for _ in range(3)]}), flush=True)"
PID = "print(json.dumps({'y': os.getpid()}), flush=True)"
LOOP = """
import json, os, random, signal, sys, time
for line in sys.stdin:
    request = json.loads(line)
    theta, rng = request["theta"], random.Random(request["seed"])
"""
PYTHON = (sys.executable, "-S")


def draw(model: sf.Simulator, a: float = 0.5, b: float = 1.25, seed: int = 0) -> Any:
    return model({"b": b, "a": a}, np.random.default_rng(seed))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A simulator from the body of a Python program's loop over its requests."""

    def make(body: str, prior: sf.Prior = PRIOR, **options: Any) -> sf.Simulator:
        path = tmp_path / "model.py"
        path.write_text(LOOP + "\n".join(f"    {line}" for line in body.strip().splitlines()) + "\n")
        return sf.command_simulator([*PYTHON, path], prior, **options)

    return make


@pytest.mark.parametrize(
    ("vectorized", "wanted"),
    [
        (False, '{"seed": %d, "theta": {"a": 0.1, "w": [0.25, 0.75], "é": 1e-05}}\n'),
        (
            True,
            '{"seed": %d, "n": 2, "theta": {"a": [0.1, 3.0], "w": [[0.25, 0.75], [1.0, 0.0]], "é": [1e-05, '
            "1e+22]}}\n",
        ),
    ],
)
def test_the_text_of_a_request_is_as_the_contract_says(
    vectorized: bool, wanted: str, make: Make, tmp_path: Path
) -> None:
    prior = sf.Prior(a=norm(), w=torch.distributions.Dirichlet(torch.ones(2)), é=norm())
    model = make(
        "open('seen', 'wb').write(line.encode()); " + PID, prior, vectorized=vectorized, cwd=tmp_path
    )
    theta = {"é": [1e-5, 1e22], "w": [[0.25, 0.75], [1, 0]], "a": [0.1, 3]}
    model(
        theta if vectorized else {name: value[0] for name, value in theta.items()}, np.random.default_rng(7)
    )
    assert (tmp_path / "seen").read_text() == wanted % np.random.default_rng(7).integers(2**31)


nan, inf = math.nan, math.inf


@pytest.mark.parametrize(
    ("answer", "y"),
    [
        ("3.1", 3.1),
        ("[1, 2]", [1, 2]),
        ("[[1, 2.5], [true, -4e-3]]", [[1, 2.5], [1, -0.004]]),
        ("null", nan),
        ("[1, null]", [1, nan]),
        ("[NaN, Infinity, -Infinity]", [nan, inf, -inf]),
        (
            "[nan, -nan, inf, -inf, NA, Inf, -Inf, +Infinity, 1e3]",
            [nan, nan, inf, -inf, nan, inf, -inf, inf, 1000],
        ),
        ("[123456789012345678901234567890]", [1.2345678901234568e29]),
    ],
)
def test_numbers_and_nested_lists_of_them_are_answers(answer: str, y: Any, make: Make) -> None:
    np.testing.assert_array_equal(
        draw(make(f"""print('{{"y": {answer}}}', flush=True)""")), np.array(y, dtype=np.float64)
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ('{"y": "3"}', r'"3"'),
        ('{"y": [1, "NA"]}', r'\[1, "NA"\]'),
        ('{"y": [[1, 2], [3]]}', r"\[\[1, 2\], \[3\]\]"),
        ('{"y": {}}', "{}"),
        ('{"y": {"mean": "3"}}', r"y\['mean'\] = '\"3\"'"),
        ('{"y": {"mean": {"of": 3}}}', "of"),
        ('{"y": [1%s]}' % ("0" * 400), "0{50}"),
        ('{"x": 3}', '"y": numbers'),
        ("3", "'3'"),
        ("[1, 2]", r"\[1, 2\]"),
        ("null", "null"),
    ],
)
def test_other_json_breaks_the_contract_and_says_what_came(answer: str, words: str, make: Make) -> None:
    model = make(f"print({answer!r}, flush=True)")
    with pytest.raises(SimulatorContractError, match=words):
        draw(model)
    with pytest.raises(SimulatorContractError):
        sf.simulate(model, 20, seed=1)


def test_an_error_object_is_a_simulation_that_raised_and_the_program_stays(make: Make) -> None:
    model = make(
        "if theta['a'] < 0.3: print(json.dumps({'error': 'a is too small: é'}), flush=True); "
        f"continue\n{PID}"
    )
    before = draw(model)
    with pytest.raises(CommandError, match="a is too small: é"):
        draw(model, a=0.2)
    assert draw(model) == before


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("print('first\\nsecond', file=sys.stderr); sys.exit(3)", "code 3(.|\n)*first\n *second"),
        ("raise FloatingPointError('a is too small')", "code 1(.|\n)*FloatingPointError: a is too small"),
        ("sys.exit()", "code 0"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os.close(1); time.sleep(60)", "closed its stdout"),
        ("os.write(1, b'{\"y\": 1'); os._exit(4)", "code 4.*'{\"y\": 1'"),
        ("os.write(2, b'noise ' * 2_000_000 + b'\\nthe cause\\n'); os._exit(5)", "code 5(.|\n)*the cause"),
        ("print('iteration 1', flush=True)", "'iteration 1'.*JSON.*stderr"),
        ("print(flush=True)", "''.*JSON"),
        ("print('x' * 10_000, flush=True)", "'x{200}' and 9,800 "),
        ("print('[' * 10_000, flush=True)", "JSON"),
        ("os.write(1, b'\\xff\\xfe\\n')", "JSON"),
    ],
)
def test_a_program_that_does_not_answer_says_why_and_the_next_call_has_a_fresh_one(
    trouble: str, words: str, make: Make
) -> None:
    model = make(f"if theta['a'] < 0.3: {trouble}; continue\n{PID}")
    for first in (True, False):
        before = None if first else draw(model)
        with pytest.raises(CommandError, match=words) as caught:
            draw(model, a=0.2)
        assert "echo" in str(caught.value)
        assert len(str(caught.value)) < 3000
        assert draw(model) != before


def test_the_line_that_shows_a_failure_alone_shows_it(make: Make) -> None:
    with pytest.raises(CommandError) as caught:
        draw(make("sys.exit(f'seed {request[\"seed\"]}')"))
    done = subprocess.run(str(caught.value).split("`")[1], shell=True, capture_output=True, text=True)
    assert done.stderr == f"seed {np.random.default_rng(0).integers(2**31)}\n"


def test_a_second_line_for_one_request_breaks_the_contract(make: Make) -> None:
    model = make('print(\'{"y": 1}\\n{"y": 2}\', flush=True)')
    assert draw(model) == 1
    with pytest.raises(SimulatorContractError, match="one line"):
        draw(model)
    assert draw(model) == 1


def test_a_program_that_ends_after_each_answer_is_started_for_each(make: Make) -> None:
    model = make(f"{PID}\nbreak")
    assert len({float(draw(model)) for _ in range(3)}) == 3


@pytest.mark.filterwarnings("ignore:.*simulations failed:sbi_flows.errors.SimulationWarning")
def test_rows_on_which_the_program_dies_are_recorded_and_the_others_are_what_they_are_alone(
    make: Make,
) -> None:
    model = make(f"if theta['a'] < 0.2: sys.exit('a is small')\n{NORMALS}", event_shape=3)
    sims = sf.simulate(model, 60, seed=3)
    np.testing.assert_array_equal(sims.status == "raised", sims.theta[:, 0] < 0.2)
    assert 0 < (sims.status == "raised").sum() < 30
    assert "CommandError: model: the program exited with code 1" in sims.records[0].cause
    assert "a is small" in sims.records[0].traceback
    assert np.isfinite(sims.y[sims.status == "ok"]).all()


@pytest.mark.parametrize("vectorized", [False, True])
def test_the_same_seed_gives_the_same_bytes_here_in_threads_and_in_other_processes(
    vectorized: bool, make: Make
) -> None:
    many = "print(json.dumps({'y': [[rng.gauss(a, b)] for a, b in zip(theta['a'], theta['b'])]}), flush=True)"
    model, n = make(many if vectorized else NORMALS, vectorized=vectorized), 3000 if vectorized else 200
    here = sf.simulate(model, n, seed=5).y.tobytes()
    assert sf.simulate(model, n, seed=5).y.tobytes() == here
    assert sf.simulate(pickle.loads(pickle.dumps(model)), n, seed=5).y.tobytes() == here
    with ThreadPoolExecutor(3) as executor:
        assert sf.simulate(model, n, seed=5, executor=executor).y.tobytes() == here
    assert sf.simulate(model, n, seed=5, executor=get_reusable_executor(max_workers=2)).y.tobytes() == here
    assert sf.simulate(model, n, seed=6).y.tobytes() != here


def test_each_thread_and_each_worker_process_starts_one_program(make: Make) -> None:
    model = make(PID)
    assert len(np.unique(sf.simulate(model, 100, seed=1).y)) == 1
    with ThreadPoolExecutor(3) as executor:
        assert len(np.unique(sf.simulate(model, 200, seed=1, executor=executor).y)) <= 3
    workers = sf.simulate(model, 200, seed=1, executor=get_reusable_executor(max_workers=2)).y
    assert len(np.unique(workers)) <= 2
    assert draw(model) not in workers


def test_a_program_that_was_edited_runs_in_a_new_simulator(make: Make) -> None:
    executor = get_reusable_executor(max_workers=1)
    for number in (1, 2):
        model = make(f"print('{{\"y\": {number}}}', flush=True)")
        assert draw(model) == number
        assert (sf.simulate(model, 20, executor=executor).y == number).all()


def test_the_program_runs_in_the_folder_where_the_simulator_was_made(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("print(json.dumps({'y': len(open('data.txt').read())}), flush=True)")
    (tmp_path / "data.txt").write_text("12345")
    monkeypatch.chdir(tmp_path)
    model = sf.command_simulator([*PYTHON, "model.py"], PRIOR)
    monkeypatch.chdir("/")
    assert draw(model) == 5
    assert draw(sf.command_simulator([*PYTHON, "model.py"], PRIOR, cwd=tmp_path)) == 5


def test_a_program_that_is_gone_or_cannot_be_executed_is_named(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\0\1\2")
    program.chmod(0o755)
    model = sf.command_simulator([program], PRIOR)
    with pytest.raises(CommandError, match="Exec format error"):
        draw(model)
    program.unlink()
    with pytest.raises(CommandError, match="No such file"):
        draw(model)


def test_an_interrupted_call_leaves_no_program_that_is_out_of_step(make: Make) -> None:
    model = make(f"if theta['a'] < 0.3: time.sleep(60)\n{PID}")
    before = draw(model)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            draw(model, a=0.2)
    finally:
        signal.signal(signal.SIGALRM, old)
    assert gone(before)
    assert draw(model) != before


def test_the_programs_of_a_simulator_end_with_it_and_that_of_a_thread_with_the_thread(make: Make) -> None:
    model = make(PID)
    with ThreadPoolExecutor(1) as executor:
        there = executor.submit(draw, model).result()
    here = draw(model)
    assert gone(there)
    assert not gone(here)
    del model
    gc.collect()
    assert gone(here)


def test_unpickling_often_starts_one_program_and_only_the_last_commands_are_kept(make: Make) -> None:
    copies = [pickle.dumps(make(PID)) for _ in range(5)]
    first = {float(draw(pickle.loads(copies[0]))) for _ in range(3)}
    assert len(first) == 1
    for copy in copies[1:]:
        draw(pickle.loads(copy))
    gc.collect()
    assert gone(first.pop())


def test_a_fork_starts_a_program_of_its_own(make: Make, tmp_path: Path) -> None:
    make(PID)
    code = f"""
import os, sys, numpy as np, sbi_flows as sf
from scipy.stats import uniform
model = sf.command_simulator({[*PYTHON, "model.py"]}, sf.Prior(a=uniform()), cwd={str(tmp_path)!r})
def pid(): return float(model({{"a": 0.5}}, np.random.default_rng(0)))
first = pid()
child = os.fork()
if not child: os._exit(pid() == first)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), pid() == first)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["0", "True"], done.stderr


def gone(pid: float) -> bool:
    """Whether this process has ended its child `pid` and taken note of it."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    return False
