"""How the command line speaks: options that verbs share, progress bars, verdicts, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

import sbi_flows as sf
from sbi_flows.errors import StorageError

console = Console(stderr=True, highlight=False)
PATH, FILE = click.Path(path_type=Path), click.Path(path_type=Path, dir_okay=False)

seed_option = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Root seed of all randomness."
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on standard output."
)
simulator_option = click.option(
    "--simulator",
    "reference",
    help="The simulator, unless it is a plug-in of the stored name: module:attribute or file.py:attribute.",
)


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=None, text="")

        def advance(done: int, total: int, text: str) -> None:
            progress.update(task, completed=done, total=total, text=text)

        yield advance


def say(text: str) -> None:
    """A line on standard error."""
    if text:
        console.print(text, markup=False)


@contextmanager
def keeping(kept: Callable[[], str]) -> Iterator[None]:
    """On Ctrl-C, what `kept` says is kept by then, unless what was stopped has said so itself."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if not getattr(stop, "__notes__", []):
            stop.add_note(kept())
        raise


def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """In the place of `warnings.showwarning`."""
    console.print(Text.assemble((category.__name__, "yellow"), f": {message}"))


def print_verdict(verdict: sf.Verdict) -> None:
    """The verdict in its colour, on standard error."""
    colour = {"trust": "green", "caution": "yellow", "do not trust": "bold red"}[verdict.level]
    console.print(f"[{colour}]verdict: {verdict.level}[/] - ", end="")
    console.print(verdict.text, markup=False)


def verdict_json(verdict: sf.Verdict) -> dict[str, Any]:
    """The verdict as a JSON object."""
    quantile = None if np.isnan(verdict.quantile) else verdict.quantile
    return {"ok": verdict.ok, "level": verdict.level, "text": verdict.text, "quantile": quantile}


def tell(text: str) -> None:
    """A line of the result, on standard output. Raises `StorageError` where that is full."""
    try:
        click.echo(text, file=click.get_current_context().find_root().obj)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(
            f"the result could not be written to standard output ({error.strerror or error})."
        ) from error


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    tell(json.dumps(value, allow_nan=False, default=str))
