"""What one y is: a vector, a series, a set, a grid, or several of these by name.

    Vector      m numbers, each with a meaning of its own
    Series      (T,) or (T, channels): steps in order, made by one process
    Set         (N, ...): members in no order, each a vector, a series or a grid
    Grid        (a, b), (a, b, channels), ...: one to three axes of space, channels last

The last axis may have names, which columns of data frames and headers of files are matched with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sbi_flows.errors import SettingsError

Shape = tuple[int, ...]
Names = tuple[str, ...] | None

_MOST_AXES = 3
_FEW_CHANNELS = 4


def _names(what: str, given: Any) -> Names:
    """Names as a tuple of texts that differ. Raises `SettingsError`."""
    if given is None:
        return None
    names = tuple(given) if isinstance(given, list | tuple) else (given,)
    if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise SettingsError(f"{what} must be names that differ, as ('young', 'adults'), got {given!r}.")
    return names


@dataclass(frozen=True)
class Vector:
    """m numbers in a fixed order. columns: their names, if they have any. Raises `SettingsError`."""

    columns: Names = None
    kind: ClassVar[str] = "vector"
    may_be_shorter: ClassVar[int] = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", _names("columns", self.columns))

    @property
    def names(self) -> Names:
        """The names of the last axis."""
        return self.columns

    def axes(self, shape: Shape) -> Shape:
        """The axes along which all places are alike: none."""
        return ()

    def unlike(self, shape: Shape) -> str:
        """What is wrong with an event of that shape, in words; "" if nothing is."""
        return _wrong_names(self.columns, math.prod(shape))

    def to_json(self) -> dict[str, Any]:
        """The declaration as JSON."""
        return {"kind": self.kind, "names": self.names and list(self.names)}


@dataclass(frozen=True)
class Series:
    """Steps in time, (T,) or (T, channels). channels: their names, if they have any. Raises `SettingsError`.

    An observation may be shorter than what the simulator makes, where the fit allows it.
    """

    channels: Names = None
    kind: ClassVar[str] = "series"
    may_be_shorter: ClassVar[int] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", _names("channels", self.channels))

    @property
    def names(self) -> Names:
        """The names of the last axis."""
        return self.channels

    def axes(self, shape: Shape) -> Shape:
        """The axis of time."""
        return shape[:1]

    def unlike(self, shape: Shape) -> str:
        """What is wrong with an event of that shape, in words."""
        if len(shape) not in (1, 2):
            return "a series has shape (T,) or (T, channels)"
        return _wrong_names(self.channels, shape[1] if len(shape) == 2 else 1)

    def to_json(self) -> dict[str, Any]:
        """The declaration as JSON."""
        return {"kind": self.kind, "names": self.names and list(self.names)}


@dataclass(frozen=True)
class Grid:
    """Places in space, one to three axes, channels last: (a, b), (a, b, channels).

    axes: how many of the axes are space. None: all but the last where channels have names; of three axes two,
        where the last has at most 4 entries; of four three; else all.
    channels: their names, if they have any. Raises `SettingsError`.
    """

    axes_of_space: int | None = None
    channels: Names = None
    kind: ClassVar[str] = "grid"
    may_be_shorter: ClassVar[int] = 0

    def __init__(self, axes: int | None = None, channels: Any = None) -> None:
        if axes is not None and (isinstance(axes, bool) or axes not in range(1, _MOST_AXES + 1)):
            raise SettingsError(f"axes must be 1, 2 or 3, the number of axes of space, got {axes!r}.")
        object.__setattr__(self, "axes_of_space", axes)
        object.__setattr__(self, "channels", _names("channels", channels))

    @property
    def names(self) -> Names:
        """The names of the last axis."""
        return self.channels

    def axes(self, shape: Shape) -> Shape:
        """The axes of space."""
        return shape[: self._count(shape)]

    def _count(self, shape: Shape) -> int:
        if self.axes_of_space is not None:
            return self.axes_of_space
        if self.channels is not None and len(self.channels) > 1:
            return len(shape) - 1
        with_channels = len(shape) > _MOST_AXES or (len(shape) == _MOST_AXES and shape[-1] <= _FEW_CHANNELS)
        return len(shape) - with_channels

    def unlike(self, shape: Shape) -> str:
        """What is wrong with an event of that shape, in words."""
        count = self._count(shape)
        if not 1 <= count <= _MOST_AXES or len(shape) - count not in (0, 1):
            return "a grid has one to three axes of space, and perhaps channels behind them"
        return _wrong_names(self.channels, shape[-1] if len(shape) > count else 1)

    def to_json(self) -> dict[str, Any]:
        """The declaration as JSON."""
        return {"kind": self.kind, "names": self.names and list(self.names), "axes": self.axes_of_space}


@dataclass(frozen=True)
class Set:
    """Exchangeable members along the first axis, as replicates are. of: what each of them is.

    An observation may have fewer members than what the simulator makes, where the fit allows it.
    Raises `SettingsError`.
    """

    of: Vector | Series | Grid = field(default_factory=Vector)
    kind: ClassVar[str] = "set"

    def __post_init__(self) -> None:
        if isinstance(self.of, type) and self.of in (Vector, Series, Grid):
            object.__setattr__(self, "of", self.of())
        if not isinstance(self.of, Vector | Series | Grid):
            raise SettingsError(
                f"a set is of sf.Vector(), sf.Series() or sf.Grid(), as sf.Set(of=sf.Series()), got "
                f"{self.of!r}."
            )

    @property
    def may_be_shorter(self) -> int:
        """How many of the first axes may be shorter in an observation."""
        return 1 + self.of.may_be_shorter

    @property
    def names(self) -> Names:
        """The names of the last axis."""
        return self.of.names

    def axes(self, shape: Shape) -> Shape:
        """The members, and the axes of each of them."""
        return shape[:1] + self.of.axes(shape[1:])

    def unlike(self, shape: Shape) -> str:
        """What is wrong with an event of that shape, in words."""
        if not shape:
            return "a set has its members along its first axis"
        if len(shape) == 1 and not isinstance(self.of, Vector):
            return f"a set of {self.of.kind} has at least two axes"
        return self.of.unlike(shape[1:])

    def to_json(self) -> dict[str, Any]:
        """The declaration as JSON."""
        return {"kind": self.kind, "of": self.of.to_json()}


Kind = Vector | Series | Set | Grid


def kind_from_json(record: dict[str, Any]) -> Kind:
    """What `to_json` gave. Raises `KeyError` for a kind that is not known here."""
    if record["kind"] == "set":
        of = kind_from_json(record["of"])
        return Set(of) if not isinstance(of, Set) else Set()
    if record["kind"] == "grid":
        return Grid(record["axes"], record["names"])
    if record["kind"] not in ("vector", "series"):
        raise KeyError(record["kind"])
    return Series(record["names"]) if record["kind"] == "series" else Vector(record["names"])


def as_kind(given: Any, name: str = "data") -> Kind:
    """A declaration; the class alone stands for one without names. Raises `SettingsError`."""
    if isinstance(given, type) and given in (Vector, Series, Set, Grid):
        return as_kind(given())
    if isinstance(given, Vector | Series | Set | Grid):
        return given
    raise SettingsError(
        f"{name} must be sf.Vector(), sf.Series(), sf.Set(...), sf.Grid(), or a mapping of names to these, "
        f"got {given!r}."
    )


def _wrong_names(names: Names, count: int) -> str:
    if names is None or len(names) == count:
        return ""
    return f"{len(names)} names ({', '.join(names)}) for {count}"
