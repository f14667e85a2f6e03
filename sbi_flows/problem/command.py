"""A program in any language as the simulator: JSON lines on its stdin and stdout.

    one line in                                                     one line out, flushed
    {"seed": 123456, "theta": {"a": 0.5, "w": [0.25, 0.75]}}        {"y": 3.1}   {"y": [1, 2]}
                                                                    {"y": [[1, 2], [3, 4]]}
                                                                    {"y": {"a": [3, null], "b": [[1, 2]]}}
    {"seed": 123456, "n": 2, "theta": {"a": [0.5, 0.25], ...}}      {"y": [row 1, row 2]}    vectorized=True
                                                                    {"error": "why"}   the simulation failed

Requests. UTF-8; keys in this order, parameters in the order of the prior. One space after each colon and
comma, and no other space outside names. Numbers as Python's repr writes them (0.5, 1e-05); a vector block is
a list. So `sscanf` or a regular expression can read a request.
seed: an integer in [0, 2^31), drawn from the rng of the simulator; seed and theta together must determine y.
(Of n simulations about n^2 / 2^32 pairs share a seed, with different theta.)

Answers. JSON with y, a number or nested lists of numbers; or an object that names several of these, the same
names in each answer, each with the rows first where vectorized. null and NaN, Infinity, NA, nan, inf, -Inf,
as C, R, Julia and Fortran spell them, are accepted. They make the row nonfinite; with missing=True null and
NaN mean "not observed", and a list that ends early is filled up. Nothing else may go to stdout;
messages go to stderr.

Life. Each process, and each thread in it, starts its own program at its first call and keeps it, so that the
start is paid for once. A program must end when its stdin ends. If a program ends without answering, a new one
is started. If the old one had answered before, the new one gets the same request, so that a row depends on
its own seed and theta, and not on the rows before it. After a program is edited, call `command_simulator`
again to run the new one. POSIX systems only. How to write a program, with examples: examples/programs.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.errors import CommandError, SettingsError, SimulatorContractError
from sbi_flows.problem.prior import Prior, check_prior
from sbi_flows.problem.program import Program, quote
from sbi_flows.problem.simulator import Parts, Simulator, ThetaMap

_NUMBERS = {float, int, bool, type(None)}
_KEPT_COMMANDS = 4
_SHORT = 500
_SCRIPT = re.compile(r"[^-].*\.(r|py|jl|m|pl|rb|sh|lua)", re.IGNORECASE)
_SPELLINGS = re.compile(r"(?<![\w\"])([-+]?)(nan|na|infinity|inf)(?![\w\"])", re.IGNORECASE)


def command_simulator(
    command: Sequence[str | os.PathLike[str]],
    prior: Prior,
    *,
    name: str | None = None,
    vectorized: bool = False,
    event_shape: tuple[int, ...] | int | None = None,
    observed: Mapping[str, Any] | None = None,
    summaries: Callable[..., Any] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    data: Any = None,
    missing: bool = False,
) -> Simulator:
    """The `Simulator` that runs a program: sf.command_simulator(["Rscript", "model.R"], prior). This module's
    text is its contract.

    name: by default the stem of the last word that names a file ("model" above), otherwise of the program.
    cwd: the folder in which the program runs; by default the present one.
    vectorized, event_shape, observed, summaries, data, missing: as for `simulator`.

    Raises `SettingsError` where the program cannot be started. The simulator raises `CommandError` where a
    program reports an error, ends, or prints something other than JSON; and `SimulatorContractError` for JSON
    that is not a valid answer, and for answers without a request.
    """
    check_prior(prior, "sf.command_simulator(command, prior)")
    if os.name != "posix":
        raise SettingsError(f"command_simulator needs a POSIX system, not {os.name!r}. On Windows, use WSL.")
    for option, value, kinds, wanted in (
        ("name", name, str | None, "a text or None"),
        ("cwd", cwd, str | os.PathLike | None, "the path of a folder or None"),
        ("vectorized", vectorized, bool, "True or False"),
    ):
        if not isinstance(value, kinds):
            raise SettingsError(f"{option} must be {wanted}, got {value!r}.")
    folder = Path.cwd() if cwd is None else Path(cwd).absolute()
    if not folder.is_dir():
        raise SettingsError(f"cwd: there is no folder {folder}.")
    words = _words(command)
    files = [word for word in words if (folder / word).is_file()]
    called = name or Path(files[-1] if files else words[0]).stem
    located, parameters, token = _located(words, folder), tuple(prior.marginals), uuid.uuid4().hex
    settings = _Settings(located, str(folder), called, parameters, vectorized, token)
    parts = Parts(event_shape=event_shape, summaries=summaries, observed=observed, data=data, missing=missing)
    return Simulator(_Command(settings), prior, vectorized=vectorized, **parts)


@dataclass(frozen=True)
class _Settings:
    """What another process needs. The token differs between calls, as the program may."""

    command: tuple[str, ...]
    cwd: str
    name: str
    parameters: tuple[str, ...]
    vectorized: bool
    token: str


class _Command:
    """The program as a function (theta, rng) -> y, pickled as its settings."""

    def __init__(self, settings: _Settings) -> None:
        self._settings = settings
        self._thread = threading.local()
        self.__name__ = settings.name
        self.__doc__ = f"The program `{shlex.join(settings.command)}`."

    def __reduce__(self) -> Any:
        return _recall, (self._settings,)

    def __call__(self, theta: ThetaMap, rng: np.random.Generator) -> F | dict[str, F]:
        request: dict[str, Any] = {"seed": int(rng.integers(2**31))}
        values = {name: np.asarray(theta[name], dtype=np.float64) for name in self._settings.parameters}
        if self._settings.vectorized:
            request["n"] = len(next(iter(values.values())))
        request["theta"] = {name: value.tolist() for name, value in values.items()}
        try:
            answer = self._answer(json.dumps(request, ensure_ascii=False))
        except BaseException:
            self._stop()
            raise
        if "error" in answer:
            raise CommandError(f"{self.__name__}: {answer['error']}")
        y = answer["y"]
        if isinstance(y, dict) and y:
            return {name: self._as_floats(part, f"y[{name!r}]") for name, part in y.items()}
        return self._as_floats(y)

    def _answer(self, request: str) -> dict[str, Any]:
        """The program's answer. After an error here the program may be out of step."""
        line = self._exchange(request.encode() + b"\n")
        by_hand = f"echo {shlex.quote(request)} | {shlex.join(self._settings.command)}"
        alone = f"\nTo see it alone, in {self._settings.cwd}: `{by_hand}`" if len(request) < _SHORT else ""
        if line is None:
            raise CommandError(f"{self.__name__}: the program {self._thread.program.last_words()}{alone}")
        try:
            answer = _parse(line.decode())
        except (ValueError, RecursionError):
            raise CommandError(
                f"{self.__name__}: the program printed {quote(line)}, which is not JSON. On stdout it may "
                f"print its answers and nothing else; messages go to stderr.{alone}"
            ) from None
        if not isinstance(answer, dict) or not answer.keys() & {"y", "error"}:
            raise SimulatorContractError(
                f'{self.__name__}: the program printed {quote(line)}; wanted {{"y": numbers}} or {{"error": '
                f'"why"}}.{alone}'
            )
        return answer

    def _exchange(self, request: bytes) -> bytes | None:
        """The line that answers, or None. If a program ends after earlier answers, a fresh one is asked."""
        program = getattr(self._thread, "program", None)
        if program is None or not program.belongs_here:
            program = self._start()
        if program.answers and program.unasked():
            raise SimulatorContractError(
                f"{self.__name__}: the program printed {quote(program.unasked())} after its answer; wanted "
                "one line for each request. Messages go to stderr."
            )
        line = program.ask(request)
        return self._start().ask(request) if line is None and program.answers else line

    def _start(self) -> Program:
        self._stop()
        try:
            program = Program(self._settings.command, self._settings.cwd)
        except OSError as error:
            raise CommandError(
                f"{self.__name__}: `{shlex.join(self._settings.command)}` cannot be started: {error}."
            ) from error
        self._thread.program = program
        return program

    def _stop(self) -> None:
        program = self._thread.__dict__.pop("program", None)
        if program is not None and program.belongs_here:
            program.kill()

    def _as_floats(self, y: Any, what: str = "y") -> F:
        with suppress(ValueError, OverflowError):
            values = np.asarray(y)
            if values.dtype.kind in "biuf" or set(map(type, values.ravel())) <= _NUMBERS:
                return values.astype(np.float64)
        raise SimulatorContractError(
            f"{self.__name__}: the program answered {what} = {quote(json.dumps(y).encode())}; wanted a "
            "number, or nested lists of numbers of equal lengths, with null or NaN for what is missing; or "
            "an object that names several of these."
        )


@lru_cache(maxsize=_KEPT_COMMANDS)
def _recall(settings: _Settings) -> _Command:
    """Unpickle: the same function, with its running programs, for all tasks that bring it to a worker."""
    return _Command(settings)


def _parse(line: str) -> Any:
    def spelled(found: re.Match[str]) -> str:
        return "NaN" if found[2].lower().startswith("na") else f"{found[1].strip('+')}Infinity"

    try:
        return json.loads(line)
    except ValueError:
        return json.loads(_SPELLINGS.sub(spelled, line))


def _words(command: Any) -> list[str]:
    if isinstance(command, str):
        try:
            words = shlex.split(command)
        except ValueError:
            words = command.split()
        raise SettingsError(f"the command is a list of words, got one string. Write {words!r}.")
    words = list(command) if isinstance(command, Sequence) else []
    if not words or not all(isinstance(word, str | os.PathLike) and os.fspath(word) for word in words):
        raise SettingsError(f"the command is a list such as ['Rscript', 'model.R'], got {command!r}.")
    return [os.fsdecode(word) for word in words]


def _located(words: list[str], folder: Path) -> tuple[str, ...]:
    """The words, of which the program can be started and the scripts are there."""
    program = _find(words[0], folder)
    for word in words[1:]:
        if _SCRIPT.fullmatch(word) and not (folder / word).exists():
            raise SettingsError(f"there is no file {folder / word}. {_relative(folder)}")
    return program, *words[1:]


def _relative(folder: Path) -> str:
    return f"Relative paths start from cwd={str(folder)!r}."


def _find(program: str, folder: Path) -> str:
    """The program as another process finds it: by its path, from `folder`, or by its name, on the PATH."""
    path = folder / program
    if os.sep not in program:
        if shutil.which(program) is None:
            hint = f"Write './{program}'" if path.is_file() else "Install it, or give its path"
            raise SettingsError(f"the program {program!r} is not on the PATH. {hint}.")
        return program
    if not path.is_file():
        raise SettingsError(f"there is no program {path}. {_relative(folder)}")
    if not os.access(path, os.X_OK):
        raise SettingsError(
            f"{path} is not executable. Run chmod +x on it, or name its interpreter first: ['Rscript', "
            "'model.R']."
        )
    return str(path)
