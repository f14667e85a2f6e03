"""One contract for every summary network: scaled y, NaN where nothing was observed -> (rows,
summary_features).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sbi_flows.nets.grid import GridSummary
from sbi_flows.nets.joined import JoinedColumns
from sbi_flows.nets.series import MaskedSeries, SeriesSummary
from sbi_flows.nets.set import SetOf, SetSummary
from sbi_flows.nets.several import Part, SeveralSummary
from sbi_flows.nets.vector import MaskedVector, ScreenedSummary, VectorSummary
from sbi_flows.rng import stream, torch_scope

FEATURES, WIDTH, ROWS = 6, 16, 7


@dataclass(frozen=True)
class Case:
    """build: the untrained network, for events of `shape`.

    members: how many equal pieces along the first axis are exchangeable; 1 where none are.
    grows: by how many steps along the first axis events may be longer where these are missing; 0: not at all.
    gaps: whether it takes NaN.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    members: int = 1
    grows: int = 0
    gaps: bool = True


def _several() -> nn.Module:
    counts = Part(slice(0, 10), (5, 2), SetSummary(5, 2, FEATURES, WIDTH), FEATURES)
    effort = Part([10, 12, 11], (3,), MaskedVector(3, FEATURES, WIDTH), FEATURES)
    return SeveralSummary([counts, effort], FEATURES, WIDTH)


NETWORKS = {
    "vector": Case(lambda: VectorSummary(5, FEATURES, WIDTH), (5,), gaps=False),
    "screened vector": Case(lambda: ScreenedSummary(5, FEATURES, WIDTH), (5,), gaps=False),
    "series of fixed length": Case(lambda: SeriesSummary(12, 2, FEATURES, WIDTH), (12, 2), gaps=False),
    "masked vector": Case(lambda: MaskedVector(5, FEATURES, WIDTH), (5,)),
    "joined columns": Case(lambda: _OfPairs(JoinedColumns(MaskedVector(5, FEATURES, WIDTH))), (5,)),
    "set": Case(lambda: SetSummary(9, 3, FEATURES, WIDTH), (9, 3), members=9, grows=4),
    "set of numbers": Case(lambda: SetSummary(9, 1, FEATURES, WIDTH), (9, 1), members=9, grows=4),
    "set, attention": Case(
        lambda: SetSummary(9, 2, FEATURES, WIDTH, pooling="attention"), (9, 2), members=9, grows=4
    ),
    "large set, attention": Case(
        lambda: SetSummary(70, 2, FEATURES, WIDTH, pooling="attention"), (70, 2), members=70, grows=4
    ),
    "set of sets, attention": Case(
        lambda: SetOf(
            4, 5, SetSummary(5, 2, FEATURES, WIDTH), FEATURES, FEATURES, WIDTH, pooling="attention"
        ),
        (20, 2),
        members=4,
        grows=10,
    ),
    "set of wide members": Case(lambda: SetSummary(4, 12, FEATURES, WIDTH), (4, 12), members=4, grows=2),
    "set of sets": Case(
        lambda: SetOf(4, 5, SetSummary(5, 2, FEATURES, WIDTH), FEATURES, FEATURES, WIDTH),
        (20, 2),
        members=4,
        grows=10,
    ),
    "several": Case(_several, (13,)),
    "series with gaps": Case(lambda: MaskedSeries(2, FEATURES, WIDTH), (12, 2), grows=5),
    "one channel with gaps": Case(lambda: MaskedSeries(1, FEATURES, WIDTH), (3, 1), grows=9),
    "line": Case(lambda: GridSummary((9,), 2, FEATURES, WIDTH), (9, 2)),
    "map": Case(lambda: GridSummary((5, 4), 1, FEATURES, WIDTH), (20, 1)),
    "small map": Case(lambda: GridSummary((2, 3), 1, FEATURES, WIDTH), (6, 1)),
    "large map": Case(lambda: GridSummary((24, 25), 1, FEATURES, WIDTH), (600, 1)),
    "volume": Case(lambda: GridSummary((3, 4, 5), 1, FEATURES, WIDTH), (60, 1)),
}


class _OfPairs(nn.Module):
    """A network of (y, t) as one of y: its first three columns, and the others."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, y: Tensor) -> Tensor:
        out: Tensor = self.network(y[:, :3], y[:, 3:])
        return out


each = pytest.mark.parametrize("name", NETWORKS)
with_gaps = pytest.mark.parametrize("name", [name for name, case in NETWORKS.items() if case.gaps])
that_grow = pytest.mark.parametrize("name", [name for name, case in NETWORKS.items() if case.grows])
of_sets = pytest.mark.parametrize("name", [name for name, case in NETWORKS.items() if case.members > 1])


def network_of(case: Case) -> nn.Module:
    """With weights moved away from where they start, some of which are zeros."""
    with torch_scope(stream(1, "network")):
        network = case.build()
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
    return network.double().eval()


def data_of(case: Case, *, seed: int = 1, missing: float = 0.3) -> Tensor:
    """Scaled events in float64; where the network takes gaps, a share is missing, members as well as
    numbers.
    """
    rng = stream(seed, "data")
    y = rng.standard_normal((ROWS, *case.shape))
    if case.gaps:
        y[rng.random(y.shape) < missing] = np.nan
        if case.members > 1:
            blocks = y.reshape(ROWS, case.members, -1)
            blocks[rng.random(blocks.shape[:2]) < missing] = np.nan
    return torch.from_numpy(y)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_have_the_rows_and_the_type_of_the_data(name: str, dtype: torch.dtype) -> None:
    case = NETWORKS[name]
    features = network_of(case).to(dtype)(data_of(case).to(dtype))
    assert features.shape == (ROWS, FEATURES)
    assert features.dtype == dtype
    assert features.isfinite().all()


@each
def test_float32_is_float64_rounded(name: str) -> None:
    case = NETWORKS[name]
    network, y = network_of(case), data_of(case)
    wanted = network(y)
    torch.testing.assert_close(network.float()(y.float()).double(), wanted, rtol=1e-3, atol=1e-3)


@each
def test_a_row_is_the_same_alone_and_among_others(name: str) -> None:
    case = NETWORKS[name]
    network, y = network_of(case), data_of(case)
    for mode in (network.eval(), network.train()):
        alone = torch.cat([mode(row[None]) for row in y])
        torch.testing.assert_close(mode(y), alone, rtol=1e-6, atol=1e-6)


@each
def test_every_weight_has_a_gradient(name: str) -> None:
    case = NETWORKS[name]
    network = network_of(case)
    reached: set[str] = set()
    for seed in range(4):
        network.zero_grad()
        features = network(data_of(case, seed=seed, missing=0.1 * seed))
        (features * torch.linspace(0.5, 1.5, FEATURES)).square().sum().backward()
        for weight_name, weight in network.named_parameters():
            assert weight.grad is None or weight.grad.isfinite().all(), weight_name
            if weight.grad is not None and weight.grad.abs().max() > 0:
                reached.add(weight_name)
    assert reached == {weight_name for weight_name, _ in network.named_parameters()}


@each
def test_another_network_with_the_same_weights_is_the_same(name: str) -> None:
    case = NETWORKS[name]
    network, y = network_of(case), data_of(case)
    with torch_scope(stream(2, "network")):
        other = case.build().double().eval()
    assert not torch.equal(other(y), network(y))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(y), network(y))


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_numbers_leave_features_finite(name: str, dtype: torch.dtype) -> None:
    case = NETWORKS[name]
    assert network_of(case).to(dtype)(1e6 * data_of(case).to(dtype)).isfinite().all()


@each
def test_equal_numbers_leave_features_and_gradients_finite(name: str) -> None:
    case = NETWORKS[name]
    network = network_of(case).float()
    features = network(torch.full((2, *case.shape), 0.25))
    features.sum().backward()
    assert features.isfinite().all()
    assert all(w.grad is None or w.grad.isfinite().all() for w in network.parameters())


@with_gaps
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_observed_at_all_leaves_features_and_gradients_finite(name: str, dtype: torch.dtype) -> None:
    case = NETWORKS[name]
    network = network_of(case).to(dtype)
    y = torch.full((3, *case.shape), torch.nan, dtype=dtype)
    features = network(y)
    features.sum().backward()
    assert features.isfinite().all()
    assert all(w.grad is None or w.grad.isfinite().all() for w in network.parameters())


@with_gaps
def test_a_single_number_leaves_features_finite(name: str) -> None:
    case = NETWORKS[name]
    y = torch.full((1, *case.shape), torch.nan, dtype=torch.float64)
    y.flatten()[0] = 1.0
    assert network_of(case)(y).isfinite().all()


@with_gaps
def test_a_gap_is_not_a_zero(name: str) -> None:
    case = NETWORKS[name]
    network, y = network_of(case), data_of(case)
    assert not torch.allclose(network(y), network(y.nan_to_num(0.0)))


@with_gaps
def test_the_data_are_left_as_they_were(name: str) -> None:
    case = NETWORKS[name]
    y = data_of(case)
    before = y.clone()
    network_of(case)(y)
    assert torch.equal(y.nan_to_num(-9.0), before.nan_to_num(-9.0))


@that_grow
def test_missing_steps_at_the_end_change_nothing(name: str) -> None:
    case = NETWORKS[name]
    network, y = network_of(case), data_of(case)
    end = y.new_full((ROWS, case.grows, *case.shape[1:]), torch.nan)
    torch.testing.assert_close(network(torch.cat([y, end], dim=1)), network(y), rtol=1e-6, atol=1e-6)


@of_sets
def test_the_order_of_members_changes_nothing(name: str) -> None:
    case = NETWORKS[name]
    y = data_of(case)
    order = torch.from_numpy(stream(3, "order").permutation(case.members))
    turned = y.reshape(ROWS, case.members, -1)[:, order].reshape(y.shape)
    for dtype in (torch.float32, torch.float64):
        network = network_of(case).to(dtype)
        torch.testing.assert_close(network(turned.to(dtype)), network(y.to(dtype)), rtol=1e-5, atol=1e-5)
