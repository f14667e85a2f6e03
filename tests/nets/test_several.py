"""The network of several tables: each gets its own numbers in its own shape, and gaps stay in their table."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from sbi_flows.nets.masks import observed
from sbi_flows.nets.several import Part, SeveralSummary
from sbi_flows.nets.vector import MaskedVector
from sbi_flows.rng import stream, torch_scope


class Kept(nn.Module):
    """Keeps what it is given, and gives its first two numbers and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []

    def forward(self, y: Tensor) -> Tensor:
        self.given.append(y)
        first = observed(y)[0].flatten(1)[:, :2]
        return torch.cat([first, torch.ones_like(first[:, :1])], dim=-1)


@pytest.mark.parametrize("columns", [slice(1, 7), [1, 2, 3, 4, 5, 6]])
def test_each_network_gets_its_table(columns: slice | Sequence[int]) -> None:
    table, vector = Kept(), Kept()
    parts = [Part(columns, (3, 2), table, 3), Part([7, 0], (2,), vector, 3)]
    with torch_scope(stream(1, "network")):
        network = SeveralSummary(parts, 4, 16)
    assert network(torch.arange(8.0)[None]).shape == (1, 4)
    assert table.given[0].tolist() == [[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]
    assert vector.given[0].tolist() == [[7.0, 0.0]]


def test_a_table_of_which_nothing_was_seen_gives_zeros_and_is_flagged() -> None:
    with torch_scope(stream(1, "network")):
        network = SeveralSummary([Part(slice(0, 2), (2,), Kept(), 3), Part([2], (1,), Kept(), 2)], 4, 16)
    network.head = nn.Identity()
    nan = torch.nan
    found = network(torch.tensor([[1.0, 2.0, nan], [nan, nan, 3.0], [nan, 2.0, 3.0]]))
    assert found.tolist() == [
        [1.0, 2.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        [0.0, 0.0, 0.0, 3.0, 1.0, 1.0, 0.0],
        [0.0, 2.0, 1.0, 3.0, 1.0, 0.0, 0.0],
    ]


def test_it_goes_where_it_is_sent_and_its_state_holds_weights_alone() -> None:
    with torch_scope(stream(1, "network")):
        network = SeveralSummary([Part([1, 0], (2,), MaskedVector(2, 3, 16), 3)], 4, 16).double()
    assert network(torch.zeros(1, 2, dtype=torch.float64)).dtype == torch.float64
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}
