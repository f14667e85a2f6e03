"""Pages as self-contained HTML: no script, no network, fit for a screen, a phone and paper.

What a page is given is plain text, numbers and SVG; everything but the SVG is escaped. Posterior numbers are
rounded by the narrowest posterior of their parameter: to three significant digits of its standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, groupby
from numbers import Integral, Real

from jinja2 import Environment, PackageLoader, StrictUndefined

from sbi_flows.verdict import Verdict

Row = Mapping[str, object]

MISSING, _MINUS, _THIN = "\u2013", "\u2212", "\u202f"
CAPTIONS = {
    "observed": (
        "Observed and predicted data.",
        "Black: the observed data. Coloured: data simulated at draws from each posterior, with their median, "
        "50% interval (dark) and 90% interval (light). If a posterior fits, about 90% of the observed data "
        "lie in the 90% intervals.",
    ),
    "statistics": (
        "Statistics of the observed data, compared with data predicted by the {subject}.",
        "Shaded: the middle 90% of the predicted values. A diamond marks a value off the scale. Right: the "
        "two-sided posterior predictive p-value of each statistic, smallest first.",
    ),
    "marginals": (
        "Each parameter by each method.",
        "Dot: posterior median; thick bar: 50% interval; thin line: 90% interval. A dashed line is the true "
        "value, where it is known.",
    ),
    "pairs": (
        "Joint posterior.",
        "Diagonal: marginal densities. Below: the smallest regions that hold 50% (inner line) and 90% (outer "
        "line) of the draws. Dashed lines cross at the true value, where it is known.",
    ),
    "history": (
        "Training of the {subject}.",
        "Mean negative log density of the true parameters after each epoch, in nats (lower is better). The "
        "weights of the marked epoch are used. For an ensemble, the first network is shown.",
    ),
}
_ONE_PARAMETER = (
    "Posterior density.",
    "The draws of each method, smoothed. The dashed line is the true value, where it is known.",
)
_STYLES = {"trust": ("trust", "✓"), "caution": ("caution", "!"), "do not trust": ("refuse", "✕")}
_MOST_DECIMALS, _LARGE, _SMALLEST = 8, 1e6, 1e-12
_NO_COLOUR = "#5b6670"
_NUMBERS = ("mean", "sd", "q05", "q95", "truth")


@dataclass(frozen=True)
class ReportPage:
    """What a report says about one data set.

    lead: the answer in a paragraph.
    subject: what the verdict, the predictions and the training are about, such as "neural posterior".
    table: a row per method and parameter with keys method, parameter, mean, sd, q05, q95, truth, ess,
        seconds, simulations (None where unknown).
    methods: (name, colour, what it is).
    figures: slot (a key of `CAPTIONS`) -> SVG element.
    notes: what was chosen and why.
    facts: provenance.
    reproduce: the lines to type.
    distances: a row per pair of methods with keys a, b, c2st, sliced_wasserstein, sentence.
    predictions: a row per statistic of the data with keys name, observed, low, high, p.
    predictive_p: of all statistics together.
    more: slot -> what its caption says besides.
    preference: which method to believe. glance: a row per method with keys method, verdict, c2st, sentence,
        seconds, seconds_before, simulations.
    """

    title: str
    subtitle: str
    lead: str
    verdict: Verdict
    subject: str
    table: Sequence[Row]
    methods: Sequence[tuple[str, str, str]]
    figures: Mapping[str, str]
    notes: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    reproduce: Sequence[str] = ()
    distances: Sequence[Row] = ()
    predictions: Sequence[Row] = ()
    predictive_p: float | None = None
    more: Mapping[str, str] = field(default_factory=dict)
    preference: str = ""
    glance: Sequence[Row] = ()


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
    return render("report", heading=heading, sections=[_section(page, figures, tables) for page in pages])


def render(template: str, **values: object) -> str:
    """One HTML document from a template. All values are escaped but the figures."""
    found = Environment(
        loader=PackageLoader("sbi_flows.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["number"] = format_statistic
    return found.get_template(f"{template}.html.j2").render(values)


def stamp(verdict: Verdict) -> dict[str, str]:
    """A verdict as a page shows it: style, sign, level and text."""
    style, sign = _STYLES[verdict.level]
    text = verdict.text[:1].upper() + verdict.text[1:]
    return {"style": style, "sign": sign, "word": verdict.level.capitalize(), "text": text}


def format_number(value: object, decimals: int | None = None) -> str:
    """A number for a table: 4 significant digits, or this many decimals; a dash for None and NaN."""
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


def format_statistic(value: object) -> str:
    """A statistic or p-value for a table: 3 decimals, 1 for large ones, powers of ten for small ones."""
    if isinstance(value, float) and 0 <= value < _SMALLEST:
        return "0" if value == 0 else f"< {_SMALLEST:g}"
    if isinstance(value, float) and 0 < abs(value) < 1e-3:
        return f"{value:.1e}"
    return format_number(value, 3 if isinstance(value, float) and abs(value) < 100 else 1)


def format_seconds(value: object) -> str:
    """A duration in ms, s, min or h."""
    if not isinstance(value, Real) or not math.isfinite(value):
        return MISSING
    seconds = float(value)
    for limit, size, unit in ((1.0, 1e-3, "ms"), (120.0, 1.0, "s"), (7200.0, 60.0, "min")):
        if seconds < limit:
            return f"{seconds / size:.{0 if seconds / size >= 10 else 1}f}{_THIN}{unit}"
    return f"{seconds / 3600:.1f}{_THIN}h"


def _section(page: ReportPage, figures: count[int], tables: count[int]) -> dict[str, object]:
    colours = {name: colour for name, colour, _ in page.methods}
    truth = bool(_finite([row["truth"] for row in page.table]))
    return {
        "page": page,
        "verdict": stamp(page.verdict),
        "glance_number": next(tables) if page.glance else None,
        "glance": [_glance(row, colours) for row in page.glance],
        "exact": any(row["a"] != page.subject for row in page.distances),
        "figures": _numbered(page, figures),
        "groups": _groups(page.table, colours),
        "truth": truth,
        "table_number": next(tables) if page.table else None,
        "distances": [_distance(row, colours) for row in page.distances],
        "distance_number": next(tables) if page.distances else None,
        "predictions": [_prediction(row) for row in page.predictions],
        "predictive_p": format_number(page.predictive_p, 3),
        "prediction_number": next(tables) if page.predictions else None,
    }


def _numbered(page: ReportPage, figures: count[int]) -> dict[str, dict[str, object]]:
    """The figures in the order of `CAPTIONS`, each with its number, title and caption."""
    one = len({row["parameter"] for row in page.table}) == 1
    found: dict[str, dict[str, object]] = {}
    for slot, (title, caption) in (CAPTIONS | ({"pairs": _ONE_PARAMETER} if one else {})).items():
        if slot in page.figures:
            caption = " ".join(filter(None, [caption, page.more.get(slot)]))
            words = {"title": title.format(subject=page.subject), "caption": caption}
            found[slot] = {"number": next(figures), "slot": slot, "svg": page.figures[slot], **words}
    return found


def _glance(row: Row, colours: Mapping[str, str]) -> dict[str, object]:
    style, sign = _STYLES[str(row["verdict"])]
    return {
        **row,
        "colour": colours.get(str(row["method"]), _NO_COLOUR),
        "style": style,
        "sign": sign,
        "c2st": format_number(row["c2st"], 2),
        "seconds": format_seconds(row["seconds"]),
        "before": format_seconds(row["seconds_before"]) if row["seconds_before"] else MISSING,
        "simulations": _smallest([row["simulations"]]),
    }


def _distance(row: Row, colours: Mapping[str, str]) -> dict[str, object]:
    return {
        "pair": [(str(row[side]), colours.get(str(row[side]))) for side in ("a", "b")],
        "c2st": format_number(row["c2st"], 3),
        "wasserstein": format_number(row["sliced_wasserstein"], 3),
        "sentence": row["sentence"],
    }


def _prediction(row: Row) -> list[str]:
    values = (format_number(row[key]) for key in ("observed", "low", "high"))
    return [str(row["name"]), *values, format_number(row["p"], 3)]


def _groups(table: Sequence[Row], colours: Mapping[str, str]) -> list[_Group]:
    spreads: dict[object, list[float]] = {}
    for row in table:
        spreads.setdefault(row["parameter"], []).extend(sd for sd in _finite([row["sd"]]) if sd > 0)
    decimals = {name: 2 - math.floor(math.log10(min(sds))) if sds else None for name, sds in spreads.items()}
    groups = []
    for method, found in groupby(table, key=lambda row: str(row["method"])):
        rows = list(found)
        cells = [
            [str(row["parameter"]), *(_cell(row[key], decimals[row["parameter"]]) for key in _NUMBERS)]
            for row in rows
        ]
        ess, simulations = (_smallest([row[key] for row in rows]) for key in ("ess", "simulations"))
        seconds = format_seconds(rows[0]["seconds"])
        groups.append(_Group(method, colours.get(method, _NO_COLOUR), cells, ess, seconds, simulations))
    return groups


def _cell(value: object, decimals: int | None) -> str:
    return format_number(float(value) if isinstance(value, Real) else value, decimals)


def _smallest(values: Sequence[object]) -> str:
    return format_number(min((round(number) for number in _finite(values)), default=None))


def _finite(values: Sequence[object]) -> list[float]:
    return [float(value) for value in values if isinstance(value, Real) and math.isfinite(value)]
