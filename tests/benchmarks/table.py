"""The benchmark's table: C2ST of finished cells and the published figures, lower is better.

A cell reaches the aim where published - ours >= 0.03 if published > 0.60, and published - ours > 0 otherwise.
"Published" is the mean of NPE in `tests/data/published_npe.csv`, of the mended task where there is one (the
simulator of gaussian_mixture was changed).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.cells import OURS, PEER, finished
from tests.benchmarks.references import TASKS

PUBLISHED = Path(__file__).parent.parent / "data" / "published_npe.csv"
BUDGETS = (1_000, 10_000, 100_000)
MARGIN, HARD, MISSED = 0.03, 0.60, "**MISSED**"

BEGIN, END = "<!-- tests.benchmarks.tasks --readme writes this table -->", "<!-- end of the table -->"

Key = tuple[str, int]


@dataclass(frozen=True)
class Published:
    """Means over ten observations. npe: the figure to compare with; maf: of NPE with a MAF; mended: whether
    npe is of the mended task.
    """

    npe: float
    maf: float
    mended: bool


def published() -> dict[Key, Published]:
    """The published figures of each (task, budget)."""
    rows: dict[Key, dict[str, float]] = {}
    with PUBLISHED.open(newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault((row["task"], int(row["budget"])), {})[row["variant"]] = float(row["mean"])
    mended = "npe_fixed_task"
    return {
        key: Published(found.get(mended, found["npe"]), found["npe_maf"], mended in found)
        for key, found in rows.items()
    }


def reaches(ours: float, npe: float) -> bool:
    """Whether `ours` is better by as much as the aim asks."""
    gain = round(npe - ours, 9)
    return gain >= MARGIN if npe > HARD else gain > 0


def records(folder: Path, *, quick: bool) -> list[dict[str, Any]]:
    """The finished cells of one kind in a folder, quick ones or full ones."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [record for record in found if finished(record) and record["quick"] == quick]


def markdown(found: Sequence[Mapping[str, Any]], *, quick: bool) -> str:
    """The table of finished cells, all quick or all full. Raises `ValueError` for a mixture."""
    if any(record["quick"] != quick for record in found):
        raise ValueError(
            "quick and full cells have different numbers of draws: they go into separate tables."
        )
    known = published()
    labels = sorted({record["method"] for record in found} - {OURS, PEER})
    columns = [
        "task",
        "budget",
        "NPE, published",
        "NPE-MAF, published",
        OURS,
        "sbi 0.27",
        "published - ours",
        "aim",
        *labels,
    ]
    rows, missed, judged = [], 0, 0
    for task in TASKS:
        for budget in BUDGETS:
            of_cell = [record for record in found if (record["task"], record["budget"]) == (task, budget)]
            if not of_cell:
                continue
            there = known[task, budget]
            ours, peer, *others = (
                [r for r in of_cell if r["method"] == method] for method in (OURS, PEER, *labels)
            )
            aim = "not run"
            if ours:
                aim = (
                    "quick: not judged" if quick else "reached" if reaches(_mean(ours), there.npe) else MISSED
                )
            judged, missed = judged + (aim in ("reached", MISSED)), missed + (aim == MISSED)
            mark = "*" if there.mended else ""
            figures = [
                f"{budget:,}",
                f"{there.npe:.3f}{mark}",
                f"{there.maf:.3f}{mark}",
                _cell(ours),
                _cell(peer),
            ]
            rows.append(
                [task, *figures, f"{there.npe - _mean(ours):+.3f}" if ours else "", aim, *map(_cell, others)]
            )
    lines = [_line(columns), _line(["---"] * len(columns)), *map(_line, rows)]
    return "\n".join([*lines, "", *_notes(found, quick, judged, missed)])


def compact(found: Sequence[Mapping[str, Any]]) -> str:
    """The README's table of full cells with default settings: ours (published; sbi where it was run), bold
    where the aim is missed.
    """
    known = published()
    rows = []
    for task in TASKS:
        cells = []
        for budget in BUDGETS:
            of = [r for r in found if (r["task"], r["budget"], r["method"]) == (task, budget, OURS)]
            peer = [r for r in found if (r["task"], r["budget"], r["method"]) == (task, budget, PEER)]
            npe = known[task, budget].npe
            mark = "**" if of and not reaches(_mean(of), npe) else ""
            others = f"{npe:.3f}; {_mean(peer):.3f}" if peer else f"{npe:.3f}"
            cells.append(f"{mark}{_mean(of):.3f}{mark} ({others})" if of else f"not run ({others})")
        rows.append([task, *cells])
    heads = ["C2ST: ours (published NPE; sbi here)", *(f"{budget:,} simulations" for budget in BUDGETS)]
    judged = sum("not run" not in cell for _, *cells in rows for cell in cells)
    missed = sum("**" in cell for _, *cells in rows for cell in cells)
    notes = (
        "Means over ten observations, 10,000 draws each; 0.5 is perfect. A third figure is that of sbi 0.27 "
        f"on the same simulations. Bold marks cells that miss the target ({MARGIN} below the published C2ST "
        f"where that exceeds {HARD:.2f}, otherwise any improvement): {missed} of {judged}."
    )
    return "\n".join([_line(heads), _line(["---"] * len(heads)), *map(_line, rows), "", notes])


def into(document: str, table: str) -> str:
    """The document with the table between its marks. Raises `ValueError` where there are none."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document holds no {BEGIN} ... {END} for the table to go between.")
    return f"{before}{begin}\n{table}\n{end}{after}"


def _notes(found: Iterable[Mapping[str, Any]], quick: bool, judged: int, missed: int) -> list[str]:
    found = list(found)
    scores = [reference for record in found for reference in record["reference"].values()]
    sizes = sorted({reference["n"] for reference in scores})
    origins = sorted({reference["origin"] for reference in scores})
    commits = sorted({record["commit"] for record in found})
    kind = (
        "Quick cells: 3 observations and fewer draws, not comparable with the published figures. "
        if quick
        else ""
    )
    return [
        f"{kind}Mean C2ST over the observations (and seeds), 0.5 best; draws of each kind: "
        f"{', '.join(f'{n:,}' for n in sizes) or 'none'}; "
        f"reference draws: {', '.join(origins) or 'none'}; commits {', '.join(commits) or 'none'}.",
        "* the mended task (2024) for NPE; the published NPE-MAF is of the task as it was.",
        f"Aim: published - ours >= {MARGIN} where published > {HARD:.2f}, > 0 elsewhere: missed in {missed} "
        f"of {judged} cells judged.",
    ]


def _mean(of: Sequence[Mapping[str, Any]]) -> float:
    return float(np.mean([np.mean(list(record["c2st"].values())) for record in of]))


def _cell(of: Sequence[Mapping[str, Any]]) -> str:
    """The mean, its standard deviation over the observations of all seeds, and how many seeds."""
    if not of:
        return ""
    spread = np.std([value for record in of for value in record["c2st"].values()])
    return f"{_mean(of):.3f} ({spread:.3f}{f'; {len(of)} seeds' if len(of) > 1 else ''})"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
