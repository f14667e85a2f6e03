"""The identities of composition and inversion, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sbi_flows import flows
from sbi_flows.errors import SettingsError
from sbi_flows.flows.layers import Layer, affine_autoregressive, affine_coupling, spline_coupling
from sbi_flows.flows.planar import Planar

pytestmark = pytest.mark.seeds_torch

D, CONTEXT, ROWS = 3, 2, 40


def three() -> tuple[Layer, Layer, Layer]:
    torch.manual_seed(0)
    layers = (
        affine_autoregressive(D, CONTEXT, 8),
        affine_coupling(D, CONTEXT, 8, flip=False),
        spline_coupling(D, CONTEXT, 8, flip=True),
    )
    for layer in layers:
        layer.double()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return layers


def rows() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(D, ROWS).double(), torch.randn(CONTEXT, ROWS).double()


def same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(one[1].expand(ROWS), other[1].expand(ROWS), rtol=0, atol=1e-10)


def test_a_composition_runs_from_left_to_right_and_its_log_dets_add_where_each_step_starts() -> None:
    a, b, _ = three()
    value, context = rows()
    middle, first = a.to_noise(value, context)
    noise, second = b.to_noise(middle, context)
    same(flows.compose(a, b).to_noise(value, context), (noise, first + second))


def test_composition_is_associative() -> None:
    a, b, c = three()
    at = rows()
    left, right = flows.compose(flows.compose(a, b), c), flows.compose(a, flows.compose(b, c))
    same(left.to_noise(*at), right.to_noise(*at))


def test_the_inverse_of_a_composition_is_that_of_the_inverses_backwards() -> None:
    a, b, c = three()
    at = rows()
    turned = flows.compose(flows.Inverse(c), flows.Inverse(b), flows.Inverse(a))
    same(flows.Inverse(flows.compose(a, b, c)).to_noise(*at), turned.to_noise(*at))
    same(flows.compose(a, b, c).to_value(*at), turned.to_noise(*at))


def test_a_layer_and_its_inverse_compose_to_the_identity_and_two_inversions_are_none() -> None:
    for layer in three():
        value, context = rows()
        there_and_back = flows.compose(layer, flows.Inverse(layer)).to_noise(value, context)
        same(there_and_back, (value, torch.zeros(ROWS).double()))
        same(flows.Inverse(flows.Inverse(layer)).to_noise(value, context), layer.to_noise(value, context))


def test_cheap_is_what_is_cheap_in_all_layers_and_turns_with_them() -> None:
    a, b, _ = three()
    assert flows.Inverse(a).cheap == {"sample"}
    assert flows.compose(a, b).cheap == {"density"}
    assert flows.compose(flows.Inverse(a), b, Planar(D, CONTEXT)).cheap == {"sample"}
    assert flows.compose(a, flows.Inverse(a)).cheap == frozenset()


def test_compose_refuses_nothing_and_what_is_not_a_layer() -> None:
    with pytest.raises(SettingsError, match="nothing"):
        flows.compose()
    with pytest.raises(SettingsError, match="Linear"):
        flows.compose(torch.nn.Linear(2, 2))  # type: ignore[arg-type]
