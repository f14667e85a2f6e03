"""A program in any language as the simulator: JSON lines on its stdin and stdout.

    one line in                                                     one line out, flushed
    {"seed": 123456, "theta": {"a": 0.5, "w": [0.25, 0.75]}}        {"y": 3.1}   {"y": [1, 2]}   {"y": [[1,
    2], [3, 4]]} {"seed": 123456, "n": 2, "theta": {"a": [0.5, 0.25], ...}}      {"y": [row 1, row 2]}
                                                                    with vectorized=True {"error": "why"}
                                                                    that simulation raised

Requests. UTF-8; keys in this order, parameters in the order of the prior; one space after each colon and
comma and no other outside names; numbers as Python's repr writes them (0.5, 1e-05); a vector block is a list.
So `sscanf` or a regular expression reads them.
seed: an integer in [0, 2^31), drawn from the rng that is handed over; with theta it must decide y. (Of n
simulations about n^2 / 2^32 pairs share a seed, with different theta.)

Answers. JSON with the number or nested lists of numbers y; null and NaN, Infinity, NA, nan, inf, -Inf, as C,
R, Julia and Fortran spell them, are taken, and make the row nonfinite. Nothing else may go to stdout:
messages go to stderr.

Life. Each process, and each thread in it, starts a program of its own at its first call and keeps it:
starting is paid once. A program must end when its stdin does. One that ends without answering is started
anew; if it had answered before, the same request is put once more, so that a row depends on its own seed and
theta, not on which rows came before. A program that is edited is run anew when `command_simulator` is called
again. POSIX systems only. How to write one, with examples: examples/programs.
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
from numpy.typing import ArrayLike, NDArray

from sbi_flows.errors import CommandError, PriorError, SettingsError, SimulatorContractError
from sbi_flows.problem.prior import Prior
from sbi_flows.problem.program import Program, quote
from sbi_flows.problem.simulator import Simulator, ThetaMap

_KEPT_COMMANDS = 4
_SHORT = 500
_WANTED = {"name": "a text or None", "cwd": "the path of a folder or None", "vectorized": "True or False"}
_SCRIPT = re.compile(r"[^-].*\.(r|py|jl|m|pl|rb|sh|lua)", re.IGNORECASE)
_SPELLINGS = re.compile(r"(?<![\w\"])([-+]?)(nan|na|infinity|inf)(?![\w\"])", re.IGNORECASE)


def command_simulator(
    command: Sequence[str | os.PathLike[str]],
    prior: Prior,
    *,
    name: str | None = None,
    vectorized: bool = False,
    event_shape: tuple[int, ...] | int | None = None,
    observed: Mapping[str, ArrayLike] | None = None,
    summaries: Callable[..., Any] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> Simulator:
    """The `Simulator` that runs a program: sf.command_simulator(["Rscript", "model.R"], prior). This module's
    text is its contract.

    name: by default the stem of the last word that names a file ("model" above), else of the program.
    cwd: the folder in which the program runs; by default the present one.
    vectorized, event_shape, observed, summaries: as for `simulator`.

    Raises `SettingsError` where the program cannot be started. The simulator raises `CommandError` where a
    program reports an error, ends, or prints what is no JSON, and `SimulatorContractError` for JSON that is
    no answer, and for answers that nobody asked for.
    """
    if not isinstance(prior, Prior):
        raise PriorError(
            f"command_simulator takes an sf.Prior after the command, got {type(prior).__name__}."
        )
    if os.name != "posix":
        raise SettingsError(
            f"command_simulator needs a POSIX system, this one is {os.name!r}. On Windows, run it in WSL."
        )
    for what, value, kinds in (
        ("name", name, str | None),
        ("cwd", cwd, str | os.PathLike | None),
        ("vectorized", vectorized, bool),
    ):
        if not isinstance(value, kinds):
            raise SettingsError(f"{what} must be {_WANTED[what]}, got {value!r}.")
    words = _words(command)
    folder = Path.cwd() if cwd is None else Path(cwd).absolute()
    if not folder.is_dir():
        raise SettingsError(f"cwd: there is no folder {folder}.")
    program = _find(words[0], folder)
    for word in words[1:]:
        if _SCRIPT.fullmatch(word) and not (folder / word).exists():
            raise SettingsError(
                f"there is no file {folder / word}. Relative paths start from cwd={str(folder)!r}."
            )
    files = [word for word in words if (folder / word).is_file()]
    called = name or Path((files or words)[-1 if files else 0]).stem
    settings = _Settings(
        (program, *words[1:]), str(folder), called, tuple(prior.marginals), vectorized, uuid.uuid4().hex
    )
    return Simulator(
        _Command(settings),
        prior,
        vectorized=vectorized,
        event_shape=event_shape,
        summaries=summaries,
        observed=observed,
    )


@dataclass(frozen=True)
class _Settings:
    """All that another process needs; the token tells two calls of `command_simulator` apart, between which a
    program may change.
    """

    command: tuple[str, ...]
    cwd: str
    name: str
    parameters: tuple[str, ...]
    vectorized: bool
    token: str


class _Command:
    """The program as a function (theta, rng) -> y, pickled as its settings. Each thread's program is started
    at its first call.
    """

    def __init__(self, settings: _Settings) -> None:
        self._settings = settings
        self._thread = threading.local()
        self.__name__ = settings.name
        self.__doc__ = f"The program `{shlex.join(settings.command)}`."

    def __reduce__(self) -> Any:
        return _recall, (self._settings,)

    def __call__(self, theta: ThetaMap, rng: np.random.Generator) -> NDArray[np.float64]:
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
        return self._as_floats(answer["y"])

    def _answer(self, request: str) -> dict[str, Any]:
        """The program's answer. Whatever is raised here may leave it out of step."""
        line = self._exchange(request.encode() + b"\n")
        by_hand = f"echo {shlex.quote(request)} | {shlex.join(self._settings.command)}"
        how_to_see = (
            f"\nTo see it alone, in {self._settings.cwd}: `{by_hand}`" if len(request) < _SHORT else ""
        )
        if line is None:
            raise CommandError(
                f"{self.__name__}: the program {self._thread.program.last_words()}{how_to_see}"
            )
        try:
            answer = _parse(line.decode())
        except (ValueError, RecursionError):
            raise CommandError(
                f"{self.__name__}: the program printed {quote(line)}, which is not JSON. On stdout it may "
                f"print its answers and "
                f"nothing else; messages go to stderr.{how_to_see}"
            ) from None
        if not isinstance(answer, dict) or not answer.keys() & {"y", "error"}:
            raise SimulatorContractError(
                f'{self.__name__}: the program printed {quote(line)}; wanted {{"y": numbers}} or {{"error": '
                f'"why"}}.{how_to_see}'
            )
        return answer

    def _exchange(self, request: bytes) -> bytes | None:
        """The line that answers, or None. A program that ends after earlier answers gives way to a fresh one,
        which is asked again.
        """
        program = getattr(self._thread, "program", None)
        if program is None or not program.belongs_here:
            program = self._start()
        if program.answers and program.unasked():
            raise SimulatorContractError(
                f"{self.__name__}: the program printed {quote(program.unasked())} after its answer; wanted "
                f"one line for each request. "
                "Messages go to stderr."
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

    def _as_floats(self, y: Any) -> NDArray[np.float64]:
        with suppress(ValueError, OverflowError):
            values = np.asarray(y)
            if values.dtype.kind in "biuf" or {type(value) for value in values.ravel()} <= {
                float,
                int,
                bool,
                type(None),
            }:
                return values.astype(np.float64)
        raise SimulatorContractError(
            f"{self.__name__}: the program answered y = {quote(json.dumps(y).encode())}; wanted a number, "
            f"or nested lists of numbers "
            "of equal lengths, with null or NaN for what is missing."
        )


@lru_cache(maxsize=_KEPT_COMMANDS)
def _recall(settings: _Settings) -> _Command:
    """Unpickle: the same function, with its running programs, for each of the tasks that bring it to a
    worker.
    """
    return _Command(settings)


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return json.loads(
            _SPELLINGS.sub(
                lambda m: "NaN" if m[2].lower().startswith("na") else f"{m[1].strip('+')}Infinity", line
            )
        )


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def _words(command: Any) -> list[str]:
    if isinstance(command, str):
        raise SettingsError(f"the command is a list of words, got one string. Write {_split(command)!r}.")
    words = list(command) if isinstance(command, Sequence) else []
    if not words or not all(isinstance(word, str | os.PathLike) and os.fspath(word) for word in words):
        raise SettingsError(
            f"the command is a list of words such as ['Rscript', 'model.R'], got {command!r}."
        )
    return [os.fsdecode(word) for word in words]


def _find(program: str, folder: Path) -> str:
    """The program as another process finds it: one named by its path, from `folder`; else by name, on the
    PATH.
    """
    path = folder / program
    if os.sep not in program:
        if shutil.which(program) is None:
            hint = f"Write './{program}'" if path.is_file() else "Install it, or give its path"
            raise SettingsError(f"the program {program!r} is not on the PATH. {hint}.")
        return program
    if not path.is_file():
        raise SettingsError(f"there is no program {path}. Relative paths start from cwd={str(folder)!r}.")
    if not os.access(path, os.X_OK):
        raise SettingsError(
            f"{path} is not executable. Run chmod +x on it, or name its interpreter first: ['Rscript', "
            f"'model.R']."
        )
    return str(path)
