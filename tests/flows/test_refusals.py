"""What flows and densities cannot take is refused before any training, with the offending value."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

import sbi_flows as sf
from sbi_flows import flows
from sbi_flows.errors import ObservationError, SettingsError, ShapeError, TooFewSimulationsError
from sbi_flows.flows.layers import Permutation
from sbi_flows.rng import stream

ROWS = stream(0, "rows").standard_normal((60, 2))
QUICK = sf.TrainSettings(epochs=1)
MASKED = np.ma.masked_array(ROWS, mask=ROWS > 2)  # type: ignore[no-untyped-call]


def with_column(value: float) -> np.ndarray:
    return np.column_stack([ROWS, np.full(len(ROWS), value)])


@pytest.mark.parametrize(
    ("x", "kind", "offence"),
    [
        (3.0, ShapeError, r"\(n, "),
        (None, ShapeError, r"\(n, "),
        (["a"], ObservationError, "numbers"),
        ([[1, 2], [3]], ObservationError, "numbers"),
        ([], ShapeError, "at least one"),
        (np.zeros((0, 3)), ShapeError, "at least one"),
        (np.zeros((4, 0)), ShapeError, r"\(n, "),
        (np.zeros((60, 2, 2)), ShapeError, r"\(n, "),
        (ROWS[:9], TooFewSimulationsError, "9 rows"),
        (ROWS + 1j, ObservationError, "complex"),
        (MASKED, ObservationError, "finite"),
        (with_column(0.1), ObservationError, "column 2 .* constant"),
        (with_column(0.5), ObservationError, "column 2 .* constant"),
        (ROWS * 1e160, ObservationError, "column 0"),
    ],
)
def test_rows_that_have_no_density_are_refused(x: object, kind: type[Exception], offence: str) -> None:
    with pytest.raises(kind, match=offence):
        flows.fit_density(x)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"kind": ["nsf"]},
        {"kind": "xyz"},
        {"layers": "a"},
        {"layers": 2.5},
        {"width": None},
        {"width": True},
        {"settings": {"epochs": 3}},
    ],
)
def test_options_of_the_wrong_kind_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=re.escape(repr(next(iter(options.values()))))):
        flows.fit_density(ROWS, **options)  # type: ignore[arg-type]


def test_numpy_integers_and_large_offsets_are_taken() -> None:
    near = flows.fit_density(ROWS, "maf", width=np.int64(4), layers=np.int64(2), settings=QUICK)  # type: ignore[arg-type]
    far = flows.fit_density(ROWS + 1e8, "maf", width=4, layers=2, settings=QUICK)
    assert np.allclose(near.log_prob(ROWS), far.log_prob(ROWS + 1e8), atol=1e-4)
    for bad in (["a", "b"], [], np.zeros((0, 2)), ROWS + 1j):
        with pytest.raises((ObservationError, ShapeError), match="x must"):
            near.log_prob(bad)


def test_only_layers_are_composed_and_only_integers_are_sizes() -> None:
    for make in (
        flows.Inverse,
        lambda layer: flows.ConditionalFlow(2, 1, [layer]),
        lambda layer: flows.Composed([layer]),
    ):
        with pytest.raises(SettingsError, match="Identity"):
            make(nn.Identity())
    for build in (flows.build_flow, flows.build_sampling_flow):
        for (d, context), offence in {
            (2.0, 1): "d .*2.0",
            ("2", 1): "d .*'2'",
            (2, -1): "context .*-1",
        }.items():
            with pytest.raises(SettingsError, match=offence):
                build("coupling", d, context)
    for order in ([0, 1, 1], [1, 2], [[0, 1]]):
        with pytest.raises(SettingsError, match="order"):
            Permutation(torch.tensor(order))


@pytest.mark.parametrize("old", ["hidden", "steps"])
def test_old_names_of_sizes_are_refused_with_the_new_ones(old: str) -> None:
    for make in (
        lambda: flows.fit_density(ROWS, **{old: 4}),
        lambda: flows.build_flow("maf", 2, 1, **{old: 4}),
        lambda: flows.build_sampling_flow("iaf", 2, 1, **{old: 4}),
    ):
        with pytest.raises(SettingsError, match={"hidden": "width=4", "steps": "layers=4"}[old]):
            make()
