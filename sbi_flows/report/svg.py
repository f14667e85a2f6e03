"""The style that all figures share, and how a figure becomes an SVG element of a page."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from html import escape

from matplotlib import style
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

INK, GREY, RULE = "#1c2126", "#5b6670", "#c9ced3"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#e69f00", "#56b4e9")
REFERENCE = "#2b2b2b"
DASHED = (0, (4, 3))
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_STYLE: dict[str, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sbi_flows",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.linewidth": 0.8,
    "figure.constrained_layout.w_pad": 0.09,
    "figure.constrained_layout.h_pad": 0.06,
    **dict.fromkeys(("text.color", "axes.labelcolor"), INK),
    **dict.fromkeys(("xtick.labelcolor", "ytick.labelcolor"), GREY),
    **dict.fromkeys(("xtick.color", "ytick.color", "axes.edgecolor"), RULE),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor"), "none"),
    **dict.fromkeys(("axes.labelsize", "legend.fontsize"), 9),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 8),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("axes.formatter.useoffset", "text.parse_math"), False),
}


def colours_of(names: Iterable[str], reference: str | None = None) -> dict[str, str]:
    """A colour for each name, safe for colour-blind readers; near-black for the reference."""
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}
    return {name: REFERENCE if name == reference else colour for name, colour in colours.items()}


def handles(colours: Mapping[str, str]) -> list[Line2D]:
    """What a legend shows for each name."""
    return [Line2D([], [], color=colour, lw=2.2, label=name) for name, colour in colours.items()]


def tick(axis: Axis, most: int, integer: bool = False) -> None:
    """At most `most` intervals between round numbers."""
    fewest = 1 if integer else 2
    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], integer=integer, min_n_ticks=fewest))


def short(name: str, most: int = 22) -> str:
    """The name, cut to `most` characters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure of this size in inches, in the shared style, whatever the user's settings, which stay."""
    with style.context(_STYLE, after_reset=True):
        yield FigureCanvasSVG(Figure((width, height), layout="constrained")).figure


class Drawing(str):
    """One `<svg>` element, which also knows the figure that it was made from."""

    figure: Figure

    def to_pdf(self) -> bytes:
        """The figure as a PDF with text that can be searched; the same bytes each time."""
        buffer = io.BytesIO()
        with style.context({**_STYLE, "pdf.fonttype": 42}, after_reset=True):
            self.figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})
        return buffer.getvalue()


def to_svg(figure: Figure, label: str) -> Drawing:
    """The figure as one `<svg>` element: always the same bytes, and no id or style shared with the page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    surplus = re.compile(r"^.*?(?=<svg)|<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)
    svg = surplus.sub("", buffer.getvalue())
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    mark = hashlib.sha256((label + svg).encode()).hexdigest()[:10]

    def tidy(found: re.Match[str]) -> str:
        tag = re.sub(r' id="([^"]+)"', lambda name: name[0] if name[1] in used else "", found[0])
        tag = re.sub(r"font-family: [^;\"]*;? ?| transform=\"rotate\(-0 [^\"]*\"", "", tag)
        tag = re.sub(r'(url\(#|href="#| id=")', rf"\g<1>f{mark}-", tag)
        return re.sub(r"(\d\.\d\d)\d+", r"\1", tag)

    root = f'<svg role="img" aria-label="{escape(label)}" font-family="{_FONTS}" stroke-linejoin="round"'
    made = Drawing(re.sub(r"<[^>]+>", tidy, svg).replace("<svg", root, 1).strip())
    made.figure = figure
    return made
