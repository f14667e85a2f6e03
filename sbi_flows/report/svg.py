"""The house style of figures, and how one becomes an SVG element that can stand inside a page beside
others.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

from matplotlib import style
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, GREY, RULE = "#1c2126", "#5b6670", "#c9ced3"
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
    **dict.fromkeys(
        (
            "axes.spines.top",
            "axes.spines.right",
            "legend.frameon",
            "axes.formatter.useoffset",
            "text.parse_math",
        ),
        False,
    ),
}


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches in the house style, whatever the user's settings; they are untouched
    afterwards.
    """
    with style.context(_STYLE, after_reset=True):
        yield FigureCanvasSVG(Figure((width, height), layout="constrained")).figure


def to_svg(figure: Figure, label: str) -> str:
    """The figure as one element that is the same for the same figure and shares no id, style rule or font
    with the page around it.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = re.sub(
        r"^.*?(?=<svg)|<metadata>.*?</metadata>|<style.*?</style>", "", buffer.getvalue(), flags=re.DOTALL
    )
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    mark = hashlib.sha256((label + svg).encode()).hexdigest()[:10]

    def tidy(found: re.Match[str]) -> str:
        tag = re.sub(r' id="([^"]+)"', lambda name: name[0] if name[1] in used else "", found[0])
        tag = re.sub(r"font-family: [^;\"]*;? ?| transform=\"rotate\(-0 [^\"]*\"", "", tag)
        tag = re.sub(r'(url\(#|href="#| id=")', rf"\g<1>f{mark}-", tag)
        return re.sub(r"(\d\.\d\d)\d+", r"\1", tag)

    root = f'<svg role="img" aria-label="{escape(label)}" font-family="{_FONTS}" stroke-linejoin="round"'
    return re.sub(r"<[^>]+>", tidy, svg).replace("<svg", root, 1).strip()
