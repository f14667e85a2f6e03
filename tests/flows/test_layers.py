"""One contract for every layer: an invertible map with its exact log determinant, given a context that may
broadcast over the rows. A new layer needs one entry in `LAYERS`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sbi_flows.errors import SettingsError
from sbi_flows.flows.composition import Inverse, compose
from sbi_flows.flows.layers import (
    ConditionalAffine,
    Layer,
    Permutation,
    affine_autoregressive,
    affine_coupling,
    spline_autoregressive,
    spline_coupling,
)
from sbi_flows.flows.planar import Planar
from sbi_flows.flows.triangular import Triangular

pytestmark = pytest.mark.seeds_torch

D, CONTEXT = 3, 2

LAYERS: dict[str, Callable[[], Layer]] = {
    "conditional affine": lambda: ConditionalAffine(D, CONTEXT),
    "affine autoregressive": lambda: affine_autoregressive(D, CONTEXT, 8),
    "spline autoregressive": lambda: spline_autoregressive(D, CONTEXT, 8),
    "affine coupling": lambda: affine_coupling(D, CONTEXT, 8, flip=False),
    "spline coupling": lambda: spline_coupling(D, CONTEXT, 8, flip=True),
    "permutation": lambda: Permutation(torch.tensor([2, 0, 1])),
    "triangular": lambda: Triangular(D, CONTEXT),
    "planar": lambda: Planar(D, CONTEXT),
    "inverse": lambda: Inverse(spline_autoregressive(D, CONTEXT, 8)),
    "composed": lambda: compose(
        affine_autoregressive(D, CONTEXT, 8), Inverse(affine_coupling(D, CONTEXT, 8, False))
    ),
}
NO_INVERSE = {"planar"}

each = pytest.mark.parametrize("name", LAYERS)
each_with_an_inverse = pytest.mark.parametrize("name", [name for name in LAYERS if name not in NO_INVERSE])


def made(name: str) -> Layer:
    """The layer in float64, its weights far from where they start."""
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return layer.eval()


def rows(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.randn(D, *shape).double(), torch.randn(CONTEXT, *shape).double()


@each_with_an_inverse
def test_the_two_directions_are_inverse_and_their_log_dets_cancel(name: str) -> None:
    layer, (value, context) = made(name), rows(40)
    noise, there = layer.to_noise(value, context)
    found, back = layer.to_value(noise, context)
    torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close((there + back).expand(40), torch.zeros(40).double(), rtol=0, atol=1e-9)


@each
def test_the_log_det_is_that_of_the_autodiff_jacobian(name: str) -> None:
    layer, (noise, context) = made(name), rows(4)
    log_det = layer.to_value(noise, context)[1].expand(4)
    for i in range(4):
        jacobian = torch.autograd.functional.jacobian(
            lambda v, c=context[:, i : i + 1]: layer.to_value(v[:, None], c)[0][:, 0], noise[:, i]
        )
        torch.testing.assert_close(log_det[i], torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-9, atol=1e-9)


@each
def test_values_alone_are_those_with_a_log_det(name: str) -> None:
    layer, at = made(name), rows(40)
    torch.testing.assert_close(layer.value(*at), layer.to_value(*at)[0], rtol=0, atol=1e-12)


@each
def test_a_context_broadcasts_over_rows_as_if_it_were_repeated(name: str) -> None:
    layer, (noise, context) = made(name), rows(4, 6)
    context = context[:, :, :1]
    found, log_det = layer.to_value(noise, context)
    repeated, log_dets = layer.to_value(noise, context.expand(CONTEXT, 4, 6).contiguous())
    torch.testing.assert_close(found, repeated, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(log_det.expand(4, 6), log_dets.expand(4, 6), rtol=1e-10, atol=1e-10)


@each
def test_gradient_reaches_every_parameter(name: str) -> None:
    layer = made(name)
    value, log_det = layer.to_value(*rows(200))
    if not list(layer.parameters()):
        return
    (value.square().sum() + log_det.sum()).backward()
    silent = [name for name, p in layer.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


@pytest.mark.parametrize("name", sorted(NO_INVERSE))
def test_a_density_without_an_inverse_is_refused(name: str) -> None:
    layer = made(name)
    assert "density" not in layer.cheap
    with pytest.raises(SettingsError, match=name):
        layer.to_noise(*rows(4))


@pytest.mark.parametrize("name", ["spline autoregressive", "spline coupling", "inverse"])
def test_a_state_without_free_ends_gives_pinned_splines_and_is_given_back(name: str) -> None:
    layer, (value, context) = made(name), rows(40)
    state = layer.state_dict()
    kept = {key: part for key, part in state.items() if not key.endswith("free_ends")}
    assert len(kept) == len(state) - 1
    free, _ = layer.to_noise(value, context)
    old = LAYERS[name]().double()
    old.load_state_dict(kept)
    noise, log_det = old.to_noise(value, context)
    assert old.state_dict().keys() == kept.keys()
    assert not torch.allclose(noise, free)
    found, back = old.to_value(noise, context)
    torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_det + back, torch.zeros(40).double(), rtol=0, atol=1e-9)
    again = LAYERS[name]().double()
    again.load_state_dict(old.state_dict())
    assert torch.equal(again.to_noise(value, context)[0], noise)
    new = LAYERS[name]().double()
    new.load_state_dict(state)
    assert torch.equal(new.to_noise(value, context)[0], free)
