"""What a network takes of the data: scaled y, and declared summaries with their gaps filled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sbi_flows.errors import SimulatorContractError, SummariesError
from sbi_flows.nets.choice import NETWORKS, summary_network
from sbi_flows.nets.inputs import Declared, Inputs
from sbi_flows.nets.layout import Layout
from sbi_flows.nets.scaling import Scaler
from sbi_flows.problem.summaries import Summaries
from tests.nets.test_choice import part_of

Y = np.random.default_rng(0).normal(3, 1, (500, 4))


def moments(y: np.ndarray) -> np.ndarray:
    return np.stack([y.mean(axis=1), y.std(axis=1), np.zeros(len(y))], axis=1)


def declared(function: object = moments) -> Declared:
    summaries = Summaries(function, "model")  # type: ignore[arg-type]
    found = Declared.from_data(summaries, Y, summaries(Y))
    assert found is not None
    return found


def inputs(function: object = moments) -> Inputs:
    return Inputs(Scaler.from_data(Y, shared=False), declared(function))


def test_summaries_are_scaled_as_columns_and_what_does_not_vary_is_dropped() -> None:
    found = inputs()
    assert found.shapes == ((4,), (2,))
    y, t = found(Y).parts
    np.testing.assert_allclose(t.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(t.std(axis=0), 1, atol=1e-12)
    assert np.array_equal(y, found.scaler(Y))
    assert [part.dtype for part in found.in_float32(Y)] == [np.float32, np.float32]
    for one, other in zip(found.in_float32(Y), found.in_float32(Y, moments(Y)), strict=True):
        assert np.array_equal(one, other)


def test_without_declared_summaries_there_is_y_alone() -> None:
    found = Inputs(Scaler.from_data(Y, shared=False))
    assert found.shapes == ((4,),)
    assert len(found(Y).parts) == len(found.in_float32(Y)) == 1
    assert found.forgiving() is found


def test_the_median_stands_in_and_only_a_gap_that_no_simulation_had_is_missing() -> None:
    def gappy(y: np.ndarray) -> np.ndarray:
        t = moments(y)
        t[y[:, 0] > 4, 0] = np.nan
        t[y[:, 0] > 100, 1] = -np.inf
        return t

    found = inputs(gappy)
    rows = Y[:3].copy()
    rows[:, 0] = [1.0, 5.0, 200.0]
    seen = found(rows)
    assert seen.missing.tolist() == [0, 0, 1]
    of_median = found.declared(np.array([[*found.declared.fill]]))[0]  # type: ignore[misc]
    assert seen.parts[1][1, 0] == of_median[0]
    assert np.array_equal(seen.parts[1][2], of_median)


def test_counts_stay_counts_where_the_median_fills_a_gap() -> None:
    def counts(y: np.ndarray) -> np.ndarray:
        t = np.round(np.abs(y[:, :1]) * 3)
        t[:7] = np.nan if len(t) > 7 else t[:7]
        return t

    t = Summaries(counts, "model")(Y)
    t[:, 0] = np.where(np.arange(len(t)) % 2, t[:, 0], t[:, 0] + 1)
    fixed = {y.tobytes(): row for y, row in zip(Y, t, strict=True)}
    found = Declared.from_data(Summaries(lambda y: np.array([fixed[row.tobytes()] for row in y]), "m"), Y, t)
    assert found is not None
    assert "log1p (counts)" in found.scaler.describe()


def test_a_forgiving_copy_gives_nan_for_the_events_that_fail() -> None:
    def particular(y: np.ndarray) -> np.ndarray:
        if (y > 50).any():
            raise ValueError("too large")
        return moments(y)

    found = inputs(particular)
    rows = Y[:3].copy()
    rows[1] = 60
    with pytest.raises(
        SimulatorContractError, match=r"ValueError: too large for the event \[60, 60, 60, 60\]"
    ):
        found(rows)
    seen = found.forgiving()(rows)
    assert seen.missing.tolist() == [0, 3, 0]
    assert np.array_equal(seen.parts[1][[0, 2]], found(rows[[0, 2]]).parts[1])


def test_the_numbers_come_back_with_the_function_and_not_with_another() -> None:
    kept = declared().arrays()
    again = Declared.from_arrays(kept, Summaries(moments, "again"))
    assert np.array_equal(again(moments(Y)), declared()(moments(Y)))
    wrong = {
        "summary 1 of a stored simulation": lambda y: moments(y) * [1.01, 1, 1],
        "are 2 numbers for an event; .* with 3": lambda y: moments(y)[:, :2],
        "do not fit this posterior. .* raised KeyError": lambda y: {}["y"],
        "summary 2 of": lambda y: moments(y) * [1, np.nan, 1],
    }
    for words, function in wrong.items():
        with pytest.raises(SummariesError, match=words):
            Declared.from_arrays(kept, Summaries(function, "load"))


def test_rounding_is_no_other_function() -> None:
    Declared.from_arrays(declared().arrays(), Summaries(lambda y: moments(y.astype(np.float32)), "load"))


def test_another_number_of_summaries_than_of_the_simulations_is_refused() -> None:
    def uneven(y: np.ndarray) -> np.ndarray:
        return moments(y)[:, : 2 if len(y) == 1 and y[0, 0] > 50 else 3]

    found, rows = inputs(uneven), Y[:1].copy()
    rows[0, 0] = 60
    with pytest.raises(SimulatorContractError, match="are 2 numbers for these events, and were 3"):
        found(rows)
    uneven_blocks = Summaries(lambda y: np.zeros((len(y), 1 + (len(y) < 8192))), "model")
    with pytest.raises(SimulatorContractError, match=r"returned \[1, 2\] numbers"):
        uneven_blocks(np.zeros((8193, 1)))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.seeds_torch
def test_every_network_takes_summaries_besides(name: str) -> None:
    part, shape = part_of(name, 3) if name != "vector" else part_of(name, 1)
    network = summary_network(Layout((part,)), (2,), 6, 16)
    y, t = torch.randn(5, *shape), torch.randn(5, 2)
    for p in network.parameters():
        with torch.no_grad():
            p.add_(0.1 * torch.randn_like(p))
    assert network(y, t).shape == (5, 6)
    assert not torch.equal(network(y, t), network(y, t + 1))
    network(y, t).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
