"""One event y as it travels: a single array of floats, whatever it is made of.

    one array       y has its own shape
    a mapping       the arrays, each flattened, one behind the other: y has shape (total,)
    not observed    NaN, where `missing` allows it; a shorter series, or a set of fewer members, ends in NaN

So simulating, storing, scaling and comparing know arrays only. `Events` knows what they are made of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.errors import SettingsError, SimulatorContractError
from sbi_flows.problem.data import Kind, Shape, as_kind, kind_from_json

Y = NDArray[Any]


@dataclass(frozen=True)
class Table:
    """One array of an event: its name ("" of the only one), what it is, None if that is not declared, and its
    shape.
    """

    name: str
    kind: Kind | None
    shape: Shape

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def may_be_shorter(self) -> int:
        """How many of the first axes may be shorter in an observation. If nothing is declared, those of a
        series.
        """
        return int(bool(self.shape)) if self.kind is None else self.kind.may_be_shorter

    @property
    def says(self) -> str:
        """How a message calls it."""
        return f"{self.name!r}" if self.name else "the observed data"


@dataclass(frozen=True)
class Events:
    """tables: the arrays of an event. named: whether it is a mapping. missing: whether NaN means not
    observed.
    """

    tables: tuple[Table, ...]
    named: bool = False
    missing: bool = False

    @classmethod
    def plain(cls, shape: Shape, *, missing: bool = False) -> Events:
        """One array of which nothing but its shape is declared."""
        return cls((Table("", None, tuple(shape)),), missing=missing)

    @property
    def shape(self) -> Shape:
        """The shape of one event as it travels."""
        return (sum(table.size for table in self.tables),) if self.named else self.tables[0].shape

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to know besides the shape."""
        return self == Events.plain(self.shape)

    @property
    def slices(self) -> dict[str, slice]:
        """Where each array of a mapping lies."""
        ends = np.cumsum([table.size for table in self.tables]).tolist()
        return {
            table.name: slice(end - table.size, end) for table, end in zip(self.tables, ends, strict=True)
        }

    def same_arrays(self, other: Events) -> bool:
        """Whether both are of arrays of the same names and shapes."""
        mine, theirs = ({table.name: table.shape for table in one.tables} for one in (self, other))
        return self.named == other.named and list(mine.items()) == list(theirs.items())

    def with_missing(self) -> Events:
        """The same, with values that need not be observed."""
        return replace(self, missing=True)

    def unpack(self, y: Shaped[np.ndarray, "*rows total"]) -> Y | dict[str, Y]:
        """Events as the user knows them: an array, or a mapping of arrays, each with the leading axes of
        y.
        """
        if not self.named:
            return y
        rows = y.shape[:-1]
        return {
            table.name: y[..., where].reshape((*rows, *table.shape))
            for table, where in zip(self.tables, self.slices.values(), strict=True)
        }

    def describe(self) -> str:
        """What one event is, in words."""
        if not self.named:
            kind = self.tables[0].kind
            return f"shape {self.shape}{f', {kind.kind}' if kind is not None else ''}"
        each = [
            f"{table.name} {table.shape}{f', {table.kind.kind}' if table.kind else ''}"
            for table in self.tables
        ]
        return "; ".join(each)

    def to_json(self) -> dict[str, Any]:
        """The record of a file."""
        tables = [
            {
                "name": table.name,
                "shape": list(table.shape),
                "kind": table.kind.to_json() if table.kind else None,
            }
            for table in self.tables
        ]
        return {"tables": tables, "named": self.named, "missing": self.missing}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Events:
        """What `to_json` gave."""
        tables = tuple(
            Table(one["name"], kind_from_json(one["kind"]) if one["kind"] else None, tuple(one["shape"]))
            for one in record["tables"]
        )
        return cls(tables, record["named"], record["missing"])


@dataclass(frozen=True)
class Declaration:
    """What is declared of y before its shape is known.

    kinds: by name, {"": kind} for one array, {} where nothing is declared. named: whether y is declared as a
    mapping.
    """

    kinds: Mapping[str, Kind]
    named: bool
    missing: bool

    @classmethod
    def of(cls, data: Any, missing: Any) -> Declaration:
        """From `data=` and `missing=`. Raises `SettingsError`."""
        if not isinstance(missing, bool):
            raise SettingsError(f"missing must be True or False, got {missing!r}.")
        if data is None:
            return cls({}, False, missing)
        if not isinstance(data, Mapping):
            return cls({"": as_kind(data)}, False, missing)
        if not data or not all(isinstance(name, str) and name for name in data):
            raise SettingsError(
                f"data must map names to what they are, as {{'counts': sf.Series()}}, got {data!r}."
            )
        return cls({name: as_kind(kind, f"data[{name!r}]") for name, kind in data.items()}, True, missing)

    def events(self, shapes: Mapping[str, Shape], who: str) -> Events:
        """The events of arrays of these shapes, by name, "" for one array. Raises
        `SimulatorContractError`.
        """
        named = "" not in shapes
        if self.kinds and set(self.kinds) != set(shapes):
            raise SimulatorContractError(f"{who}: {_other_names(self, shapes)}")
        for name, shape in shapes.items():
            kind = self.kinds.get(name)
            if kind is not None and (wrong := kind.unlike(shape)):
                what = f"{name!r} " if name else ""
                raise SimulatorContractError(
                    f"{who}: {what}is declared as {kind}, and has shape {shape}: {wrong}. Declare "
                    "what it is, or return that."
                )
        order = list(self.kinds) or list(shapes)
        tables = tuple(Table(name, self.kinds.get(name), tuple(shapes[name])) for name in order)
        return Events(tables, named, self.missing)


def _other_names(declared: Declaration, shapes: Mapping[str, Shape]) -> str:
    found = "one array" if "" in shapes else f"a mapping of {', '.join(map(repr, shapes))}"
    wanted = f"a mapping of {', '.join(map(repr, declared.kinds))}" if declared.named else "one array"
    return f"y is {found}; data= declares {wanted}. Give what is declared, or declare what is given."


def packed(y: Mapping[str, F]) -> F:
    """Arrays (n, *shape) by name as (n, total), in the order of the mapping."""
    return np.concatenate([part.reshape(len(part), -1) for part in y.values()], axis=1)
