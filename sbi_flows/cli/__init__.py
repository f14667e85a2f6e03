"""The command line: one verb per step. `sbi-flows VERB --help` says what each takes.

Exit codes: 0 done; 1 failed, or `check` says do not trust; 2 something in the input is for the user to put
right.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

import click
from rich.text import Text

from sbi_flows.cli.judging import check_verb, compare_verb, learning_curve_verb, recalibrate_verb
from sbi_flows.cli.making import demo_verb, fit_verb, infer_verb, list_verb, simulate_verb
from sbi_flows.cli.terminal import console, show_warning
from sbi_flows.errors import SbiFlowsError


class _Verbs(click.Group):
    """A group that turns the package's own errors into a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        ctx.obj = sys.stdout
        try:
            with warnings.catch_warnings():
                warnings.showwarning = show_warning
                return super().invoke(ctx)
        except SbiFlowsError as error:
            if ctx.params.get("debug"):
                raise
            words = " ".join([str(error), *getattr(error, "__notes__", [])])
            console.print(Text.assemble((type(error).__name__, "bold red"), f": {words}"))
            ctx.exit(error.exit_code)
        except KeyboardInterrupt as stop:
            kept = (
                " ".join(getattr(stop, "__notes__", [])) or "Nothing was kept: the same command begins again."
            )
            console.print(f"stopped. {kept}", markup=False)
            ctx.exit(130)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="sbi_flows")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Simulation-based inference: a simulator in, a posterior and a report out."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def _only_results(verb: Any) -> Callable[..., Any]:
    """The verb, with standard output for what `terminal.tell` writes alone: what a simulator prints goes to
    standard error.
    """

    @functools.wraps(verb)
    def called(**given: Any) -> Any:
        with contextlib.redirect_stdout(sys.stderr):
            return verb(**given)

    return called


for _verb in (
    *(list_verb, simulate_verb, fit_verb, infer_verb),
    *(check_verb, recalibrate_verb, learning_curve_verb, compare_verb, demo_verb),
):
    _verb.callback = _only_results(_verb.callback)
    main.add_command(_verb)
