"""What a summary network takes: one part for each array of y, and whether values may be missing.

part      network, the axes along which all places are alike, and the channels at each place
vector    no axes, m channels: (rows, m)
others    (rows, P, c) with P the product of the axes
several   (rows, total): the parts, each flattened, one behind the other
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped

from sbi_flows.nets.scaling import Scaler
from sbi_flows.problem.data import Grid, Kind, Series, Set, Vector
from sbi_flows.problem.events import Events

SEVERAL = "several"
_KINDS: dict[str, Kind] = {"series": Series(), "set": Set(), "grid": Grid()}


@dataclass(frozen=True)
class Part:
    """name: of the array, "" of the only one. network: a key of `nets.choice.NETWORKS`.

    axes: the lengths of the axes along which places are alike. channels: how many numbers at each place,
    those that do not vary left out; of a vector, how many numbers.
    """

    name: str
    network: str
    axes: tuple[int, ...]
    channels: int

    @property
    def size(self) -> int:
        """How many numbers the network takes."""
        return math.prod(self.axes) * self.channels

    def to_json(self) -> dict[str, Any]:
        """The record of a file."""
        return {
            "name": self.name,
            "network": self.network,
            "axes": list(self.axes),
            "channels": self.channels,
        }


@dataclass(frozen=True)
class Layout:
    """parts: of scaled y. masked: whether values may be missing, NaN."""

    parts: tuple[Part, ...]
    masked: bool = False

    @classmethod
    def plain(cls, network: str, scaler: Scaler) -> Layout:
        """One complete vector or series of which nothing was declared."""
        *axes, channels = scaler.out_shape
        return cls((Part("", network, tuple(axes), channels),))

    @property
    def is_plain(self) -> bool:
        """Whether the network and the scaling tell all of it."""
        one = self.parts[0]
        return (
            len(self.parts) == 1 and not self.masked and not one.name and one.network in ("vector", "series")
        )

    def to_json(self) -> dict[str, Any]:
        """The record of a file."""
        return {"parts": [part.to_json() for part in self.parts], "masked": self.masked}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Layout:
        """What `to_json` gave."""
        parts = tuple(Part(**{**one, "axes": tuple(one["axes"])}) for one in record["parts"])
        return cls(parts, record["masked"])


def scaled_like(
    y: Shaped[np.ndarray, "n *event"], events: Events, networks: tuple[str, ...], shared: tuple[bool, ...]
) -> tuple[Scaler, tuple[Part, ...]]:
    """The scaling of each array of y for the networks that take them, and the parts.

    shared: whether the network of each takes places that are alike. Raises `SimulatorContractError`.
    """
    scalers, parts = [], []
    slices = events.slices
    for table, network, alike in zip(events.tables, networks, shared, strict=True):
        values = y[:, slices[table.name]].reshape(len(y), *table.shape) if events.named else y
        axes = axes_of(network, table.kind, table.shape) if alike else ()
        channels = math.prod(table.shape) // math.prod(axes)
        scaler = Scaler.from_data(values, alike, channels)
        scalers.append(scaler)
        parts.append(Part(table.name, network, axes, int(scaler.keep.sum())))
    return (Scaler.joined(scalers) if events.named else scalers[0]), tuple(parts)


def axes_of(network: str, kind: Kind | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of an array for that network: those of its own declaration where it suits."""
    if kind is not None and kind.kind == network and not isinstance(kind, Vector):
        return kind.axes(shape)
    return _KINDS[network].axes(shape) if network in _KINDS else shape[:1]
