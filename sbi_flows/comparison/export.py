"""Tables and figures as files for a paper: tidy CSV, one JSON file, SVG and PDF."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sbi_flows.errors import SettingsError
from sbi_flows.files import make_folder, write_bytes

if TYPE_CHECKING:
    import pandas

Figures = Sequence[str]
_FORMATS = ("svg", "pdf")


def export(
    folder: str | os.PathLike[str],
    name: str,
    tables: Mapping[str, pandas.DataFrame],
    facts: Mapping[str, Any],
    figures: Mapping[str, str],
    formats: Figures,
) -> list[Path]:
    """Write TABLE.csv for each table, NAME.json with all tables and facts, and FIGURE.svg and FIGURE.pdf.

    Numbers are written in full. Raises `StorageError`, `SettingsError`.
    """
    wanted = (formats,) if isinstance(formats, str) else tuple(formats)
    if unknown := [one for one in wanted if one not in _FORMATS]:
        raise SettingsError(
            f"figures are written as {', '.join(_FORMATS)}, got {', '.join(map(repr, unknown))}."
        )
    make_folder(folder)
    place = Path(folder)
    files: dict[str, bytes] = {
        f"{table}.csv": rows.to_csv(index=False, lineterminator="\n").encode()
        for table, rows in tables.items()
    }
    whole = {**facts, **{table: rows.to_dict("records") for table, rows in tables.items()}}
    files[f"{name}.json"] = (json.dumps(_plain(whole), indent=1, allow_nan=False) + "\n").encode()
    for figure, svg in figures.items():
        files |= _drawn(figure, svg, wanted)
    for file, data in files.items():
        write_bytes(place / file, data)
    return [place / file for file in files]


def _drawn(name: str, svg: str, formats: tuple[str, ...]) -> dict[str, bytes]:
    """The files of one figure."""
    from sbi_flows.report.svg import Drawing

    found = {f"{name}.svg": svg.encode()} if "svg" in formats else {}
    if "pdf" in formats and isinstance(svg, Drawing):
        found[f"{name}.pdf"] = svg.to_pdf()
    return found


def _plain(value: Any) -> Any:
    """What JSON can hold: null for a number that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
