"""The parameters of a component depend on the context and on every component before it, and on nothing else.

With the masks of nflows itself (units of degree 1, ..., d - 1) the first of these tests fails for every
autoregressive layer of d >= 2: its component 1 has constant parameters.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sbi_flows.flows.bridge import units_of
from sbi_flows.flows.layers import Autoregressive, Coupling
from sbi_flows.flows.masked import ByDegrees, MaskedNet
from sbi_flows.flows.recipes import RECIPES

from .test_recipes import CASES, CONTEXT, made

pytestmark = pytest.mark.seeds_torch


def dependence(net: torch.nn.Module, value: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """The largest |d parameter of component i / d input|: (components, values) and (components, contexts)."""
    of_value, of_context = torch.autograd.functional.jacobian(
        lambda v, c: net(v[:, None], c[:, None])[..., 0], (value, context)
    )
    return of_value.abs().amax(dim=1), of_context.abs().amax(dim=1)


@pytest.mark.parametrize(("kind", "d"), CASES)
def test_every_parameter_sees_the_context_and_the_components_before_and_no_other(kind: str, d: int) -> None:
    flow = made(kind, d, spread=0.3)
    value, context = torch.randn(d).double(), torch.randn(CONTEXT).double()
    for layer in flow.layers:
        if isinstance(layer, Autoregressive):
            of_value, of_context = dependence(layer.net, value, context)
            before = torch.ones(d, d).tril(-1).bool()
            assert torch.equal(of_value != 0, before)
            assert (of_context != 0).all()
        elif isinstance(layer, Coupling):
            of_value, of_context = dependence(layer.net, value[layer._a], context)
            assert (of_value != 0).all()
            assert (of_context != 0).all()


@pytest.mark.parametrize("kind", RECIPES)
def test_moving_the_context_moves_every_component_of_every_layer(kind: str) -> None:
    """Of a coupling, every component that it moves at all."""
    flow = made(kind, 3, spread=0.3)
    value, context = torch.randn(3, 1).double(), torch.randn(CONTEXT, 1).double()
    for layer in flow.layers:
        if isinstance(layer, Autoregressive | Coupling):
            moved = (layer.to_noise(value, context)[0] != layer.to_noise(value, context + 1)[0])[:, 0]
            assert moved.sum() == (3 if isinstance(layer, Autoregressive) else len(value[layer._b]))


@pytest.mark.parametrize(("d", "width"), [(1, 1), (1, 5), (3, 64), (5, 16), (10, 64), (7, 3)])
def test_units_lie_in_groups_by_degree_as_equal_as_can_be(d: int, width: int) -> None:
    groups = units_of(d, width)
    sizes = [group.stop - group.start for group in groups]
    assert len(groups) == d
    assert [i for group in groups for i in range(width)[group]] == list(range(width))
    assert max(sizes) - min(sizes) <= 1
    assert sizes[0] > 0


@pytest.mark.parametrize("d", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("width", [3, 16])
def test_running_by_degrees_gives_what_running_whole_gives(d: int, width: int) -> None:
    torch.manual_seed(d)
    net = MaskedNet(d, CONTEXT, width, (0.0, 1.0, 2.0)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    value, context = torch.randn(d, 4, 6).double(), torch.randn(CONTEXT, 4, 1).double()
    for wanted in (torch.no_grad, torch.enable_grad):
        with wanted():
            by_degrees = ByDegrees(net, context, value.shape[1:])
            parts = [by_degrees.parameters(i, value[:i]) for i in range(d)]
            assert parts[0].shape == (1, 3, 4, 1)  # of the context alone
            found = torch.cat([part.expand(1, 3, *value.shape[1:]) for part in parts])
            torch.testing.assert_close(found, net(value, context), rtol=1e-12, atol=1e-12)
