"""What a figure of observed and predicted data is told: one array, what it is, and its names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sbi_flows.arrays import F

BY_SIZE = "by size"
_SHORTEST_SERIES = 16


@dataclass(frozen=True, eq=False)
class DataArray:
    """One array of the data.

    observed: (*event,), NaN where nothing was observed. predicted: method -> (n, *event).
    name: "" of the only one.
    kind: "vector", "series", "grid", "set of vector", "set of series" or "set of grid"; "by size" if nothing
        is known: a series from 16 entries on, else a vector.
    places: how many of the first axes are places, steps or members.
    channels: names of the last axis, if it has any.
    missing: whether NaN in predicted data means "not observed"; else such rows have failed and are left out.
    """

    observed: F
    predicted: Mapping[str, F]
    name: str = ""
    kind: str = BY_SIZE
    places: int = 1
    channels: tuple[str, ...] | None = None
    missing: bool = False

    @property
    def shown_as(self) -> str:
        """The kind, decided by size where nothing is known."""
        if self.kind != BY_SIZE:
            return self.kind
        return "series" if self.observed.size >= _SHORTEST_SERIES else "vector"

    @property
    def usable(self) -> DataArray:
        """The same with predicted rows in float64, without those that are infinite or have failed."""
        rows = {name: self._usable(values) for name, values in self.predicted.items()}
        return replace(self, observed=np.asarray(self.observed, dtype=np.float64), predicted=rows)

    def _usable(self, values: F) -> F:
        rows = np.asarray(values, dtype=np.float64).reshape(-1, *self.observed.shape)
        axes = tuple(range(1, rows.ndim))
        if not self.missing:
            return rows[np.isfinite(rows).all(axis=axes)]
        return rows[~(np.isinf(rows).any(axis=axes) | np.isnan(rows).all(axis=axes))]

    def by_channel(self, values: F) -> F:
        """Arrays (*rows, *event) as (*rows, *places, channels)."""
        places = self.observed.shape[: self.places]
        rows = values.shape[: values.ndim - self.observed.ndim]
        channels = self.observed.size // int(np.prod(places, dtype=np.int64))
        return values.reshape(*rows, *places, channels)

    def channel(self, c: int, of: int) -> str:
        """What channel c is called; "" of the only one without a name."""
        if self.channels is not None and len(self.channels) == of:
            return self.channels[c]
        return f"channel {c + 1}" if of > 1 else ""


def caption_of(arrays: Sequence[DataArray]) -> str:
    """What a reader must know about these figures beyond the usual; "" of complete series and vectors."""
    kinds = {array.shown_as for array in arrays}
    said = []
    if "set of vector" in kinds:
        said.append(
            "The members of a set are in order of size, in each channel alone: the smallest observed one "
            "against the smallest predicted ones, and so on."
        )
    if "set of series" in kinds:
        said.append(
            "Of a set of series, thin lines are the observed members; intervals hold all predicted ones."
        )
    if kinds & {"grid", "set of grid"}:
        said.append(
            "Of a map: what was observed, and the mean of what each posterior predicts, on one scale, with "
            "the share of observed places inside their 90% interval."
        )
    in_place = [array.observed for array in arrays if array.shown_as != "set of vector"]
    if any(np.isnan(observed).any() for observed in in_place):
        said.append("What was not observed is left blank; shares count what was observed.")
    return " ".join(said)


def mean_seen(values: F, axis: int = 0) -> F:
    """The mean along an axis over what is there; NaN where nothing is."""
    there = ~np.isnan(values)
    count = there.sum(axis=axis)
    total = np.where(there, values, 0.0).sum(axis=axis)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))
