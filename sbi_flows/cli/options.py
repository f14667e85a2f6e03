"""Options and arguments that verbs share, and groups of options that a verb takes as one record."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sbi_flows.cli.observed_files import named_file

Verb = Callable[..., Any]
Option = Callable[[Verb], Verb]

PATH, FILE = click.Path(path_type=Path), click.Path(path_type=Path, dir_okay=False)

simulator = click.argument("simulator")
optional_simulator = click.argument("simulator", required=False)
posterior = click.argument("posterior", type=FILE)
observed = click.argument("observed", nargs=-1, required=True, type=named_file, metavar="OBSERVED")
reading = (
    click.option(
        "--decimal",
        type=click.Choice([".", ","]),
        default=".",
        show_default=True,
        help="Decimal mark of the numbers in a .csv file.",
    ),
    click.option(
        "--index",
        multiple=True,
        metavar="NAME",
        help="Column of a .csv file to leave out, by name or number from 1; may be repeated. none: keep a "
        "column that looks like an index.",
    ),
)
pairs = (
    click.option(
        "--theta", type=FILE, help="Parameters of pairs made elsewhere, one row per simulation, .csv or .npy."
    ),
    click.option("--data", type=FILE, help="The data of these pairs, one row per simulation, .csv or .npy."),
)
patterns = (
    click.option(
        "--gaps",
        nargs=2,
        type=click.FloatRange(0, 1, max_open=True),
        metavar="LEAST MOST",
        help="Train for data of which a share from LEAST to MOST is missing at random, such as 0 0.3.",
    ),
    click.option(
        "--lengths",
        nargs=2,
        type=click.IntRange(1),
        metavar="LEAST MOST",
        help="Train for series of LEAST to MOST steps, or sets of as many members, such as 12 30.",
    ),
    click.option(
        "--like",
        type=named_file,
        multiple=True,
        metavar="[NAME=]FILE",
        help="Train for the gaps and the length of the observed data in FILE (.csv or .npy); may be "
        "repeated, for several observations or for the arrays of one.",
    ),
)
reference = click.option(
    "--simulator",
    "reference",
    help="The simulator, where it is not an installed plug-in: module:attribute or file.py:attribute.",
)


def integer(name: str, least: int, help: str, default: int | None = None, **more: Any) -> Option:
    """An option that is an integer of at least `least`."""
    return _shown(name, click.IntRange(least), help, default, **more)


def positive(name: str, help: str, default: float | None = None) -> Option:
    """An option that is a positive number."""
    return _shown(name, click.FloatRange(0, min_open=True), help, default)


def fraction(name: str, help: str, default: float) -> Option:
    """An option that is a number from 0 to 1."""
    return _shown(name, click.FloatRange(0, 1), help, default)


def share(name: str, help: str) -> Option:
    """An option that is a number above 0 and at most 1."""
    return _shown(name, click.FloatRange(0, 1, min_open=True), help, None)


def choice(name: str, among: list[str], help: str, default: str) -> Option:
    """An option that is one of several words."""
    return _shown(name, click.Choice(among), help, default)


def _shown(name: str, kind: Any, help: str, default: Any, **more: Any) -> Option:
    """An option called as its name; the default, if there is one, is shown."""
    shown: dict[str, Any] = {} if default is None else {"default": default, "show_default": True}
    return click.option(name, name.strip("-").replace("-", "_"), type=kind, help=help, **shown, **more)


seed = integer("--seed", 0, "Seed of all random numbers.", 0)
json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")


methods = click.option(
    "--methods",
    metavar="NAMES",
    help="Methods to compare, by comma: neural, refined, rejection, linear, smc, synthetic_likelihood, "
    "exact; or all. [default: neural,rejection,linear,exact]",
)
budget = (
    integer("--n-simulations", 1, "Simulations that each method may make for an observation."),
    positive("--minutes", "Minutes that each method may take for an observation."),
)
workers = integer("--workers", 1, "Processes that simulate.")
export = click.option(
    "--export", type=PATH, help="Folder for tables as .csv and .json, and figures as .svg and .pdf."
)


def output(help: str, **more: Any) -> Option:
    """The option -o, required unless `more` says otherwise."""
    return click.option("-o", "--output", type=PATH, help=help, **{"required": "default" not in more, **more})


def bank(help: str) -> Option:
    """The option --simulations, a bank."""
    return click.option("--simulations", "bank", type=PATH, help=help)


def grouped(name: str, record: Callable[..., Any], *options: Option) -> Option:
    """Options that a verb takes as one argument called `name`: `record` called with their values."""

    def probe() -> None:
        """Collects the names of the options."""

    for option in options:
        option(probe)
    fields = [parameter.name for parameter in getattr(probe, "__click_params__", [])]

    def decorate(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def called(**given: Any) -> Any:
            values = {field: given.pop(field) for field in fields}
            return verb(**given, **{name: record(**values)})

        made: Verb = called
        for option in reversed(options):
            made = option(made)
        return made

    return decorate
