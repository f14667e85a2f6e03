"""What a report is told of the data: by declaration, by the network that was chosen, array by array."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

import sbi_flows as sf
from sbi_flows.posterior.data_shown import data_shown
from sbi_flows.problem.events import Declaration, Events


def posterior(events: Events, *networks: str) -> Any:
    parts = [SimpleNamespace(network=network) for network in networks]
    layout = SimpleNamespace(parts=parts) if parts else None
    return SimpleNamespace(events=events, inputs=SimpleNamespace(layout=layout))


def declared(data: Any, shapes: dict[str, tuple[int, ...]], *, missing: bool = False) -> Events:
    return Declaration.of(data, missing).events(shapes, "test")


def test_each_array_of_a_mapping_has_its_kind_and_its_part_of_the_data() -> None:
    kinds = {
        "counts": sf.Series(channels=("young", "adults")),
        "map": sf.Grid(),
        "effort": sf.Vector(),
        "plots": sf.Set(of=sf.Series()),
    }
    shapes = {"counts": (5, 2), "map": (3, 4), "effort": (2,), "plots": (2, 3)}
    events = declared(kinds, shapes)
    y, rows = np.arange(30.0), np.arange(60.0).reshape(2, 30)
    counts, grid, effort, plots = data_shown(posterior(events), y, {"exact": rows})
    assert [one.name for one in (counts, grid, effort, plots)] == list(kinds)
    assert [one.kind for one in (counts, grid, effort, plots)] == [
        "series",
        "grid",
        "vector",
        "set of series",
    ]
    assert [one.places for one in (counts, grid, effort, plots)] == [1, 2, 0, 2]
    assert counts.channels == ("young", "adults")
    np.testing.assert_array_equal(grid.observed, np.arange(10.0, 22.0).reshape(3, 4))
    np.testing.assert_array_equal(plots.predicted["exact"], rows[:, 24:].reshape(2, 2, 3))


def test_members_that_were_not_observed_are_left_out_of_predicted_sets() -> None:
    events = declared(sf.Set(), {"": (4, 2)}, missing=True)
    y = np.full((4, 2), np.nan)
    y[:3] = 1.0
    (shown,) = data_shown(posterior(events), y, {"exact": np.ones((5, 4, 2))})
    assert np.isnan(shown.predicted["exact"][:, 3]).all()
    assert np.isfinite(shown.predicted["exact"][:, :3]).all()


def test_without_a_declaration_size_decides_unless_the_network_took_it_for_a_map() -> None:
    y = np.zeros((8, 8))
    (by_size,) = data_shown(posterior(Events.plain((8, 8))), y, {})
    (a_map,) = data_shown(posterior(Events.plain((8, 8)), "grid"), y, {})
    assert (by_size.kind, a_map.kind, a_map.places) == ("by size", "grid", 2)
    assert by_size.shown_as == "series"
