"""The page of a `Check`: the verdict, what each judge found, the numbers of each quantity, and the figures
behind them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from markupsafe import Markup

from sbi_flows.diagnostics.tests import FALSE_ALARM
from sbi_flows.files import write_bytes
from sbi_flows.report.check_figures import coverage_figure, ecdf_figure, recovery_figure, statistics_figure
from sbi_flows.report.figures import observed_figure
from sbi_flows.report.page import VERDICT_WORDS, environment, format_number

if TYPE_CHECKING:
    from sbi_flows.calibration.check import Check

_NUMBERS = ("shift_sd", "dispersion", "coverage_50", "coverage_90", "contraction", "z_sd", "correlation")
_SMALLEST = 1e-12


def write_check(check: Check, path: str | os.PathLike[str]) -> None:
    """Write the page. Raises `StorageError`."""
    facts = check.posterior.facts
    judges = [
        [
            found.test,
            found.quantity,
            _number(found.statistic),
            _number(found.limit),
            found.null,
            found.sentence,
            found.level,
        ]
        for found in check.outcomes
    ]
    quantities = [
        [str(row["quantity"]), *(_number(row[key]) for key in _NUMBERS)]
        for row in check.quantities.to_dict("records")
    ]
    style, sign, word = VERDICT_WORDS[check.level]
    html = (
        environment()
        .get_template("check.html.j2")
        .render(
            heading=f"Calibration check: {facts['simulator']}",
            lead=f"{check.n:,} data sets were simulated from the prior and the posterior of each was asked "
            f"where the truth lies. "
            f"{_more(check)}Knowing the data gained {check.gain:.2f} ± {check.gain_error:.2f} nats of log "
            f"density at the truth "
            "over the prior.",
            style=style,
            sign=sign,
            word=word,
            text=check.text,
            judges=judges,
            quantities=quantities,
            once=f"{round(1 / FALSE_ALARM):,}",
            ecdf=Markup(ecdf_figure(check.tests)),
            coverage=Markup(coverage_figure(check.tests)),
            recovery=Markup(recovery_figure(check.recovery)),
            predicted=None if check.predicted is None else Markup(_predicted(check)),
            statistics=None
            if check.predictive_check is None
            else Markup(statistics_figure(check.predictive_check)),
            predictive_p=None if check.predictive_check is None else _number(check.predictive_check.p),
            facts={
                "posterior": str(check.posterior),
                "seed of the fit": str(facts["seed"]),
                "seed of this check": str(check.seed),
                "versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
            },
        )
    )
    write_bytes(path, html.encode())


def _predicted(check: Check) -> str:
    if check.y_obs is None or check.predicted is None:
        return ""
    return observed_figure(check.y_obs, {"posterior predictive": check.predicted})


def _more(check: Check) -> str:
    failed = f"{check.failed:,} more simulations failed and are not judged. " if check.failed else ""
    if check.y_obs is None:
        return failed
    values = check.y_obs.reshape(-1)
    shown = ", ".join(f"{value:.4g}" for value in values[:12]) + (
        f", ... ({values.size} values)" if values.size > 12 else ""
    )
    return f"{failed}It was also judged at the observation {shown}. "


def _number(value: object) -> str:
    if isinstance(value, float) and 0 <= value < _SMALLEST:
        return "0" if value == 0 else f"< {_SMALLEST:g}"
    if isinstance(value, float) and 0 < abs(value) < 1e-3:
        return f"{value:.1e}"
    return format_number(value, 3 if isinstance(value, float) and abs(value) < 100 else 1)
