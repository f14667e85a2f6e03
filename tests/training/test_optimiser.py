"""The optimiser: what it orthogonalises, what it leaves to AdamW, masks, decay and resuming."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from sbi_flows.flows.recipes import build_flow
from sbi_flows.nets.series import SeriesSummary
from sbi_flows.rng import torch_scope
from sbi_flows.training.optimiser import Optimiser, polar


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch_scope(np.random.default_rng(0)):
        yield


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 32, 48), (2, 16, 100)])
def test_polar_has_the_singular_vectors_of_the_matrix_and_values_near_one(shape: tuple[int, ...]) -> None:
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.logspace(-2, 0, shape[1])
    found = u.mT @ polar(u @ torch.diag(values) @ v) @ v.mT
    of_each = torch.diagonal(found, dim1=1, dim2=2)
    large = values / values.norm() > 0.003
    assert (of_each[:, large] > 0.34).all()
    assert (of_each < 1.66).all()
    np.testing.assert_allclose(found - torch.diag_embed(of_each), 0, atol=1e-4)


def test_polar_of_zeros_is_zero_and_of_tiny_matrices_as_of_large_ones() -> None:
    assert (polar(torch.zeros(2, 16, 20)) == 0).all()
    matrix = torch.randn(1, 16, 20, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(polar(1e-6 * matrix), polar(matrix), atol=1e-4, rtol=1e-3)


def _stepped(module: nn.Module, loss: torch.Tensor, optimiser: Optimiser, rate: float) -> None:
    optimiser.clear()
    loss.backward()
    optimiser.step(rate)


def test_a_matrix_moves_by_the_rate_in_all_its_directions() -> None:
    layer = nn.Linear(48, 32)
    before = layer.weight.detach().clone()
    optimiser = Optimiser(layer, "muon", 0.0, matrices=("weight",))
    _stepped(layer, layer(torch.randn(100, 48)).square().mean(), optimiser, 0.01)
    values = torch.linalg.svdvals(layer.weight.detach() - before) / (0.01 * 0.2 * 48**0.5)
    assert values.min() > 0.3
    assert values.max() < 1.66


def test_updates_of_masked_matrices_stay_within_the_mask() -> None:
    flow = build_flow("maf", 3, 8, width=32, layers=2)
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    optimiser = Optimiser(flow, "muon", 0.1, matrices=("layers.",))
    for _ in range(3):
        value, context = torch.randn(64, 3), torch.randn(64, 8)
        _stepped(flow, -flow.log_prob(value, context).mean(), optimiser, 0.01)
    masks = {f"{name}.weight": part.mask for name, part in flow.named_modules() if hasattr(part, "mask")}
    moved = {name: flow.state_dict()[name] - before[name] * (1 - 0.01 * 0.1) ** 3 for name in masks}
    large = [name for name, mask in masks.items() if min(mask.shape) >= 16]
    assert large
    for name in large:
        assert moved[name][masks[name] == 0].abs().max() < 1e-6
        assert moved[name][masks[name] == 1].abs().max() > 1e-3


def test_small_matrices_biases_and_names_not_chosen_move_as_with_adamw() -> None:
    networks = [SeriesSummary(40, 1, 8, 32) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    before = {name: value.clone() for name, value in networks[0].state_dict().items()}
    optimisers = [
        Optimiser(networks[0], "muon", 0.1, undecayed=("head.",), matrices=("convolutions.",)),
        Optimiser(networks[1], "adamw", 0.1, undecayed=("head.",)),
    ]
    y = torch.randn(64, 40, 1)
    for network, optimiser in zip(networks, optimisers, strict=True):
        _stepped(network, network(y).square().mean(), optimiser, 0.01)
    for name, value in networks[0].state_dict().items():
        same = torch.equal(value, networks[1].state_dict()[name])
        taken = name in ("convolutions.3.weight", "convolutions.5.weight")
        assert same != taken, name
        if not taken and value.ndim > 1 and not name.startswith("head."):
            assert not torch.equal(value, before[name]), name


def test_weights_decay_at_the_rate_unless_they_are_spared() -> None:
    layers = nn.ModuleDict({"a": nn.Linear(20, 20, bias=False), "b": nn.Linear(20, 20, bias=False)})
    before = {name: value.clone() for name, value in layers.state_dict().items()}
    optimiser = Optimiser(layers, "muon", 0.5, undecayed=("b.",), matrices=("a.", "b."))
    optimiser.clear()
    optimiser.step(0.1)  # without gradients, only decay moves anything
    torch.testing.assert_close(layers.state_dict()["a.weight"], 0.95 * before["a.weight"])
    torch.testing.assert_close(layers.state_dict()["b.weight"], before["b.weight"])


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_it_resumes_to_the_same_numbers(kind: str) -> None:
    networks = [SeriesSummary(40, 1, 8, 32) for _ in range(2)]
    optimisers = [Optimiser(network, kind, 0.1, matrices=("convolutions.", "head.")) for network in networks]
    batches = [torch.randn(32, 40, 1) for _ in range(6)]
    for y in batches[:3]:
        _stepped(networks[0], networks[0](y).square().mean(), optimisers[0], 0.01)
    networks[1].load_state_dict(networks[0].state_dict())
    optimisers[1].restore({name: value.clone() for name, value in optimisers[0].state().items()})
    for network, optimiser in zip(networks, optimisers, strict=True):
        for y in batches[3:]:
            _stepped(network, network(y).square().mean(), optimiser, 0.01)
    for name, value in networks[0].state_dict().items():
        assert torch.equal(value, networks[1].state_dict()[name]), name
