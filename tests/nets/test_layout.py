"""What a summary network takes: parts, axes and channels, by declaration and by shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.nets.choice import NETWORKS, choose_network, summary_network
from sbi_flows.nets.layout import Layout, Part, axes_of, scaled_like
from sbi_flows.nets.scaling import Scaler
from sbi_flows.problem.events import Declaration, Events
from sbi_flows.rng import stream, torch_scope

CASES: list[tuple[Any, tuple[int, ...], tuple[int, ...], int]] = [
    (sf.Vector(), (4, 3), (), 12),
    (sf.Series(), (9,), (9,), 1),
    (sf.Series(), (9, 2), (9,), 2),
    (sf.Set(), (5,), (5,), 1),
    (sf.Set(), (5, 3), (5,), 3),
    (sf.Set(of=sf.Series()), (4, 9), (4, 9), 1),
    (sf.Set(of=sf.Series()), (4, 9, 2), (4, 9), 2),
    (sf.Set(of=sf.Grid()), (3, 5, 6), (3, 5, 6), 1),
    (sf.Grid(), (9,), (9,), 1),
    (sf.Grid(), (9, 8), (9, 8), 1),
    (sf.Grid(), (9, 8, 2), (9, 8), 2),
    (sf.Grid(), (5, 6, 7), (5, 6, 7), 1),
    (sf.Grid(), (5, 6, 7, 2), (5, 6, 7), 2),
    (sf.Grid(axes=1), (9, 4), (9,), 4),
]


def laid_out(events: Events, y: np.ndarray, *, masked: bool = False) -> tuple[Scaler, Layout]:
    slices = events.slices
    networks = tuple(
        choose_network(table, y[:, slices[table.name]].reshape(len(y), *table.shape) if events.named else y)[
            0
        ]
        for table in events.tables
    )
    shared = tuple(NETWORKS[network].shared for network in networks)
    scaler, parts = scaled_like(y, events, networks, shared)
    return scaler, Layout(parts, masked)


@pytest.mark.parametrize(("kind", "shape", "axes", "channels"), CASES, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_each_kind_has_its_axes_and_channels_and_a_network_takes_them(
    kind: Any, shape: tuple[int, ...], axes: tuple[int, ...], channels: int, masked: bool
) -> None:
    events = Declaration.of(kind, masked).events({"": shape}, "model")
    y = np.random.default_rng(0).standard_normal((50, *shape))
    if masked:
        y[np.random.default_rng(1).random(y.shape) < 0.2] = np.nan
    scaler, layout = laid_out(events, y, masked=masked)
    assert layout.parts == (Part("", kind.kind, axes, channels),)
    assert Layout.from_json(layout.to_json()) == layout
    with torch_scope(stream(0, "test")):
        network = summary_network(layout, (), 6, 8)
    import torch

    out = network(torch.from_numpy(scaler.in_float32(y)))
    assert out.shape == (50, 6)
    assert torch.isfinite(out).all()


def test_arrays_of_a_mapping_are_parts_in_their_order_and_constant_channels_are_left_out() -> None:
    events = Declaration.of({"s": sf.Series(), "v": sf.Vector(), "g": sf.Grid()}, True).events(
        {"s": (6, 2), "v": (4,), "g": (3, 5)}, "model"
    )
    y = np.random.default_rng(0).standard_normal((50, 31))
    y[:, 1:12:2] = 7.0
    y[:, 13] = 1.0
    scaler, layout = laid_out(events, y, masked=True)
    assert layout.parts == (
        Part("s", "series", (6,), 1),
        Part("v", "vector", (), 3),
        Part("g", "grid", (3, 5), 1),
    )
    assert scaler(y).shape == (50, sum(part.size for part in layout.parts))
    assert Layout.from_json(layout.to_json()) == layout
    assert not layout.is_plain


def test_only_one_complete_vector_or_series_is_told_by_network_and_scaling_alone() -> None:
    y = np.random.default_rng(0).standard_normal((50, 9))
    plain = Layout.plain("series", Scaler.from_data(y, shared=True))
    assert plain == Layout((Part("", "series", (9,), 1),))
    assert plain.is_plain
    assert not Layout(plain.parts, masked=True).is_plain
    assert not Layout((Part("", "set", (9,), 1),)).is_plain
    assert Layout.plain("vector", Scaler.from_data(y, shared=False)).parts[0].channels == 9


def test_another_network_than_the_declared_one_takes_the_axes_of_its_own_kind() -> None:
    assert axes_of("series", sf.Vector(), (9, 2)) == (9,)
    assert axes_of("grid", sf.Series(), (9, 8)) == (9, 8)
    assert axes_of("set", None, (9, 2)) == (9,)
    assert axes_of("set", sf.Set(of=sf.Series()), (4, 9, 2)) == (4, 9)
