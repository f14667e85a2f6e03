"""Attention among members of a set. The rest is in tests/contracts/test_networks.py."""

from __future__ import annotations

import pytest
import torch

from sbi_flows.nets.attention import Attention, AttentivePooling
from sbi_flows.rng import stream, torch_scope


def test_members_see_those_that_are_there_alone() -> None:
    with torch_scope(stream(1, "network")):
        attention = Attention(8, 2).double()
    x = torch.from_numpy(stream(1, "x").standard_normal((1, 4, 8)))
    present = torch.tensor([[True, True, False, True]])
    torch.testing.assert_close(attention(x, x, present), attention(x, x[:, present[0]], None))


def test_one_that_is_looked_at_says_the_same_to_all() -> None:
    """Attention to one member is that member, whatever asks."""
    with torch_scope(stream(1, "network")):
        attention = Attention(8, 2).double()
    x = torch.from_numpy(stream(1, "x").standard_normal((1, 1, 8)))
    seen = attention.back(attention.content(attention.norms[1](x)))
    wanted = x + seen
    wanted = wanted + attention.narrow(torch.nn.functional.silu(attention.wide(attention.norms[2](wanted))))
    torch.testing.assert_close(attention(x, x, None), wanted)


@pytest.mark.parametrize(("members", "induced"), [(64, 0), (65, 2)])
def test_many_members_are_seen_through_a_few_points(members: int, induced: int) -> None:
    with torch_scope(stream(1, "network")):
        pooling = AttentivePooling(members, 3, 16)
    assert len(pooling.induced) == len(pooling.points) == induced
    assert pooling(torch.zeros(2, 5, 3), torch.ones(2, 5, dtype=torch.bool)).shape == (2, 32)


@pytest.mark.parametrize("width", [4, 6, 7])
def test_any_width(width: int) -> None:
    with torch_scope(stream(1, "network")):
        pooling = AttentivePooling(10, 3, width)
    assert pooling(torch.zeros(1, 5, 3), torch.ones(1, 5, dtype=torch.bool)).shape == (1, 2 * width)
