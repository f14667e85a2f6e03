"""What flows and densities cannot take is refused in words, before any training."""

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
    ("x", "kind", "words"),
    [
        (3.0, ShapeError, "x must be rows"),
        (None, ShapeError, "x must be rows"),
        (["a"], ObservationError, "x must be numbers"),
        ([[1, 2], [3]], ObservationError, "x must be numbers"),
        ([], ShapeError, "at least one"),
        (np.zeros((0, 3)), ShapeError, "at least one"),
        (np.zeros((4, 0)), ShapeError, "x must be rows"),
        (np.zeros((60, 2, 2)), ShapeError, "x must be rows"),
        (ROWS[:9], TooFewSimulationsError, "9 rows are too few"),
        (ROWS + 1j, ObservationError, "complex"),
        (MASKED, ObservationError, "masked"),
        (with_column(0.1), ObservationError, "column 2 of x is constant"),
        (with_column(0.5), ObservationError, "column 2 of x is constant"),
        (ROWS * 1e160, ObservationError, "column 0 of x spreads too far"),
    ],
)
def test_rows_that_have_no_density_are_refused(x: object, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        flows.fit_density(x)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"kind": ["nsf"]},
        {"kind": "xyz"},
        {"steps": "a"},
        {"steps": 2.5},
        {"hidden": None},
        {"hidden": True},
        {"settings": {"epochs": 3}},
    ],
)
def test_options_of_the_wrong_kind_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=re.escape(repr(next(iter(options.values()))))):
        flows.fit_density(ROWS, **options)  # type: ignore[arg-type]


def test_numpy_integers_and_large_offsets_are_taken() -> None:
    near = flows.fit_density(ROWS, "maf", hidden=np.int64(4), steps=np.int64(2), settings=QUICK)  # type: ignore[arg-type]
    far = flows.fit_density(ROWS + 1e8, "maf", hidden=4, steps=2, settings=QUICK)
    assert np.allclose(near.log_prob(ROWS), far.log_prob(ROWS + 1e8), atol=1e-4)
    for bad in (["a", "b"], [], np.zeros((0, 2)), ROWS + 1j):
        with pytest.raises((ObservationError, ShapeError), match="x must be"):
            near.log_prob(bad)


def test_only_layers_are_composed_and_only_integers_are_sizes() -> None:
    for make in (
        flows.Inverse,
        lambda layer: flows.ConditionalFlow(2, 1, [layer]),
        lambda layer: flows.Composed([layer]),
    ):
        with pytest.raises(SettingsError, match=r"takes layers of sbi_flows\.flows, got Identity"):
            make(nn.Identity())
    for build in (flows.build_flow, flows.build_sampling_flow):
        for sizes in ((2.0, 1), ("2", 1), (2, None), (2, -1)):
            with pytest.raises(SettingsError, match="all of them integers"):
                build("coupling", *sizes)
    for order in ([0, 1, 1], [1, 2], [[0, 1]]):
        with pytest.raises(SettingsError, match="order must have each"):
            Permutation(torch.tensor(order))
