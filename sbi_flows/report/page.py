"""The report as one self-contained HTML page: no script, no network, fit for a screen, a phone and paper.

What the page is told (`ReportPage`) is plain text, numbers and SVG; everything but the SVG is escaped.
Posterior numbers are rounded by
the narrowest posterior of their parameter: to three significant digits of its standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, groupby
from numbers import Integral, Real

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sbi_flows.verdict import Level

Row = Mapping[str, object]

MISSING, _MINUS, _THIN = "\u2013", "\u2212", "\u202f"
CAPTIONS = {
    "observed": (
        "Data: observed and predicted.",
        "The observed data (points joined by a thin line, or one line across) and data simulated at draws "
        "from each posterior: median, 50% "
        "interval (dark) and 90% interval (light). Under a posterior that fits, about 90% of the data lie "
        "inside the 90% intervals.",
    ),
    "statistics": (
        "Statistics of the observed data among those predicted by the neural posterior.",
        "Shaded: the middle 90% of those predicted; a diamond lies further out than is drawn. At the right "
        "the two-sided posterior "
        "predictive p-value of each, the smallest first.",
    ),
    "marginals": (
        "Each parameter by each method.",
        "Dot: posterior median; thick bar: 50% interval; thin line: 90% interval. A dashed line is the true "
        "value, where it is known.",
    ),
    "pairs": (
        "Joint posterior.",
        "Diagonal: marginal densities. Below: the smallest regions that hold 50% (inner line) and 90% "
        "(outer line) of the draws. Dashed "
        "lines cross at the true value, where it is known.",
    ),
    "history": (
        "Training of the neural posterior.",
        "Mean negative log density of the true parameters, in nats (lower is better), after each epoch; the "
        "weights of the marked epoch "
        "are used. Of an ensemble: its first network.",
    ),
}
_ONE_PARAMETER = (
    "Posterior density.",
    "The draws of each method, smoothed. The dashed line is the true value, where it is known.",
)
VERDICT_WORDS = {
    "trust": ("trust", "✓", "Trust"),
    "caution": ("caution", "!", "Caution"),
    "do not trust": ("refuse", "✕", "Do not trust"),
}
_MOST_DECIMALS, _LARGE = 8, 1e6
_NO_COLOUR = "#5b6670"
_NUMBERS = ("mean", "sd", "q05", "q95", "truth")


@dataclass(frozen=True)
class ReportPage:
    """What a report says about one data set.

    lead: the answer in a paragraph. table: a row for each method and parameter with keys method, parameter,
    mean, sd, q05, q95, truth, ess, seconds, simulations (None where unknown). methods: (name, colour, what it
    is). figures: slot (a key of `CAPTIONS`) -> SVG element.
    distances: a row for each pair of methods with keys a, b, c2st, sliced_wasserstein, sentence. notes: what
    was chosen and why.
    predictions: a row for each statistic of the data with keys name, observed, low, high, p; predictive_p: of
    all together.
    facts: provenance. reproduce: the lines to type.
    """

    title: str
    subtitle: str
    lead: str
    verdict_level: Level
    verdict_text: str
    table: Sequence[Row]
    methods: Sequence[tuple[str, str, str]]
    figures: Mapping[str, str]
    notes: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    reproduce: Sequence[str] = ()
    distances: Sequence[Row] = ()
    predictions: Sequence[Row] = ()
    predictive_p: float | None = None


@dataclass(frozen=True)
class _Figure:
    number: int
    slot: str
    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class _Group:
    """The rows of one method: cells that differ by parameter, and those that do not."""

    method: str
    colour: str
    cells: list[list[str]]
    ess: str
    seconds: str
    simulations: str


def render_page(pages: Sequence[ReportPage], heading: str) -> str:
    """One HTML document with a section for each page, and a table of contents where there are several."""
    figures, tables = count(1), count(1)
    sections = [_section(page, figures, tables) for page in pages]
    return environment().get_template("report.html.j2").render(heading=heading, sections=sections)


def environment() -> Environment:
    """Where the templates are; everything that they show is escaped."""
    return Environment(
        loader=PackageLoader("sbi_flows.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def format_number(value: object, decimals: int | None = None) -> str:
    """A number for a table: 4 significant digits, or as many decimals as asked for; a dash where there is
    none.
    """
    if value is None or (isinstance(value, Real) and not math.isfinite(value)):
        return MISSING
    if isinstance(value, Integral):
        return f"{int(value):,}".replace(",", _THIN).replace("-", _MINUS)
    if not isinstance(value, Real):
        return str(value)
    number = float(value)
    if decimals is None:
        decimals = 3 - math.floor(math.log10(abs(number))) if number else 0
    if decimals > _MOST_DECIMALS or abs(number) >= _LARGE:
        mantissa, exponent = f"{number:.3e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", _MINUS)
    text = f"{number:.{max(decimals, 0)}f}"
    return text.replace("-", _MINUS) if float(text) else text.lstrip("-")


def format_seconds(value: object) -> str:
    """A duration in the unit that reads best."""
    if not isinstance(value, Real) or not math.isfinite(value):
        return MISSING
    seconds = float(value)
    for limit, size, unit in ((1.0, 1e-3, "ms"), (120.0, 1.0, "s"), (7200.0, 60.0, "min")):
        if seconds < limit:
            return f"{seconds / size:.{0 if seconds / size >= 10 else 1}f}{_THIN}{unit}"
    return f"{seconds / 3600:.1f}{_THIN}h"


def _section(page: ReportPage, figures: count[int], tables: count[int]) -> dict[str, object]:
    style, sign, word = VERDICT_WORDS[page.verdict_level]
    colours = {name: colour for name, colour, _ in page.methods}
    captions = CAPTIONS | (
        {"pairs": _ONE_PARAMETER} if len({row["parameter"] for row in page.table}) == 1 else {}
    )
    drawn = {
        slot: _Figure(next(figures), slot, *captions[slot], Markup(page.figures[slot]))
        for slot in captions
        if slot in page.figures
    }
    distances = [
        {
            "pair": [(str(row[side]), colours.get(str(row[side]))) for side in ("a", "b")],
            "c2st": format_number(row["c2st"], 3),
            "wasserstein": format_number(row["sliced_wasserstein"], 3),
            "sentence": row["sentence"],
        }
        for row in page.distances
    ]
    return {
        "page": page,
        "verdict": {"style": style, "sign": sign, "word": word},
        "figures": drawn,
        "groups": _groups(page.table, colours),
        "truth": bool(_finite([row["truth"] for row in page.table])),
        "table_number": next(tables) if page.table else None,
        "distances": distances,
        "distance_number": next(tables) if distances else None,
        "predictions": [
            [
                str(row["name"]),
                *(format_number(row[key]) for key in ("observed", "low", "high")),
                format_number(row["p"], 3),
            ]
            for row in page.predictions
        ],
        "predictive_p": format_number(page.predictive_p, 3),
        "prediction_number": next(tables) if page.predictions else None,
    }


def _groups(table: Sequence[Row], colours: Mapping[str, str]) -> list[_Group]:
    spreads: dict[object, list[float]] = {}
    for row in table:
        spreads.setdefault(row["parameter"], []).extend(sd for sd in _finite([row["sd"]]) if sd > 0)
    decimals = {
        name: 2 - math.floor(math.log10(min(found))) if found else None for name, found in spreads.items()
    }
    groups = []
    for method, found in groupby(table, key=lambda row: str(row["method"])):
        rows = list(found)
        cells = [
            [str(row["parameter"]), *(_cell(row[key], decimals[row["parameter"]]) for key in _NUMBERS)]
            for row in rows
        ]
        ess, simulations = (
            [round(number) for number in _finite([row[key] for row in rows])]
            for key in ("ess", "simulations")
        )
        seconds = format_seconds(rows[0]["seconds"])
        colour = colours.get(method, _NO_COLOUR)
        groups.append(
            _Group(
                method,
                colour,
                cells,
                format_number(min(ess, default=None)),
                seconds,
                format_number(min(simulations, default=None)),
            )
        )
    return groups


def _cell(value: object, decimals: int | None) -> str:
    return format_number(float(value) if isinstance(value, Real) else value, decimals)


def _finite(values: Sequence[object]) -> list[float]:
    return [float(value) for value in values if isinstance(value, Real) and math.isfinite(value)]
