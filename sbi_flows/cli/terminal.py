"""What the command line prints: answers as text or JSON, verdicts, warnings, progress bars."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich import progress as rich
from rich.console import Console
from rich.text import Text

import sbi_flows as sf
from sbi_flows.errors import StorageError

if TYPE_CHECKING:
    import pandas

console = Console(stderr=True, highlight=False)
NOTHING_SAVED = "Nothing was saved; the same command starts over."


def resumes_from(path: Path) -> str:
    """What is kept when a verb is stopped."""
    return f"{path} is kept; the same command resumes from it."


@dataclass(frozen=True)
class Answer:
    """What a verb found.

    record: printed with --json, on standard output; it may hold tables and verdicts.
    lines: printed without, on standard output.
    verdict: printed without, after the lines, on standard error.
    failed: whether the exit code is 1.
    """

    record: Any
    lines: tuple[str, ...]
    verdict: sf.Verdict | None = None
    failed: bool = False


def printed(verb: Any) -> Callable[..., None]:
    """A verb that prints its answer. What a simulator prints meanwhile goes to standard error."""

    @functools.wraps(verb)
    def called(*, as_json: bool = False, **given: Any) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            answer = verb(**given)
        lines = [json.dumps(answer.record, allow_nan=False, default=_as_json)] if as_json else answer.lines
        try:
            for line in lines:
                click.echo(line)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            why = error.strerror or error
            raise StorageError(f"the result could not be written to standard output ({why}).") from error
        if answer.verdict is not None and not as_json:
            _print_verdict(answer.verdict)
        if answer.failed:
            sys.exit(1)

    return called


def _print_verdict(verdict: sf.Verdict) -> None:
    colour = {"trust": "green", "caution": "yellow", "do not trust": "bold red"}[verdict.level]
    console.print(f"[{colour}]verdict: {verdict.level}[/] - ", end="")
    console.print(verdict.text, markup=False)


def _as_json(value: Any) -> Any:
    """Of a table, its rows as objects; of a verdict, an object."""
    if isinstance(value, sf.Verdict):
        quantile = None if np.isnan(value.quantile) else value.quantile
        return {"ok": value.ok, "level": value.level, "text": value.text, "quantile": quantile}
    if hasattr(value, "to_json"):
        return json.loads(value.to_json(orient="records"))
    return str(value)


def table_text(table: pandas.DataFrame, digits: str, *, index: bool = False) -> str:
    """A table for a reader. digits: the format of its numbers, such as .3g."""
    return str(table.to_string(index=index, na_rep="", float_format=lambda value: f"{value:{digits}}"))


@contextlib.contextmanager
def bar(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    label_column, text = rich.TextColumn("{task.description}"), rich.TextColumn("{task.fields[text]}")
    times = (rich.TimeElapsedColumn(), rich.TimeRemainingColumn())
    columns = (label_column, rich.BarColumn(), rich.MofNCompleteColumn(), text, *times)
    quiet = not console.is_terminal
    with rich.Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task(label, total=None, text="")
        yield lambda done, total, text: progress.update(task, completed=done, total=total, text=text)


def say(text: str) -> None:
    """A line on standard error."""
    if text:
        console.print(text, markup=False)


@contextlib.contextmanager
def on_stop(saved: Callable[[], str]) -> Iterator[None]:
    """On Ctrl-C, add a note of what is saved, unless the code that was stopped has added one."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if not getattr(stop, "__notes__", []):
            stop.add_note(saved())
        raise


def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """In the place of `warnings.showwarning`."""
    console.print(Text.assemble((category.__name__, "yellow"), f": {message}"))
