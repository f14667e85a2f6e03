"""The command line: one verb per step. `sbi-flows VERB --help` lists its options.

Exit codes: 0 done; 1 failed, or `check` says do not trust; 2 the user can put it right by changing the input.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import click
from rich.text import Text

from sbi_flows.cli.check_verbs import check_verb, compare_verb, learning_curve_verb, recalibrate_verb
from sbi_flows.cli.fit_verbs import demo_verb, fit_verb, infer_verb
from sbi_flows.cli.refine_verb import refine_verb
from sbi_flows.cli.simulate_verbs import list_verb, simulate_verb
from sbi_flows.cli.terminal import NOTHING_SAVED, console, printed, show_warning
from sbi_flows.errors import SbiFlowsError


class _Verbs(click.Group):
    """A group that turns the package's own errors into a message and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
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
            saved = " ".join(getattr(stop, "__notes__", [])) or NOTHING_SAVED
            console.print(f"stopped. {saved}", markup=False)
            ctx.exit(130)


@click.group(
    "sbi-flows",
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="sbi_flows")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Simulation-based inference: a simulator in, a posterior and a report out.

    SIMULATOR is the name of a plug-in, package.module:attribute, or path/to/file.py:attribute. OBSERVED is a
    .csv or .npy file with the data of one or more observations.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


for _verb in (
    *(list_verb, simulate_verb, fit_verb, infer_verb, refine_verb),
    *(check_verb, compare_verb, recalibrate_verb, learning_curve_verb, demo_verb),
):
    _verb.callback = printed(_verb.callback)
    main.add_command(_verb)
