"""Networks of sets: what reaches them of the members, exactly, and what of absent ones does not. The rest is
in tests/contracts/test_networks.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sbi_flows.nets.masks import observed
from sbi_flows.nets.set import Numbers, Pooling, SetOf, SetSummary
from sbi_flows.nets.vector import MaskedVector
from sbi_flows.rng import stream, torch_scope

NAN = float("nan")


def built(build: Callable[[], nn.Module]) -> nn.Module:
    with torch_scope(stream(1, "network")):
        return build().double().eval()


class Caught(nn.Module):
    """In place of a head: keeps what it is given."""

    def forward(self, z: Tensor) -> Tensor:
        return z


def moments_of(y: Tensor) -> Tensor:
    """What the network gives its head, without what was pooled."""
    network = built(lambda: SetSummary(y.shape[1], y.shape[2], 2, 16))
    network.head = Caught()
    out: Tensor = network(y)[:, :-32]
    return out


def test_means_sds_and_correlations_are_those_of_numpy() -> None:
    mixing, shift = np.array([[1, 0.5, 0], [0, 1, -2], [0, 0, 0.1]]), np.array([0.0, 3, 5])
    y = shift + np.random.default_rng(1).standard_normal((3, 50, 3)) @ mixing
    found = moments_of(torch.from_numpy(y)).numpy(force=True)
    for row, of_row in zip(y, found, strict=True):
        np.testing.assert_allclose(of_row[:3], row.mean(axis=0), rtol=1e-10)
        np.testing.assert_allclose(of_row[3:6], np.log(row.std(axis=0, ddof=1)), rtol=1e-6, atol=1e-6)
        wanted = np.arctanh(np.corrcoef(row.T)[np.triu_indices(3, 1)])
        np.testing.assert_allclose(of_row[6:9], wanted, rtol=1e-6, atol=1e-6)


def test_moments_are_over_what_is_there_in_each_channel() -> None:
    y = torch.tensor([[[1.0, 2.0], [3.0, NAN], [NAN, NAN], [NAN, 6.0]]], dtype=torch.float64)
    found = moments_of(y)[0]
    torch.testing.assert_close(found[:2], torch.tensor([2.0, 4.0]).double())
    torch.testing.assert_close(found[2:4], torch.tensor([2.0, 8.0]).double().log() / 2)


def test_one_member_has_no_sd() -> None:
    found = moments_of(torch.tensor([[[1.5]], [[-0.5]]], dtype=torch.float64))
    assert found[:, 1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("n", "wanted"), [(1, [-1, 1, 0, 1]), (100, [1, 0.1, 0, 0]), (0, [-1, 1, 1, 0])])
def test_numbers_of_members(n: int, wanted: list[float]) -> None:
    found = Numbers(100)(torch.tensor([[float(n)]], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([wanted], dtype=torch.float64))


def test_pooling_is_a_mean_and_a_maximum_over_members_that_are_there() -> None:
    pool = built(lambda: Pooling(2, 16))
    x = torch.from_numpy(stream(1, "x").standard_normal((1, 5, 2)))
    present = torch.tensor([[True, False, True, True, False]])
    alone = [pool(x[:, [i]], torch.ones(1, 1, dtype=torch.bool))[0, :16] for i in (0, 2, 3)]
    wanted = torch.cat([torch.stack(alone).mean(dim=0), torch.stack(alone).amax(dim=0)])
    torch.testing.assert_close(pool(x, present)[0], wanted)


def test_the_number_of_members_is_seen() -> None:
    """Each member twice: the same moments of the values but for n."""
    network = built(lambda: SetSummary(20, 1, 4, 16))
    y = torch.from_numpy(stream(1, "y").standard_normal((2, 10, 1)))
    assert not torch.allclose(network(torch.cat([y, y], dim=1)), network(y), atol=1e-3)


def test_a_member_partly_seen_counts() -> None:
    network = built(lambda: SetSummary(3, 2, 4, 16))
    y = torch.tensor([[[1.0, 2.0], [0.5, NAN], [NAN, NAN]]], dtype=torch.float64)
    less = y.clone()
    less[0, 1, 0] = NAN
    assert not torch.allclose(network(y), network(less), atol=1e-3)


def test_members_of_more_channels_than_are_paired() -> None:
    y = torch.from_numpy(stream(1, "y").standard_normal((2, 6, 9)))
    assert moments_of(y).shape == (2, 2 * 9 + 4 * 10)


def test_the_network_of_members_sees_those_that_are_there_alone() -> None:
    seen: list[Tensor] = []

    class Item(nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            seen.append(y)
            value, _ = observed(y)
            return value.flatten(1)

    network = built(lambda: SetOf(3, 2, Item(), 2, 4, 16))
    y = torch.full((2, 6, 1), NAN, dtype=torch.float64)
    y[0, :2], y[1, 2:4], y[1, 5] = 1.0, 2.0, 3.0
    network(y)
    assert [item.nan_to_num(-1).flatten().tolist() for item in seen[0]] == [[1, 1], [2, 2], [-1, 3]]


def test_the_mean_of_members_features_reaches_the_head() -> None:
    network = built(lambda: SetOf(4, 3, _Flat(MaskedVector(3, 5, 16)), 5, 4, 16))
    network.head = Caught()
    y = torch.from_numpy(stream(1, "y").standard_normal((2, 12, 1)))
    each = network.item(y.reshape(8, 3, 1)).reshape(2, 4, 5)
    found = network(y)
    torch.testing.assert_close(found[:, :5], each.mean(dim=1))
    torch.testing.assert_close(found[:, 5:10], each.std(dim=1, correction=0), rtol=1e-3, atol=1e-3)


class _Flat(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, y: Tensor) -> Tensor:
        out: Tensor = self.network(y.flatten(1))
        return out


def test_attention_is_not_the_mean_of_what_members_are_alone() -> None:
    """A set of a member twice over is that member, and a mixture of two members is no mean of theirs."""
    network = built(lambda: SetSummary(4, 2, 4, 16, pooling="attention"))
    x = torch.from_numpy(stream(1, "x").standard_normal((1, 2, 6)))

    def pooled(*members: int) -> Tensor:
        out: Tensor = network.pool(x[:, list(members)], torch.ones(1, len(members), dtype=torch.bool))
        return out

    torch.testing.assert_close(pooled(0, 0), pooled(0))
    assert not torch.allclose(pooled(0, 1), (pooled(0) + pooled(1)) / 2, atol=1e-3)
